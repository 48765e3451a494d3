"""The time limit of a command: a study can be carried out in pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_end_s: float | None = None  # on the clock of time.monotonic


class TimeIsUp(Exception):
    """The command's time is over; the text says what is done."""


@contextmanager
def limit(minutes: float | None) -> Iterator[None]:
    """Limits the time of what runs inside this context; None sets no limit."""
    global _end_s
    _end_s = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        yield
    finally:
        _end_s = None


def left_s() -> float | None:
    """Seconds until the limit, not below zero; None without a limit."""
    return None if _end_s is None else max(0.0, _end_s - time.monotonic())
