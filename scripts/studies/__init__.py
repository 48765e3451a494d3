"""Studies: one or more runs of the pipeline with other settings than params.yaml, reported beside the committed run.

command.py reads the command line and looks up the study (notebook.py, or study.py in a folder such as zoo). A study
names its runs, runs.py carries them out in workspaces (workspace.py), and the study writes their results to
reports/STUDY/.
"""
