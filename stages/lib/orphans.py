"""Ends processes whose parent was killed: nobody waits for their results any more.

A stage that outlives a killed `dvc repro` would write into the next one's outputs.
"""

from __future__ import annotations

import os
import threading
import time

_EVERY_S = 0.5
_watched: set[int] = set()


def end_with(parent: int) -> None:
    """From now on, ends this process soon after its parent, of this id, is gone."""
    if parent not in _watched:
        _watched.add(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def end_with_dvc() -> None:
    """Ends this process with its parent where that is DVC; a stage started by hand may go on alone."""
    if "DVC_STAGE" in os.environ:
        end_with(os.getppid())


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    # At once, without cleaning up: whatever is half done is safe to leave, since a kill is too.
    os._exit(1)
