"""reports/comparison.csv: one row per model and baseline, for people and for spreadsheets."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.lib.comparison.measured import MeasuredCost
from stages.lib.comparison.results import Comparison, ModelResult

PATH = Path("reports/comparison.csv")

_SHOWN = ("loss", "accuracy", "balanced_accuracy", "f1", "auroc", "ece")
_INTERVALS = ("val_loss", *(f"test_{metric}" for metric in _SHOWN))
_COLUMNS = [
    *("model", "kind", "seeds", "parameters", "weights_mib"),
    *(f"{name}{bound}" for name in _INTERVALS for bound in ("", "_low", "_high")),
    *("epoch_s", "epoch_with_nets_s", "peak_memory_mib"),
    *("latency_ms", "latency_p95_ms", "latency_32_ms", "latency_32_p95_ms", "flops_m", "verdict"),
]


def write(comparison: Comparison, measured: dict[str, MeasuredCost]) -> None:
    """Writes the rows; `measured` holds the costs of every model but the baselines."""
    with PATH.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for name, model in comparison.models.items():
            row = {"model": name} | _row(model) | (asdict(measured[name]) if name in measured else {})
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _row(model: ModelResult) -> dict[str, Any]:
    loss = model.metrics["validation"]["loss"]
    row: dict[str, Any] = {
        "kind": model.kind,
        "seeds": len(loss.values),
        "parameters": model.parameters,
        "weights_mib": model.weights_mib,
        "flops_m": model.flops_m,
        "verdict": model.verdict,
    }
    test = model.metrics.get("test", {})
    columns = {"val_loss": loss} | {f"test_{metric}": test[metric] for metric in _SHOWN if metric in test}
    for name, summary in columns.items():
        row |= {name: summary.mean, f"{name}_low": summary.low, f"{name}_high": summary.high}
    return row


def _cell(value: object) -> object:
    """A number as people read it: six significant digits are more than any of them carries."""
    return f"{value:.6g}" if isinstance(value, float) else value
