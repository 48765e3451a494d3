"""The comparison on disk.

reports/comparison.csv     one row per model and baseline, measured seconds among them
reports/statistics.json    what repeats to the last bit: metrics, contrasts, verdicts
"""

from __future__ import annotations

import csv
import json
import statistics as python_statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.comparison.compare import Comparison, ModelSummary
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import metrics
from stages.lib.evaluation.results import Evaluation
from stages.lib.models import records
from stages.lib.statistics.significance import Contrast, Difference
from stages.lib.tensors.manifest import Manifest

COMPARISON = Path("reports/comparison.csv")
STATISTICS = Path("reports/statistics.json")

_SHOWN = ("loss", "accuracy", "balanced_accuracy", "f1", "auroc", "ece")
_INTERVALS = ("val_loss", *(f"test_{metric}" for metric in _SHOWN))
_COLUMNS = [
    *("model", "kind", "seeds", "parameters", "weights_mib"),
    *(f"{name}{bound}" for name in _INTERVALS for bound in ("", "_low", "_high")),
    *("epoch_s", "epoch_with_nets_s", "peak_memory_mib", "latency_ms", "latency_32_ms", "flops_m", "verdict"),
]


def write_statistics(comparison: Comparison, manifest: Manifest, corrupted_groups: int) -> None:
    """Writes what repeats to the last bit: metrics, contrasts, verdicts.

    Args:
        corrupted_groups: `evaluate.corrupted_groups`, of which a split may hold fewer.
    """
    counts = np.array([manifest.counts[comparison.split][name] for name in manifest.classes])
    content = {
        "split": comparison.split,
        "reference": comparison.reference,
        "single": comparison.single,
        "seeds": comparison.seeds,
        "seeds_needed": comparison.seeds_needed,
        "confidence": comparison.confidence,
        "margin": comparison.margin,
        "num_scenes": comparison.num_scenes,
        "classes": manifest.classes,
        "rarest_class": manifest.classes[metrics.rarer_class(counts)],
        "corrupted_groups": min(corrupted_groups, int(counts.sum())),
        "last_epoch_best": comparison.last_epoch_best,
        "models": {name: _model_statistics(model) for name, model in comparison.models.items()},
        "pairs": [_difference_statistics(pair) for pair in comparison.pairs],
    }
    STATISTICS.write_text(json.dumps(content, indent=2) + "\n")


def _model_statistics(model: ModelSummary) -> dict[str, Any]:
    return {
        "kind": model.evaluation.kind,
        "parameters": model.evaluation.cost.parameters,
        "trainable_parameters": model.evaluation.cost.trainable_parameters,
        "head_width": model.evaluation.cost.head_width,
        "metrics": {
            split: {metric: vars(summary) for metric, summary in by_metric.items()}
            for split, by_metric in model.metrics.items()
        },
        "beats_prior": model.beats_prior,
        "mean_below_prior": model.mean_below_prior,
        "contrast": _contrast_statistics(model.contrast),
        "single": _contrast_statistics(model.single),
        "seed_share": model.seed_share,
        "sensor_use": model.sensor_use and {sensor: asdict(use) for sensor, use in model.sensor_use.items()},
        "curves": {
            sensor: {name: asdict(curve) for name, curve in by_name.items()}
            for sensor, by_name in model.curves.items()
        },
        "calibration": model.calibration
        and asdict(model.calibration) | {"temperature": float(np.mean(model.calibration.temperatures))},
        "confusion": [[None if np.isnan(share) else share for share in row] for row in model.confusion],
        "verdict": model.verdict,
    }


def _contrast_statistics(contrast: Contrast | None) -> dict[str, Any] | None:
    if contrast is None:
        return None
    return _difference_statistics(contrast) | {
        "p": contrast.p,
        "p_holm": contrast.p_holm,
        "p_tied": contrast.p_tied,
        "outcome": contrast.outcome,
    }


def _difference_statistics(difference: Difference) -> dict[str, Any]:
    return {
        "model": difference.model,
        "against": difference.against,
        "difference": difference.difference,
        "two_way": [difference.two_way.low, difference.two_way.high],
        "over_seeds": [difference.over_seeds.low, difference.over_seeds.high],
        "probability": difference.probability,
    }


def write_csv(comparison: Comparison) -> None:
    """Writes one row per model and baseline, measured times among them."""
    with COMPARISON.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for model in comparison.models.values():
            writer.writerow({key: _cell(value) for key, value in _row(model).items()})


def _row(model: ModelSummary) -> dict[str, Any]:
    evaluation = model.evaluation
    row: dict[str, Any] = {
        "model": evaluation.model,
        "kind": evaluation.kind,
        "seeds": len(evaluation.seeds),
        "parameters": evaluation.cost.parameters,
        "weights_mib": evaluation.cost.weights_mib,
        "flops_m": evaluation.cost.flops_m,
        "verdict": model.verdict,
    }
    columns = {"val_loss": model.metrics["validation"]["loss"]}
    for metric, summary in model.metrics.get("test", {}).items():
        if metric in _SHOWN:
            columns[f"test_{metric}"] = summary
    for name, summary in columns.items():
        row |= {name: summary.mean, f"{name}_low": summary.low, f"{name}_high": summary.high}
    if evaluation.kind != "baseline":
        row |= measured(evaluation)
    return row


def measured(evaluation: Evaluation) -> dict[str, Any]:
    """Seconds, memory and latency, from the timing files."""
    training = records.read_timing(f"train-{evaluation.model}")
    own = records.epoch_times(evaluation.model)
    latency = records.read_timing(f"evaluate-{evaluation.model}")
    row = {
        "epoch_s": python_statistics.median(own),
        "peak_memory_mib": max(seed["peak_memory_mib"] for seed in training["seeds"].values()),
        **{key: latency[key] for key in ("latency_ms", "latency_32_ms")},
    }
    if evaluation.kind == "late":
        # As the notebook reckons: all time spent on the three trainings over all their epochs.
        total = [*own, *(seconds for sensor in SENSORS for seconds in records.epoch_times(sensor))]
        row["epoch_with_nets_s"] = sum(total) / len(total)
    return row


def training_s(evaluation: Evaluation) -> float:
    """Seconds of all epochs of a seed, mean over seeds; of a late model, its nets' too."""
    parts = [evaluation.model, *(SENSORS if evaluation.kind == "late" else ())]
    return sum(sum(records.epoch_times(part)) for part in parts) / len(evaluation.seeds)


def _cell(value: object) -> object:
    """A number as people read it: six significant digits are more than any of them carries."""
    return f"{value:.6g}" if isinstance(value, float) else value
