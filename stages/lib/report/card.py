"""Model cards: one page for each model, in the form that model hubs read (a head in YAML, then Markdown).

The head follows the Hugging Face Hub's metadata (`model-index`).
"""

from __future__ import annotations

from typing import Any

from stages.lib import fusions
from stages.lib.comparison.results import FAILURES, Comparison, FailureCurve, ModelResult
from stages.lib.core.names import TITLES
from stages.lib.report import analysis, format, gains, tables
from stages.lib.report.tables import Column, Model
from stages.lib.tensors.manifest import Manifest

# Metrics of the card, by key: title, and identifier on model hubs.
_METRICS = {
    "balanced_accuracy": ("Balanced accuracy", "balanced_accuracy"),
    "accuracy": ("Accuracy", "accuracy"),
    "f1": ("F1, mean over classes", "f1"),
    "auroc": ("AUROC", "roc_auc"),
    "loss": ("Loss, cross-entropy in nats", "loss"),
    "ece": ("Expected calibration error", "ece"),
}


def context(row: Model, compared: Comparison, manifest: Manifest) -> dict[str, Any]:
    """What the template needs beside the report's own values."""
    result = row.result
    return {
        "name": row.name,
        "kind": result.kind,
        "result": result,
        "cost": row.cost,
        "classes": compared.classes,
        "architecture": "Unimodal network"
        if result.kind == "unimodal"
        else format.architecture(row.name, result.kind),
        "operator": fusions.describe(row.name) if result.kind != "unimodal" else None,
        "is_head_alone": analysis.is_head_alone(result.parameters, result.trainable_parameters),
        "inputs": _inputs(manifest),
        "hub_metrics": _hub_metrics(result, compared.split),
        "metrics_table": _metrics(result, compared),
        "failures_table": _failures(row),
        "conditions_table": _conditions(row.name, compared),
        "robustness": [
            (TITLES[sensor], format.share(kept.mean, kept.low, kept.high))
            for sensor, kept in result.robustness.items()
        ],
        "verdict": result.verdict[0].upper() + result.verdict[1:] + ".",
    }


def _hub_metrics(result: ModelResult, split: str) -> list[dict[str, Any]]:
    """The metrics that are defined, as the head lists them: type, name and value."""
    found = []
    for key, (title, identifier) in _METRICS.items():
        mean = result.metrics[split][key].mean
        if mean is not None:
            found.append({"type": identifier, "name": title, "value": round(mean, 4)})
    return found


def _inputs(manifest: Manifest) -> str:
    size = manifest.image_size
    return (
        f"an image of {manifest.channels['rgb']} x {size} x {size} values and a raster of "
        f"{manifest.channels['lidar']} x {size} x {size} (x, y, z in metres; a = 1 at returns)"
    )


def _metrics(result: ModelResult, compared: Comparison) -> str:
    metrics = result.metrics[compared.split]
    return tables.markdown(
        _METRICS,
        [
            Column("Metric", lambda key: _METRICS[key][0]),
            Column("Mean and interval", lambda key: format.with_interval(metrics[key])),
            Column(
                "By seed", lambda key: ", ".join(format.number(value, 3) for value in metrics[key].values)
            ),
        ],
    )


def _failures(row: Model) -> str:
    failures = row.result.failures
    if row.result.kind == "unimodal":  # the other sensor's failures do not change it
        failures = {row.name: failures[row.name]}

    def column(place: int, rate: float) -> Column[str]:
        return Column(f"{rate:.0%}", lambda case: _accuracy(failures[case], place))

    rates = next(iter(failures.values())).rates
    case = Column[str]("Share of samples", lambda case: FAILURES[case][0].upper() + FAILURES[case][1:])
    return tables.markdown(failures, [case, *(column(place, rate) for place, rate in enumerate(rates))])


def _accuracy(curve: FailureCurve, place: int) -> str:
    return format.share(curve.accuracies[place], curve.low[place], curve.high[place])


def _conditions(name: str, compared: Comparison) -> str:
    """Empty where the dataset has no conditions with enough data."""
    found = [(part, part.accuracies[name]) for part in compared.conditions if name in part.accuracies]
    if not found:
        return ""
    return tables.markdown(
        found,
        [
            Column("Condition", lambda pair: gains.named(pair[0])),
            Column("Groups", lambda pair: f"{pair[0].num_groups:,}"),
            Column("Balanced accuracy", lambda pair: format.share(pair[1].mean, pair[1].low, pair[1].high)),
        ],
    )
