"""`make learning-curve`: a quarter, half and all of the training scenes.

study.py names the runs and writes the page; results.py reads the runs and compares them; answer.py puts this into
sentences; page.py and figure.py show it.
"""
