"""What is left of a model when a sensor fails on a share of the samples: from decisions with and without the sensor.

Which samples fail does not depend on what they show, so the expected accuracy is a straight line over the rate.

S = seeds;  N = groups of the split
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
    found = {}
    for case in (*SENSORS, EITHER):
        curve = FailureCurve([], [], [], [])
        for rate in (0.0, *rates):
            accuracies = _accuracies(mixed(decisions, case, rate, order), judged)
            interval = intervals.interval_of_accuracy(
                accuracies, judged.labels, judged.scenes, judged.draws, judged.confidence
            )
            curve.rates.append(rate)
            curve.accuracies.append(interval.mean)
            curve.low.append(interval.low)
            curve.high.append(interval.high)
        found[case] = curve
    return found


@dataclass(frozen=True)
class FailureOrder:
    """Which samples fail: the same for every model and seed."""

    rates: Float[
        np.ndarray, "N"
    ]  # from which on each sample fails: between 0 and 1, evenly spread in each class
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
    """Decisions with the sensor missing on this share of the samples, and present on all others."""
    decided = decisions.decided[CLEAN].copy()
    for turn, sensor in enumerate(SENSORS):
        missing = decisions.decided.get(
            f"{sensor} {MISSING}"
        )  # none for a network that does not see the sensor
        if missing is None or case not in (sensor, EITHER):
            continue
        fails = order.rates < rate
        if case == EITHER:
            fails &= order.turns == turn
        decided[:, fails] = missing[:, fails]
    return decided


def _accuracies(decided: Int[np.ndarray, "S N"], judged: JudgedGroups) -> Accuracies:
    labels, scenes = judged.labels, judged.scenes
    num_classes = int(max(labels.max(), decided.max())) + 1
    recalls = np.stack([metrics.recalls(metrics.confusion_of(row, labels, num_classes)) for row in decided])
    return Accuracies(
        np.nanmean(recalls, axis=1),
        bootstrap.accuracies(decided == labels, labels, scenes, judged.draws.scenes),
        recalls,
    )
