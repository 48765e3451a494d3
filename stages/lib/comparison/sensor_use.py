"""Which sensor a model uses: computed from its probes.

S = seeds
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.lib.comparison.results import SensorUse
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
