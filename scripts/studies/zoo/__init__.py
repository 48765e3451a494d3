"""`make zoo`: every fusion of the folder, compared, then variants of this run.

study.py names the main run and writes the report; variants.py names its variants and compares them with it; page.py
and figure.py show these.
"""
