"""How long the rest will take, from the times at which earlier parts were finished."""

from __future__ import annotations

import statistics

from scripts.studies.progress import duration

# What took less than this share of the longest time came from DVC's cache: models take different times to train, but
# DVC restores one within seconds.
_FROM_CACHE = 1 / 3


class Pace:
    """Follows a count of finished parts."""

    def __init__(self) -> None:
        self.finished: int | None = None
        self.changed_s = 0.0
        self.gaps_s: list[float] = []

    def update(self, finished: int, now_s: float) -> bool:
        """Takes the present count; returns whether it has grown.

        A lower count is no news: it comes from a file that DVC is just writing, or from a task that starts again.
        """
        if self.finished is not None and finished <= self.finished:
            return False
        if self.finished is not None:
            self.gaps_s.append(now_s - self.changed_s)
        self.finished, self.changed_s = finished, now_s
        return True

    def left_s(self, total: int) -> float | None:
        """Seconds until all are finished, about; None before the first one.

        Short times, which are those of DVC's cache, do not count. Of several parts that were seen at once, the cache
        gave all but one, so they count as one.
        """
        if not self.gaps_s or self.finished is None:
            return None
        trained_s = [gap_s for gap_s in self.gaps_s if gap_s > _FROM_CACHE * max(self.gaps_s)]
        return statistics.median(trained_s) * (total - self.finished)

    def left(self, total: int) -> str:
        """The same in words, for the end of a line."""
        left_s = self.left_s(total)
        return "" if left_s is None else f", about {duration(left_s)} left"
