"""Counts what becomes of a scan's returns on the way from its file to its raster: by cause, nothing lost unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

# In words, by field of Losses.
CAUSES = {
    "beyond_range": "at or beyond dataset.lidar.max_range_m",
    "outside_view": "outside the field of view",
    "merged": "merged into a nearer return of the same cell",
    "not_finite": "not finite",
}

_WORTH_A_WARNING = 0.05  # share of a split's stored returns
# Share of a scan's values that must be equal before they may be the mark of rays without a return.
_MARK_SHARE = 0.01


@dataclass(frozen=True)
class Losses:
    """Numbers of returns of one scan or of several."""

    stored: int = 0  # in the file or field; cells of zero are no returns
    beyond_range: int = 0
    outside_view: int = 0
    merged: int = 0
    not_finite: int = 0
    marks: int = 0  # of those beyond the range: all with the same range, as where a number marks "no return"

    def __add__(self, other: Losses) -> Losses:
        # Written out, because it is called for every group.
        return Losses(
            self.stored + other.stored,
            self.beyond_range + other.beyond_range,
            self.outside_view + other.outside_view,
            self.merged + other.merged,
            self.not_finite + other.not_finite,
            self.marks + other.marks,
        )

    @property
    def kept(self) -> int:
        return self.stored - sum(getattr(self, cause) for cause in CAUSES)

    def counts(self) -> dict[str, int]:
        """Numbers by field of this class, and those `kept`."""
        return asdict(self) | {"kept": self.kept}


def of_ranges(range_m: Float[np.ndarray, "..."], max_range_m: float) -> Losses:
    """The losses of stored ranges. A cell of zero or below is no return; one that is not finite counts as such."""
    finite = np.isfinite(range_m)
    positive = range_m[finite & (range_m > 0)]
    far = positive[positive >= max_range_m]
    marks = 0
    if far.size:
        same = int(np.isclose(far, far.max(), rtol=1e-4).sum())
        marks = same if same >= max(2, _MARK_SHARE * range_m.size) else 0
    not_finite = int(finite.size - np.count_nonzero(finite))
    return Losses(positive.size + not_finite, beyond_range=far.size, not_finite=not_finite, marks=marks)


def warnings(by_split: dict[str, Losses]) -> list[str]:
    """Warnings about returns that the rasters do not hold, from a share of 5 % of a split on."""
    found = []
    lost = _shares(by_split, ("beyond_range", "outside_view", "merged"))
    if max(lost.values(), default=0) >= _WORTH_A_WARNING:
        worst = by_split[max(lost, key=lambda split: lost[split])]
        causes = ", ".join(
            f"{getattr(worst, cause) / worst.stored:.0%} {text}"
            for cause, text in CAUSES.items()
            if cause != "not_finite" and getattr(worst, cause)
        )
        text = f"LiDAR returns were lost on the way from file to raster ({_listed(lost)}): {causes}"
        if worst.marks >= _WORTH_A_WARNING * worst.stored:
            text += (
                f"; {worst.marks / worst.stored:.0%} have the same range as others of their scan, so they may only "
                "mark rays without a return"
            )
        found.append(text)
    odd = _shares(by_split, ("not_finite",))
    if max(odd.values(), default=0) >= _WORTH_A_WARNING:
        found.append(
            f"LiDAR points or cells are not finite ({_listed(odd)}); they count as rays without a return"
        )
    return found


def _shares(by_split: dict[str, Losses], causes: Sequence[str]) -> dict[str, float]:
    """By split with returns, the share of the stored ones that these causes took."""
    return {
        split: sum(getattr(losses, cause) for cause in causes) / losses.stored
        for split, losses in by_split.items()
        if losses.stored
    }


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{split} {share:.0%}" for split, share in shares.items())
