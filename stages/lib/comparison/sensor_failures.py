"""What is left of a model when a sensor fails on a share of the samples: from decisions with and without the sensor.

Which samples fail does not depend on what they show, so the expected accuracy is a straight line over the rate.

V = rates;  S = seeds;  N = groups of the split
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.lib.comparison.results import EITHER, FailureCurve
from stages.lib.comparison.robustness import JudgedGroups
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import metrics
from stages.lib.evaluation.decisions import CLEAN, MISSING, Decisions
from stages.lib.statistics import bootstrap, intervals
from stages.lib.statistics.intervals import Accuracies


def curves(decisions: Decisions, judged: JudgedGroups, rates: Sequence[float]) -> dict[str, FailureCurve]:
    """Balanced accuracy at each rate; by the sensor that fails, or `EITHER`: one of the two, equally often."""
    order = failure_order(judged.labels)
    all_rates = [0.0, *rates]
    found = {}
    for case in (*SENSORS, EITHER):
        decided = np.stack([mixed(decisions, case, rate, order) for rate in all_rates])
        of_rates = [
            intervals.interval_of_accuracy(
                accuracies, judged.labels, judged.scenes, judged.draws, judged.confidence
            )
            for accuracies in _accuracies(decided, judged)
        ]
        found[case] = FailureCurve(
            rates=all_rates,
            accuracies=[interval.mean for interval in of_rates],
            low=[interval.low for interval in of_rates],
            high=[interval.high for interval in of_rates],
        )
    return found


@dataclass(frozen=True)
class FailureOrder:
    """Which samples fail: the same for every model and seed."""

    # Rate from which on each sample fails: between 0 and 1, evenly spread in each class.
    rates: Float[np.ndarray, "N"]
    turns: Int[np.ndarray, "N"]  # index of the sensor that fails, where one of the two does


def failure_order(labels: Int[np.ndarray, "N"]) -> FailureOrder:
    """Draws the order in which the samples of each class fail: what fails at one rate fails at all higher ones."""
    generator = np.random.default_rng(0)
    rates, turns = np.empty(len(labels)), np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        places = generator.permutation(len(members))
        rates[members] = (places + 0.5) / len(members)
        turns[members] = places % len(SENSORS)
    return FailureOrder(rates, turns)


def mixed(decisions: Decisions, case: str, rate: float, order: FailureOrder) -> Int[np.ndarray, "S N"]:
    """Decisions with the sensor missing on this share of the samples, and present on all others.

    They do not change for a network that does not see the sensor.
    """
    decided = decisions.decided[CLEAN].copy()
    for turn, sensor in enumerate(SENSORS):
        missing = decisions.decided.get(f"{sensor} {MISSING}")
        if missing is None or case not in (sensor, EITHER):
            continue
        fails = order.rates < rate
        if case == EITHER:
            fails &= order.turns == turn
        decided[:, fails] = missing[:, fails]
    return decided


def _accuracies(decided: Int[np.ndarray, "V S N"], judged: JudgedGroups) -> list[Accuracies]:
    """Measured and resampled accuracies at each rate."""
    labels, shape = judged.labels, decided.shape[:2]
    rows = decided.reshape(-1, len(labels))
    num_classes = int(max(labels.max(), rows.max())) + 1
    recalls = np.stack([metrics.recalls(metrics.confusion_of(row, labels, num_classes)) for row in rows])
    resampled = bootstrap.accuracies(rows == labels, labels, judged.scenes, judged.draws.scenes)
    by_rate = zip(recalls.reshape(*shape, -1), np.moveaxis(resampled.reshape(-1, *shape), 1, 0), strict=True)
    return [Accuracies(np.nanmean(own, axis=1), drawn, own) for own, drawn in by_rate]
