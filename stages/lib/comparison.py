"""From the results of all models to the comparison: every number and verdict of the report."""

from __future__ import annotations

import csv
import json
import statistics as python_statistics
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.lib import evaluations, predictions, statistics
from stages.lib.evaluations import Evaluation, Metrics
from stages.lib.manifest import Manifest
from stages.lib.statistics import Contrast
from stages.lib.terminal import UserError

COMPARISON = Path("reports/comparison.csv")
STATISTICS = Path("reports/statistics.json")
TIMING = Path("reports/timing")
HISTORY = Path("reports/history")
BASELINES = ("prior", "return_count")

METRICS = [field.name for field in fields(Metrics)]
_INTERVALS = ("val_loss", *(f"test_{metric}" for metric in METRICS))
_COLUMNS = [
    *("model", "kind", "seeds", "parameters", "weights_mib"),
    *(f"{name}{bound}" for name in _INTERVALS for bound in ("", "_low", "_high")),
    *("epoch_s", "epoch_with_nets_s", "peak_memory_mib", "latency_ms", "flops_m", "verdict"),
]

BETTER_THAN_PRIOR = "better than the class prior"
NO_BETTER_THAN_PRIOR = "no better than the class prior"
UNDECIDED_ON_PRIOR = f"{NO_BETTER_THAN_PRIOR} (lower mean loss, not decided)"


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of one model; None where it is not defined."""

    values: list[float | None]
    mean: float | None
    sd: float | None  # standard deviation over seeds
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ModelSummary:
    """One row of the comparison: what can be repeated to the last bit."""

    evaluation: Evaluation
    metrics: dict[str, dict[str, Summary]]  # by split and metric
    beats_prior: bool | None  # None for the prior itself
    mean_below_prior: bool  # whether at least its mean loss is lower
    contrast: Contrast | None  # with the reference, None for the reference and for baselines
    is_reference: bool

    @property
    def verdict(self) -> str:
        """What may be said of this model."""
        if self.beats_prior is None:
            return "the class prior"
        parts = [BETTER_THAN_PRIOR if self.beats_prior else NO_BETTER_THAN_PRIOR]
        if not self.beats_prior and self.mean_below_prior:
            parts = [UNDECIDED_ON_PRIOR]
        if self.is_reference:
            parts.append("least validation loss of all fusions")
        if self.contrast is not None:
            parts.append(describe(self.contrast))
        return "; ".join(parts)


def describe(contrast: Contrast) -> str:
    """The outcome of one comparison of losses, in words."""
    if not contrast.decided:
        return f"not decided against {contrast.reference}"
    return f"{'worse' if contrast.over_seeds.mean > 0 else 'better'} than {contrast.reference}"


@dataclass(frozen=True)
class Comparison:
    """All models on one dataset."""

    models: dict[str, ModelSummary]  # baselines last
    reference: str  # the fusion with the least mean validation loss
    split: str  # that the verdicts stand on: "test", or "validation" where there is no test split
    seeds: list[int]
    seeds_needed: int
    confidence: float

    def losses(self, name: str) -> Float[np.ndarray, "S"]:
        """Loss of each seed on the split that the verdicts stand on."""
        return np.array(self.models[name].metrics[self.split]["loss"].values)


def compare(names: list[str], fusion_names: list[str], manifest: Manifest, confidence: float) -> Comparison:
    """Reads the results of these models and of the baselines, and compares them.

    The reference is chosen on the validation split, so that the test split has no say in it.

    Raises:
        UserError: when results are missing, or a model lacks a seed or a sample that others have.
    """
    evaluated = {name: evaluations.read(name) for name in (*names, *BASELINES)}
    seeds = sorted(evaluated[names[0]].seeds)
    for name in names:
        if sorted(evaluated[name].seeds) != seeds:
            raise UserError(
                f"reports/evaluation/{name}.json: holds seeds {sorted(evaluated[name].seeds)}, "
                f"but {names[0]} holds {seeds}; run `dvc repro`"
            )
    split = "test" if manifest.has_test_split else "validation"
    guesses = {name: predictions.read(name, split) for name in (*names, *BASELINES)}
    for name, guess in guesses.items():
        if guess.groups != guesses["prior"].groups:
            raise UserError(
                f"reports/predictions/{name}.parquet: holds other groups than prior.parquet; run `dvc repro`"
            )
    losses = {name: guess.losses() for name, guess in guesses.items()}
    scenes = guesses["prior"].scenes
    reference = min(fusion_names, key=lambda name: _mean_validation_loss(evaluated[name]))
    models_losses = {name: losses[name] for name in names}
    contrasts = statistics.contrasts(models_losses, reference, scenes, confidence)
    contrast_of = {contrast.model: contrast for contrast in contrasts}
    better = {
        name: statistics.beats_prior(losses[name], losses["prior"][0], scenes, confidence)
        for name in (*names, "return_count")
    }
    models = {
        name: ModelSummary(
            evaluation=evaluation,
            metrics=_summaries(evaluation, confidence),
            beats_prior=better.get(name),
            mean_below_prior=bool(losses[name].mean() < losses["prior"].mean()),
            contrast=contrast_of.get(name),
            is_reference=name == reference,
        )
        for name, evaluation in evaluated.items()
    }
    return Comparison(
        models=models,
        reference=reference,
        split=split,
        seeds=seeds,
        seeds_needed=statistics.seeds_needed(len(contrasts)),
        confidence=confidence,
    )


def _mean_validation_loss(evaluation: Evaluation) -> float:
    return float(np.mean([splits["validation"].loss for splits in evaluation.seeds.values()]))


def _summaries(evaluation: Evaluation, confidence: float) -> dict[str, dict[str, Summary]]:
    by_seed = [evaluation.seeds[seed] for seed in sorted(evaluation.seeds)]
    splits = sorted({split for by_split in by_seed for split in by_split})
    return {
        split: {
            metric: summarize([getattr(by_split[split], metric) for by_split in by_seed], confidence)
            for metric in METRICS
        }
        for split in splits
    }


def summarize(values: list[float | None], confidence: float) -> Summary:
    """Mean, deviation and interval over seeds; undefined as soon as one seed's value is."""
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return Summary(values, None, None, None, None)
    array = np.array(defined)
    interval = statistics.interval_over_seeds(array, confidence)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Summary(values, interval.mean, sd, interval.low, interval.high)


def count_last_epoch_best(names: list[str]) -> dict[str, int]:
    """By model, the number of seeds whose best epoch was the last: they might have gone on improving.

    One that was stopped for want of improvement (`train.patience`) is none of them.
    """
    return {
        name: int((np.nan_to_num(losses, nan=np.inf).argmin(axis=1) == losses.shape[1] - 1).sum())
        for name, losses in ((name, read_history(name)["valid"]) for name in names)
    }


def write_statistics(comparison: Comparison, manifest: Manifest, last_epoch_best: dict[str, int]) -> None:
    """Writes what repeats to the last bit: metrics, contrasts, verdicts."""
    content = {
        "split": comparison.split,
        "reference": comparison.reference,
        "seeds": comparison.seeds,
        "seeds_needed": comparison.seeds_needed,
        "confidence": comparison.confidence,
        "classes": manifest.classes,
        "last_epoch_best": last_epoch_best,
        "models": {name: _model_statistics(model) for name, model in comparison.models.items()},
    }
    STATISTICS.write_text(json.dumps(content, indent=2) + "\n")


def _model_statistics(model: ModelSummary) -> dict[str, Any]:
    return {
        "kind": model.evaluation.kind,
        "parameters": model.evaluation.cost.parameters,
        "trainable_parameters": model.evaluation.cost.trainable_parameters,
        "metrics": {
            split: {metric: vars(summary) for metric, summary in by_metric.items()}
            for split, by_metric in model.metrics.items()
        },
        "beats_prior": model.beats_prior,
        "mean_below_prior": model.mean_below_prior,
        "contrast": _contrast_statistics(model.contrast),
        "verdict": model.verdict,
    }


def _contrast_statistics(contrast: Contrast | None) -> dict[str, Any] | None:
    if contrast is None:
        return None
    return {
        "reference": contrast.reference,
        "difference": contrast.over_seeds.mean,
        "over_seeds": [contrast.over_seeds.low, contrast.over_seeds.high],
        "over_scenes": [contrast.over_scenes.low, contrast.over_scenes.high],
        "p": contrast.p,
        "p_holm": contrast.p_holm,
        "decided": contrast.decided,
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
        columns[f"test_{metric}"] = summary
    for name, summary in columns.items():
        row |= {name: summary.mean, f"{name}_low": summary.low, f"{name}_high": summary.high}
    if evaluation.kind != "baseline":
        row |= _measured(evaluation)
    return row


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    """Seconds, memory and latency, from the timing files."""
    training = read_timing(f"train-{evaluation.model}")
    own = _epoch_times(training)
    row = {
        "epoch_s": python_statistics.median(own),
        "peak_memory_mib": max(seed["peak_memory_mib"] for seed in training["seeds"].values()),
        "latency_ms": read_timing(f"evaluate-{evaluation.model}")["latency_ms"],
    }
    if evaluation.kind == "late":
        nets = [_epoch_times(read_timing(f"train-{sensor}")) for sensor in ("rgb", "lidar")]
        # As the notebook reckons: all time spent on the three trainings over all their epochs.
        total = [*own, *nets[0], *nets[1]]
        row["epoch_with_nets_s"] = sum(total) / len(total)
    return row


def _epoch_times(timing: dict[str, Any]) -> list[float]:
    return [seconds for seed in timing["seeds"].values() for seconds in seed["epoch_s"]]


def read_timing(name: str) -> dict[str, Any]:
    """A timing file of reports/timing.

    Raises:
        UserError: when it is missing.
    """
    path = TIMING / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    return json.loads(path.read_text())


def read_history(name: str) -> dict[str, Float[np.ndarray, "S E"]]:
    """Training and validation losses of a model, by seed and epoch; NaN from where a seed stopped early."""
    path = HISTORY / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    num_epochs = max(int(row["epoch"]) for row in rows)
    losses = {part: np.full((len(seeds), num_epochs), np.nan) for part in ("train", "valid")}
    for row in rows:
        for part, values in losses.items():
            values[seeds.index(row["seed"]), int(row["epoch"]) - 1] = float(row[f"{part}_loss"])
    return losses


def _cell(value: object) -> object:
    """A number as people read it: six significant digits are more than any of them carries."""
    return f"{value:.6g}" if isinstance(value, float) else value
