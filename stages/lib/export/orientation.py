"""Whether rasters lie on their pictures: compares the configured orientation with all others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.lib.lidar import geometry

# An orientation is called better when its correlation is this much higher, and worth the name.
_ORIENTATION_MARGIN = 0.1


class OrientationCheck:
    """Estimates how a raster has to be turned to lie on the picture.

    For each orientation, inspection.orientation_fits averaged over groups; the right one is where
    objects coincide.
    """

    def __init__(self, configured: str) -> None:
        """`configured`: how the rasters that were inspected had been turned already."""
        self._configured = configured
        self._names = [_composed(configured, turn) for turn in geometry.ORIENTATIONS]
        self._sums = np.zeros(len(self._names))
        self._count = 0

    def add(self, fits: Float[np.ndarray, "8"] | None) -> None:
        """One training group, unless it tells nothing."""
        if fits is not None:
            self._sums += fits
            self._count += 1

    def means(self) -> dict[str, float]:
        """Mean correlation by orientation; empty when no group could be used."""
        if not self._count:
            return {}
        return dict(zip(self._names, (self._sums / self._count).tolist(), strict=True))

    def warning(self) -> str | None:
        """A sentence when another orientation fits clearly better than the configured one."""
        means = self.means()
        if not means:
            return None
        highest = max(means.values())
        if highest < _ORIENTATION_MARGIN:
            return (
                f"no orientation can be told from the data (returns and picture foreground correlate with "
                f"{highest:.2f} at most): look at the contact sheets whether dataset.lidar.orientation: "
                f"{self._configured} lays scans on pictures"
            )
        if highest < means[self._configured] + _ORIENTATION_MARGIN:
            return None
        # In a letterboxed picture several orientations may fit alike.
        better = [name for name, fit in means.items() if fit > highest - _ORIENTATION_MARGIN / 2]
        fitting = f"{better[0]} fits" if len(better) == 1 else f"{', '.join(better)} fit"
        return (
            f"dataset.lidar.orientation is {self._configured} (correlation of returns and picture foreground "
            f"{means[self._configured]:.2f}), but {fitting} better ({highest:.2f}): element-wise fusion would "
            "mix unrelated places"
        )


def _composed(first: str, second: str) -> str:
    """The orientation that equals one followed by another."""
    probe = np.arange(4).reshape(2, 2)
    both = geometry.ORIENTATIONS[second](geometry.ORIENTATIONS[first](probe))
    return next(name for name, turn in geometry.ORIENTATIONS.items() if np.array_equal(turn(probe), both))
