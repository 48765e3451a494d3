"""`make tune`: every fusion with a learning rate and weight decay of its own, found by the same small search.

study.py tells the whole story; grid.py holds the points of the search and the choice; search.py works the points off
in DVC's queue (experiments.py); comparison.py compares the tuned models with the default ones; page.py and figure.py
show the results.
"""
