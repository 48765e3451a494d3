"""Worker processes: they end when their parent process ends, and only the parent reacts to Ctrl-C.

A stage that ran on after `dvc repro` was killed would write into the outputs of the next `dvc repro`.
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
    """Ends this process soon after its parent has ended.

    Args:
        parent: id of the parent process.
    """
    if parent not in _watched:
        _watched.add(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def exit_with_dvc() -> None:
    """Ends this process with its parent if DVC started it; a stage started by hand may outlive its parent."""
    if "DVC_STAGE" in os.environ:
        exit_with_parent(os.getppid())


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Processes that are started inside this context ignore Ctrl-C: each would print a traceback.

    Their parent receives it when the context ends, and then ends them in order.
    """
    resource_tracker.ensure_running()  # before the mask is set, because its start removes the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit the mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    # At once and without clean-up: unfinished outputs do no harm, as they do none after a kill.
    os._exit(1)
