"""The pipeline: one module a stage, each run as `python -m stages.NAME`."""

import signal
import sys

if sys.argv[0] == "-m":
    # A stage is being started: until its `main` runs, Ctrl-C ends it at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
