"""Checks whether rasters cover their images: compares the configured orientation with all others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.lib.lidar import geometry

# Smallest correlation, and smallest advantage over the configured orientation, that support a warning.
_MARGIN = 0.1


class OrientationCheck:
    """Estimates how rasters must be turned to cover their images.

    The correct orientation has the highest mean of `group_stats.alignment_scores` over the groups.
    """

    def __init__(self, configured: str) -> None:
        """`configured`: the orientation by which the rasters had already been turned when they were scored."""
        self._configured = configured
        self._names = [_composed(configured, turn) for turn in geometry.ORIENTATIONS]
        self._sums = np.zeros(len(self._names))
        self._count = 0

    def add(self, scores: Float[np.ndarray, "8"] | None) -> None:
        """The alignment scores of one training group; None if it has none."""
        if scores is not None:
            self._sums += scores
            self._count += 1

    def means(self) -> dict[str, float]:
        """Mean correlation by orientation; empty when no group had scores."""
        if not self._count:
            return {}
        return dict(zip(self._names, (self._sums / self._count).tolist(), strict=True))

    def warning(self) -> str | None:
        """A warning when the data favour another orientation clearly, or none at all."""
        means = self.means()
        if not means:
            return None
        highest = max(means.values())
        if highest < _MARGIN:
            return (
                "the data do not show which orientation is right (returns and image foreground correlate with "
                f"{highest:.2f} at most): look at the contact sheets and check that "
                f"dataset.lidar.orientation: {self._configured} makes scans cover the images"
            )
        if highest < means[self._configured] + _MARGIN:
            return None
        # With wide margins, several orientations may fit equally well.
        better = [name for name, mean in means.items() if mean > highest - _MARGIN / 2]
        fitting = f"{better[0]} fits" if len(better) == 1 else f"{', '.join(better)} fit"
        return (
            f"dataset.lidar.orientation is {self._configured} (correlation of returns and image foreground "
            f"{means[self._configured]:.2f}), but {fitting} better ({highest:.2f}): element-wise fusion would "
            "combine features of different places"
        )


def _composed(first: str, second: str) -> str:
    """The orientation that equals one followed by another."""
    probe = np.arange(4).reshape(2, 2)
    both = geometry.ORIENTATIONS[second](geometry.ORIENTATIONS[first](probe))
    return next(name for name, turn in geometry.ORIENTATIONS.items() if np.array_equal(turn(probe), both))
