"""The report's figures, drawn from the comparison."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

import numpy as np

from stages.lib.comparison import error_samples
from stages.lib.comparison.measured import MeasuredCost
from stages.lib.comparison.results import FAILURES, Comparison, ModelResult, trained_rates
from stages.lib.core.names import SENSORS, TITLES
from stages.lib.models import records
from stages.lib.params import Params
from stages.lib.plots import accuracy, calibration, conditions, cost, learning, robustness, style
from stages.lib.plots.accuracy import Bounds
from stages.lib.plots.conditions import ConditionPoints
from stages.lib.plots.cost import ParetoPoint
from stages.lib.plots.robustness import FailurePoints
from stages.lib.plots.style import Figure
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest

FIGURES = Path("reports/figures")
_MOST_BY_CONDITION = 8  # models that can be told apart in one figure

Known = TypeVar("Known")


def draw(
    compared: Comparison, costs: dict[str, MeasuredCost], settings: Params, manifest: Manifest
) -> dict[str, Figure | None]:
    """Every figure by the name of its file; None for one that has nothing to show."""
    models, fusions = settings.model_names(), settings.fusion_names()
    return {
        "loss_curves": draw_loss_curves(compared, models),
        "balanced_accuracy": draw_metric_intervals(compared, models),
        "differences": draw_differences(compared, models),
        "pareto": draw_pareto(compared, {name: fixed_costs(compared.models[name]) for name in models}),
        # By itself, since it is the one figure that no repetition gives again.
        "pareto_time": draw_pareto(compared, {name: measured_costs(costs[name]) for name in models}),
        "sensor_use": draw_sensor_use(compared, fusions),
        "failures": draw_failures(compared, models),
        "corruptions": draw_corruptions(compared, models),
        "conditions": draw_conditions(compared, models),
        "reliability": draw_reliability(compared, models),
        "confusion": draw_confusions(compared, models, manifest),
        "errors": error_samples.draw(fusions, compared.split, manifest),
        "label_errors": error_samples.draw_label_errors(compared.label_errors, manifest),
    }


def save(figures: dict[str, Figure | None]) -> None:
    """The comparison's own figures, and those of the data that the export has drawn."""
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    drawn = {FIGURES / f"{name}.png": figure for name, figure in figures.items() if figure is not None}
    style.save_all(drawn)
    for path in sorted((manifests.FOLDER / manifests.FIGURES).glob("*.png")):
        shutil.copyfile(path, FIGURES / path.name)


def known(value: Known | None) -> Known:
    """A value that is None for baselines only, or for metrics that no figure here shows."""
    assert value is not None
    return value


def draw_loss_curves(compared: Comparison, names: list[str]) -> Figure:
    prior = compared.models["prior"].metrics["validation"]["loss"].mean
    return learning.loss_curves({name: records.read_history(name) for name in names}, known(prior))


def draw_metric_intervals(compared: Comparison, names: list[str]) -> Figure:
    summaries = {name: compared.models[name].metrics[compared.split]["balanced_accuracy"] for name in names}
    return accuracy.metric_intervals(
        {name: np.array(summary.values) for name, summary in summaries.items()},
        {name: (summary.low, summary.high) for name, summary in summaries.items()},
        chance=compared.accuracy("prior"),
        label=f"balanced accuracy, {compared.split} split",
        confidence=compared.confidence,
    )


def draw_differences(compared: Comparison, names: list[str]) -> Figure:
    return accuracy.difference_matrix(
        names,
        {(pair.model, pair.against): pair.difference for pair in compared.pairs},
        {(pair.model, pair.against): pair.interval or (None, None) for pair in compared.pairs},
    )


def draw_pareto(compared: Comparison, costs: dict[str, dict[str, float]]) -> Figure:
    points = {}
    for name, own in costs.items():
        loss = compared.models[name].metrics[compared.split]["loss"]
        points[name] = ParetoPoint(costs=own, loss=known(loss.mean), bounds=(loss.low, loss.high))
    return cost.pareto(points, f"{compared.split} loss (nats)")


def fixed_costs(model: ModelResult) -> dict[str, float]:
    return {
        "parameters (millions)": known(model.parameters) / 1e6,
        "operations a sample (MFLOP)": known(model.flops_m),
    }


def measured_costs(costs: MeasuredCost) -> dict[str, float]:
    return {"training a seed, all epochs, a late fusion's nets too (s)": costs.training_s}


def draw_sensor_use(compared: Comparison, names: list[str]) -> Figure:
    uses = {name: known(compared.models[name].sensor_use) for name in names}
    lost: dict[str, dict[str, tuple[float, Bounds]]] = {}
    for sensor in SENSORS:
        title = TITLES[sensor]
        for name in names:
            use = uses[name][sensor]
            missing = use.lost_missing
            lost.setdefault(f"without {title}", {})[name] = (missing.mean, (missing.low, missing.high))
            if use.lost_shuffled is not None:
                shuffled = use.lost_shuffled
                lost.setdefault(f"{title} shuffled", {})[name] = (
                    shuffled.mean,
                    (shuffled.low, shuffled.high),
                )
    return robustness.sensor_use(lost, list(compared.models), compared.confidence)


def draw_corruptions(compared: Comparison, names: list[str]) -> Figure | None:
    """None where no corruptions were asked for."""
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for sensor in SENSORS:
        for name in names:
            for corruption, curve in compared.models[name].curves.get(sensor, {}).items():
                title = f"{TITLES[sensor]}: {corruption.replace('_', ' ')}"
                curves.setdefault(title, {})[name] = (curve.severities, curve.accuracies)
    return robustness.corruption_curves(curves, names, compared.accuracy("prior")) if curves else None


def draw_failures(compared: Comparison, names: list[str]) -> Figure:
    trained = trained_rates(compared.sensor_dropout)
    return robustness.failure_curves(
        {
            FAILURES[case]: {
                name: FailurePoints(**vars(compared.models[name].failures[case])) for name in names
            }
            for case in FAILURES
        },
        {FAILURES[case]: rate for case, rate in trained.items()},
        names,
        compared.accuracy("prior"),
        compared.confidence,
    )


def draw_conditions(compared: Comparison, names: list[str]) -> Figure | None:
    """None where there is nothing to draw. Of many models: the single sensors and the most accurate fusions."""
    fusions = sorted(
        compared.fusions, key=lambda name: (name != compared.reference, -compared.accuracy(name))
    )
    chosen = {*SENSORS, *fusions[: _MOST_BY_CONDITION - len(SENSORS)]}
    panels: dict[str, list[ConditionPoints]] = {}
    for part in compared.conditions:
        accuracies = {name: (own.mean, (own.low, own.high)) for name, own in part.accuracies.items()}
        panels.setdefault(part.condition, []).append(ConditionPoints(part.value, part.num_groups, accuracies))
    if not any(part.accuracies for part in compared.conditions):  # none, or a class is absent from each
        return None
    return conditions.by_condition(
        panels,
        [name for name in names if name in chosen],
        names,
        compared.accuracy("prior"),
        compared.confidence,
    )


def draw_reliability(compared: Comparison, names: list[str]) -> Figure:
    calibrations = {name: known(compared.models[name].calibration) for name in names}
    return calibration.reliability(
        {
            name: {
                "before": (found.before.confidence, found.before.accuracy),
                "after": (found.after.confidence, found.after.accuracy),
            }
            for name, found in calibrations.items()
        }
    )


def draw_confusions(compared: Comparison, names: list[str], manifest: Manifest) -> Figure:
    return accuracy.confusions(
        {name: np.array(compared.models[name].confusion, dtype=float) for name in names}, manifest.classes
    )
