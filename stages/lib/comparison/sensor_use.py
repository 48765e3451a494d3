"""Which sensor a model uses, and how robust it is to each corruption: computed from its probes.

S = seeds
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.lib.comparison.results import CorruptionCurve, SensorUse
from stages.lib.core.names import SENSORS
from stages.lib.evaluation.results import Probes
from stages.lib.statistics import intervals


def uses(probes: list[Probes], confidence: float, margin: float) -> dict[str, SensorUse]:
    """How a model that sees both sensors uses each of them; by sensor."""
    values = {sensor: np.array([shapley(part)[sensor] for part in probes]) for sensor in SENSORS}
    found = {}
    for sensor in SENSORS:
        lost = {
            "missing": np.array([part.clean - part.missing[sensor] for part in probes]),
            "shuffled": np.array(
                [part.clean - part.shuffled[sensor] for part in probes if sensor in part.shuffled]
            ),
        }
        found[sensor] = SensorUse(
            lost_missing=intervals.interval_over_seeds(lost["missing"], confidence),
            lost_shuffled=(
                intervals.interval_over_seeds(lost["shuffled"], confidence) if len(lost["shuffled"]) else None
            ),
            shapley=intervals.interval_over_seeds(values[sensor], confidence),
            is_ignored=all(abs(part.mean()) < margin for part in lost.values() if len(part)),
            is_used=any(_is_lost(part, confidence, margin) for part in lost.values() if len(part)),
        )
    return found


def _is_lost(lost: Float[np.ndarray, "S"], confidence: float, margin: float) -> bool:
    interval = intervals.interval_over_seeds(lost, confidence)
    return bool(lost.mean() >= margin if interval.low is None else interval.low > 0)


def shapley(probes: Probes) -> dict[str, float]:
    """Each sensor's Shapley value (1953): the balanced accuracy that it adds, mean of both orders of adding."""
    full, neither = probes.clean, probes.missing["both"]
    alone = {"rgb": probes.missing["lidar"], "lidar": probes.missing["rgb"]}
    return {
        sensor: ((alone[sensor] - neither) + (full - alone[other])) / 2
        for sensor, other in (SENSORS, SENSORS[::-1])
    }


def curves(probes: list[Probes], chance: float) -> dict[str, dict[str, CorruptionCurve]]:
    """Balanced accuracy at each severity; by sensor and corruption.

    Args:
        chance: balanced accuracy of always predicting the class frequencies.
    """
    return {
        sensor: {name: _curve([part.corrupted[sensor][name] for part in probes], chance) for name in by_name}
        for sensor, by_name in probes[0].corrupted.items()
    }


def _curve(by_seed: list[dict[str, float]], chance: float) -> CorruptionCurve:
    severities = sorted(int(severity) for severity in by_seed[0])
    means = [float(np.mean([seed[str(severity)] for seed in by_seed])) for severity in severities]
    return CorruptionCurve(severities, means, relative_area(severities, means, chance))


def relative_area(severities: list[int], accuracies: list[float], chance: float) -> float | None:
    """Area under the curve from no corruption to the worst, above chance, as a share of the clean model's."""
    heights = np.array(accuracies) - chance
    if heights[0] <= 0:
        return None
    return float(np.trapezoid(heights, severities) / (severities[-1] * heights[0]))
