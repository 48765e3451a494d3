"""Restores dvc.lock when DVC cannot read it.

    python -m scripts.restore_lock

DVC writes this file in place. If DVC is killed at that moment, the file stays incomplete, and later commands of DVC
refuse it. This script replaces it by the committed file and keeps the unreadable one. The results of later runs come
back from DVC's run cache.
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
    replaced = "no committed file replaces it"
    if committed.returncode == 0:
        LOCK.write_bytes(committed.stdout)
        replaced = "the committed file replaces it"
    console.report_line(
        f"{LOCK}: DVC cannot read it (DVC was killed while it wrote it, or a merge left marks in it). It is kept as "
        f"{KEPT}; {replaced}; the results of later runs come back from DVC's run cache"
    )


def is_whole(path: Path) -> bool:
    """Whether DVC can read this lock file."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(path))
    except (DvcException, Invalid):
        return False
    return True


if __name__ == "__main__":
    console.run(main)
