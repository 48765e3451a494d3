"""Ends processes with their parent, and by its hand: nobody else waits for their results.

A stage that outlives a killed `dvc repro` would write into the next one's outputs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_EVERY_S = 0.5
_watched: set[int] = set()


def exit_with_parent(parent: int) -> None:
    """From now on, ends this process soon after its parent, of this id, is gone."""
    if parent not in _watched:
        _watched.add(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def exit_with_dvc() -> None:
    """Ends this process with its parent where that is DVC; a stage started by hand may go on alone."""
    if "DVC_STAGE" in os.environ:
        exit_with_parent(os.getppid())


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Processes started in here never hear of Ctrl-C; their parent does, and ends them in order.

    They would answer with a traceback each. The parent hears of it when this ends.
    """
    resource_tracker.ensure_running()  # its start would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    # At once, without cleaning up: whatever is half done is safe to leave, since a kill is too.
    os._exit(1)
