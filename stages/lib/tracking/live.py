"""Logs runs from a thread of its own, so that no tracker holds up training; an error ends the tracking alone."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from stages.lib import tracking
from stages.lib.core import console
from stages.lib.core.errors import first_line
from stages.lib.params import Track
from stages.lib.tracking import runs
from stages.lib.tracking.base import RunLog, Values, send
from stages.lib.tracking.runs import Run

_MOST_WAITING = 10_000  # reports that wait for a slow tracker
_FINISH_S = 60.0  # time for sending the rest when a stage is done
_FINISH_AFTER_ERROR_S = 3.0


class LiveTracker:
    """The tracker of params.yaml; with the backend none, it does nothing.

    Use it as a context: its end waits until the tracker has everything, or gives up with a warning.
    """

    def __init__(self, settings: Track) -> None:
        self._settings = settings
        self._waiting: queue.Queue[tuple[Run, Sequence[Values], Values] | None] = queue.Queue(_MOST_WAITING)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)
        if settings.backend == "none":
            self._stopped.set()
        else:
            self._thread.start()

    def log(self, run: Run, epochs: Sequence[Values] = (), summary: Values | None = None) -> None:
        """Logs epochs and summary of a run; returns at once and never raises."""
        self._put((run, epochs, summary or {}))

    def __enter__(self) -> LiveTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put(None)
        if self._stopped.is_set():
            return
        limit_s = _FINISH_S if kind is None else _FINISH_AFTER_ERROR_S
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._stop(f"no answer for {limit_s:g} seconds")

    def _put(self, report: tuple[Run, Sequence[Values], Values] | None) -> None:
        if not self._stopped.is_set():
            try:
                self._waiting.put_nowait(report)
            except queue.Full:
                self._stop(f"{_MOST_WAITING:,} reports wait for it")

    def _work(self) -> None:
        # Processes that a tracker starts inherit this; they end with this one, not at Ctrl-C.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        logs: dict[str, RunLog] = {}
        try:
            tracker = tracking.open_tracker(self._settings)
            while (report := self._waiting.get()) is not None and not self._stopped.is_set():
                run, epochs, summary = report
                if run.id not in logs:
                    logs[run.id] = tracker.start_run(run)
                send(logs[run.id], epochs, summary)
            for log in logs.values():
                log.finish()
        except Exception as error:  # whatever a tracker raises, training goes on
            self._stop(first_line(error))

    def _stop(self, reason: str) -> None:
        """Ends the tracking, with one warning in all."""
        with self._lock:
            if not self._stopped.is_set():
                self._stopped.set()
                console.report_line(f"warning: tracking with {self._settings.backend} stopped: {reason}")


def log_test_metrics(
    settings: Track, finished: Iterable[tuple[Mapping[str, Any], Mapping[str, float | None]]]
) -> None:
    """Adds test metrics to the runs of trained seeds.

    Args:
        finished: the content of each seed's models/NAME/seed-51.json, and its metrics on the test split.
    """
    with LiveTracker(settings) as tracker:
        for content, metrics in finished:
            tracker.log(runs.describe_finished(content), summary=runs.test_metrics(metrics))
