"""What is left of a model under each corruption, with intervals over seeds and scenes: from its decisions.

S = seeds;  N = groups of the split;  D = draws;  V = severities, from 0, none
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.lib.comparison.results import CorruptionCurve
from stages.lib.evaluation.decisions import ABSENT, CLEAN, Decisions
from stages.lib.statistics import bootstrap, intervals
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.results import Interval

_DRAWS = 2000  # of all; enough for the two digits that the report shows


@dataclass(frozen=True)
class JudgedGroups:
    """The groups on which decisions were made, and how they are resampled."""

    labels: Int[np.ndarray, "N"]
    scenes: Int[np.ndarray, "N"]  # index of each group's scene
    draws: BootstrapDraws
    confidence: float


@dataclass(frozen=True)
class RelativeArea:
    """A share of accuracy above chance, by seed and under each draw of seeds and scenes."""

    values: Float[np.ndarray, "S"]  # their mean is the share of the mean curve (linearised ratio)
    resampled: Float[np.ndarray, "D"]
    num_scenes: int

    def interval(self, confidence: float) -> Interval:
        """No bounds where a draw leaves no accuracy above chance: a share of nothing means nothing."""
        if np.isnan(self.resampled).any():
            return Interval(float(self.values.mean()), None, None)
        return intervals.two_way_interval(self.values, self.resampled, self.num_scenes, confidence)


def curves(
    decisions: Decisions, judged: JudgedGroups
) -> tuple[dict[str, dict[str, CorruptionCurve]], dict[str, Interval]]:
    """Accuracy at each severity by sensor and corruption; by sensor, the mean share that is left over all of them."""
    found: dict[str, dict[str, CorruptionCurve]] = {}
    areas: dict[str, list[RelativeArea | None]] = {}
    for (sensor, name), severities in _corruptions(decisions).items():
        states = [CLEAN, *(f"{sensor} {name} {severity}" for severity in severities)]
        curve, area = _curve(np.stack([decisions.decided[state] for state in states]), severities, judged)
        found.setdefault(sensor, {})[name] = curve
        areas.setdefault(sensor, []).append(area)
    means = {}
    for sensor, parts in areas.items():
        defined = [part for part in parts if part is not None]
        if len(defined) == len(parts):
            means[sensor] = RelativeArea(
                np.mean([part.values for part in defined], axis=0),
                np.mean([part.resampled for part in defined], axis=0),
                min(part.num_scenes for part in defined),
            ).interval(judged.confidence)
    return found, means


def _corruptions(decisions: Decisions) -> dict[tuple[str, str], list[int]]:
    """Severities by sensor and corruption."""
    found: dict[tuple[str, str], list[int]] = {}
    for state in decisions.decided:
        sensor, *rest = state.split()
        if len(rest) == 2:
            found.setdefault((sensor, rest[0]), []).append(int(rest[1]))
    return {corruption: sorted(severities) for corruption, severities in found.items()}


def _curve(
    decided: Int[np.ndarray, "V S N"], severities: list[int], judged: JudgedGroups
) -> tuple[CorruptionCurve, RelativeArea | None]:
    chosen = (decided != ABSENT).all(axis=(0, 1))
    labels, scenes = judged.labels[chosen], judged.scenes[chosen]
    is_right = decided[:, :, chosen] == labels
    rows = is_right.reshape(-1, len(labels))
    once = np.ones((1, judged.draws.scenes.shape[1]), dtype=np.uint8)
    accuracies = bootstrap.accuracies(rows, labels, scenes, once).reshape(decided.shape[:2])
    resampled = bootstrap.accuracies(rows, labels, scenes, judged.draws.scenes[:_DRAWS])
    by_draw = resampled.reshape(len(resampled), *decided.shape[:2])
    means = np.stack(
        [bootstrap.over_seeds(by_draw[:, place], judged.draws) for place in range(len(decided))], axis=1
    )
    chance = 1 / len(np.unique(labels))  # of one decision for all groups
    steps = [0, *severities]
    area = _relative_area(accuracies, means, steps, chance, len(np.unique(scenes)))
    left = area.interval(judged.confidence) if area else Interval(0.0, None, None)
    curve = CorruptionCurve(
        severities=steps,
        accuracies=accuracies.mean(axis=1).tolist(),
        relative_area=left.mean if area else None,
        area_low=left.low,
        area_high=left.high,
        num_groups=len(labels),
    )
    return curve, area


def _relative_area(
    accuracies: Float[np.ndarray, "V S"],
    resampled: Float[np.ndarray, "D V"],
    severities: list[int],
    chance: float,
    num_scenes: int,
) -> RelativeArea | None:
    """Area under the curve from no corruption to the worst, above chance, as a share of the clean model's.

    None for a model that is not above chance without corruption.
    """
    heights = accuracies - chance
    areas = np.trapezoid(heights, severities, axis=0) / severities[-1]
    clean = heights[0].mean()
    if clean <= 0:
        return None
    share = areas.mean() / clean
    drawn = resampled - chance
    drawn_areas = np.trapezoid(drawn, severities, axis=1) / severities[-1]
    above = np.where(drawn[:, 0] > 0, drawn[:, 0], np.nan)
    return RelativeArea(share + (areas - share * heights[0]) / clean, drawn_areas / above, num_scenes)
