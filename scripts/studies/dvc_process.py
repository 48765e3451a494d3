"""Runs `dvc repro` in a workspace, tells the progress of the study, and ends with the process that started it.

    python -m scripts.studies.dvc_process PARENT STUDY_FOLDER RUN TARGET ...

In the process of DVC itself, since DVC alone would go on after its parent was killed.
"""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from dvc import cli
from filelock import FileLock

from scripts.studies import workspace
from scripts.studies.progress import Progress
from stages.lib.core import console, processes

_LOCK = Path(".dvc/tmp/study.lock")
_PATIENCE_S = 60.0  # for a process whose parent was killed; it ends within a second
# DVC's messages when it begins, skips or restores a stage.
_RUNS = re.compile(r"Running stage '([^']+)'")
_SKIPS = re.compile(r"Stage '([^']+)' (?:didn't change|is cached)")


class Messages(logging.Handler):
    """Follows DVC's messages."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if found := _RUNS.match(text):
            self.progress.begin(found[1])
        elif found := _SKIPS.match(text):
            self.progress.skip(found[1])


def main(arguments: Sequence[str]) -> None:
    parent, home, run, *targets = arguments
    processes.exit_with_parent(int(parent))
    # The parent interrupts the stage next; that it failed is then no news.
    signal.signal(signal.SIGTERM, lambda *_: logging.disable(logging.CRITICAL))
    progress = Progress.read(Path(home), run)
    logging.getLogger("dvc").addHandler(Messages(progress))
    with FileLock(_LOCK, timeout=_PATIENCE_S):
        end_orphans(Path.cwd())
        workspace.mend(Path())
        code = cli.main(["repro", *targets])
    if code == 0:
        progress.finish()
    sys.exit(code)


def end_orphans(folder: Path) -> None:
    """Kills stages of this workspace whose DVC was killed while they started: they would write into its outputs."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or belongs to another user
            if process.cwd() == str(folder) and "DVC_STAGE" in process.environ():
                process.kill()


if __name__ == "__main__":
    console.run(main)
