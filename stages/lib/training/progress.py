"""Progress of seeds that train at the same time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import SyncManager
from typing import NamedTuple

from tqdm import tqdm

from stages.lib.core import processes
from stages.lib.core.console import LINE_EVERY_S, is_interactive, report_line
from stages.lib.training.state import Epoch

OnEpochs = Callable[[int, list[Epoch]], None]


class SeedReport(NamedTuple):
    """One finished epoch of one seed, as reported by the process that trains it."""

    seed: int
    epoch: int
    epochs: int
    train_loss: float
    valid_loss: float
    samples_per_s: float
    left_s: float  # remaining time at this speed
    is_done: bool  # whether the seed is finished, with patience perhaps before the last epoch
    is_resumed: bool = False  # whether this is the last epoch of an interrupted run
    # Epochs that were not reported before, as values of `Epoch`: plain numbers, since Dask sends events without
    # classes. One epoch, or all of an interrupted run.
    new: tuple[tuple[int, float, float, float], ...] = ()

    def __str__(self) -> str:
        what_next = f"{tqdm.format_interval(self.left_s)} left"
        if self.is_done:
            what_next = "done"
        elif self.is_resumed:
            what_next = "resuming from here"
        return (
            f"seed {self.seed}, epoch {self.epoch}/{self.epochs}: train {self.train_loss:.4f}, "
            f"validation {self.valid_loss:.4f}; {self.samples_per_s:,.0f} samples/s, {what_next}"
        )


class SeedProgress:
    """Progress of several seeds at once: one line per seed.

    Where the output is not a terminal, a seed's line is written when the seed is resumed, when it is done, and at
    intervals between.

    Args:
        on_epochs: called in this process with a seed and its new epochs, each epoch once and in order.
    """

    def __init__(self, label: str, seeds: list[int], on_epochs: OnEpochs) -> None:
        self._label = label
        self._on_epochs = on_epochs
        self._passed_on = dict.fromkeys(seeds, 0)  # epochs, by seed
        self._latest: dict[int, SeedReport] = {}
        self._written_s = dict.fromkeys(seeds, time.monotonic())
        self._bars: dict[int, tqdm] = {}
        if is_interactive():
            self._bars = {
                seed: tqdm(desc=f"{label}: seed {seed}", bar_format="{desc}", position=place)
                for place, seed in enumerate(seeds)
            }

    def __enter__(self) -> SeedProgress:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def show(self, report: SeedReport) -> None:
        """Shows one seed's latest epoch."""
        self._latest[report.seed] = report
        self.pass_on(report.seed, [Epoch(*values) for values in report.new])
        if report.seed in self._bars:
            bar = self._bars[report.seed]
            bar.set_description_str(f"{self._label}: {report}", refresh=True)
            return
        is_due = time.monotonic() - self._written_s[report.seed] > LINE_EVERY_S
        if is_due or report.is_done or report.is_resumed:
            self._written_s[report.seed] = time.monotonic()
            report_line(f"{self._label}: {report}")

    def pass_on(self, seed: int, history: list[Epoch]) -> None:
        """Passes on the epochs of a seed that are new; at the end its whole history, since reports may be lost."""
        before = self._passed_on[seed]
        new = [epoch for epoch in history if epoch.epoch > before]
        if new and new[0].epoch == before + 1:
            self._passed_on[seed] = new[-1].epoch
            self._on_epochs(seed, new)

    def latest(self) -> str:
        """The last epoch of each unfinished seed, as text."""
        places = [
            f"seed {seed}, "
            + (f"after epoch {self._latest[seed].epoch}" if seed in self._latest else "epoch 1")
            for seed in self._written_s
            if seed not in self._latest or not self._latest[seed].is_done
        ]
        return "; ".join(places) or "the end of the last seed"

    @contextmanager
    def queue(self) -> Iterator[Callable[[SeedReport], None]]:
        """A function for other processes of this machine that shows a report here."""
        manager = SyncManager()
        with processes.sigint_blocked():
            # Without this, its process outlives a killed stage.
            manager.start(initializer=processes.exit_with_parent, initargs=(os.getpid(),))
        with manager:
            queue = manager.Queue()
            drawer = threading.Thread(target=self._draw, args=(queue.get,), daemon=True)
            drawer.start()
            try:
                yield queue.put
            finally:
                queue.put(None)
                drawer.join()

    def _draw(self, receive: Callable[[], SeedReport | None]) -> None:
        while (report := receive()) is not None:
            self.show(report)
