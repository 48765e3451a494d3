"""Restores dvc.lock where DVC cannot read it.

    python -m scripts.restore_lock

DVC writes that file in place, so a kill in that moment leaves half of it, and every later command of DVC refuses it.
The committed file takes its place; what has run since comes back from DVC's run cache. The unreadable file is kept.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import load_yaml
from voluptuous import Invalid

from stages.lib.core import console

LOCK = Path("dvc.lock")
KEPT = Path("dvc.lock.unreadable")


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    if not LOCK.is_file() or is_whole(LOCK):
        return
    LOCK.replace(KEPT)
    committed = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True)
    instead = "none is committed"
    if committed.returncode == 0:
        LOCK.write_bytes(committed.stdout)
        instead = "the committed one takes its place"
    console.report_line(
        f"{LOCK}: DVC cannot read it; a kill of DVC cuts it off, a merge leaves marks in it. It is kept as {KEPT}; "
        f"{instead}; what has run since comes back from DVC's run cache"
    )


def is_whole(path: Path) -> bool:
    """Whether DVC would read this lock file."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(path))
    except (DvcException, Invalid):
        return False
    return True


if __name__ == "__main__":
    console.run(main)
