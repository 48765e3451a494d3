"""From the results of all models to the comparison: every number and verdict of the report."""

from __future__ import annotations

import csv
import itertools
import json
import statistics as python_statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from stages.lib import (
    calibration,
    evaluations,
    metrics,
    predictions,
    records,
    resampling,
    sensor_use,
    statistics,
)
from stages.lib.calibration import Calibration
from stages.lib.evaluations import Evaluation, Metrics
from stages.lib.manifest import Manifest
from stages.lib.params import SENSORS, Report
from stages.lib.predictions import SplitPredictions
from stages.lib.resampling import Draws
from stages.lib.sensor_use import CorruptionCurve, SensorUse
from stages.lib.statistics import Accuracies, Contrast, Interval
from stages.lib.terminal import UserError

COMPARISON = Path("reports/comparison.csv")
STATISTICS = Path("reports/statistics.json")
BASELINES = ("prior", "return_count")

METRICS = [field.name for field in fields(Metrics)]
_SHOWN = ("loss", "accuracy", "balanced_accuracy", "f1", "auroc", "ece")
_INTERVALS = ("val_loss", *(f"test_{metric}" for metric in _SHOWN))
_COLUMNS = [
    *("model", "kind", "seeds", "parameters", "weights_mib"),
    *(f"{name}{bound}" for name in _INTERVALS for bound in ("", "_low", "_high")),
    *("epoch_s", "epoch_with_nets_s", "peak_memory_mib", "latency_ms", "latency_32_ms", "flops_m", "verdict"),
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
    low: float | None  # of the interval over seeds and scenes
    high: float | None
    seeds_low: float | None  # of Student's interval over seeds alone
    seeds_high: float | None


@dataclass(frozen=True)
class ModelSummary:
    """One row of the comparison: what can be repeated to the last bit."""

    evaluation: Evaluation
    metrics: dict[str, dict[str, Summary]]  # by split and metric
    beats_prior: bool | None  # None for the prior itself
    mean_below_prior: bool  # whether at least its mean loss is lower
    contrast: Contrast | None  # with the reference, None for the reference and for baselines
    single: Contrast | None  # of a fusion, with the better single sensor
    is_reference: bool
    seed_share: float | None  # of the variance of its balanced accuracy
    sensor_use: dict[str, SensorUse] | None  # of a fusion, by sensor
    curves: dict[str, dict[str, CorruptionCurve]]  # by sensor and corruption
    calibration: Calibration | None
    # Share of each true class (row) by predicted class, mean over seeds; NaN for a class that is absent.
    confusion: Float[np.ndarray, "L L"]

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
        parts += [describe(contrast) for contrast in (self.contrast, self.single) if contrast is not None]
        return "; ".join(parts)


def describe(contrast: Contrast) -> str:
    """The outcome of one comparison, in words."""
    links = {"better": "than", "worse": "than", "tied": "with", "not decided": "against"}
    return f"{contrast.outcome} {links[contrast.outcome]} {contrast.against}"


@dataclass(frozen=True)
class Comparison:
    """All models on one dataset."""

    models: dict[str, ModelSummary]  # baselines last
    reference: str  # the fusion with the least mean validation loss
    single: str  # the sensor whose own net has the least mean validation loss
    split: str  # that the verdicts stand on: "test", or "validation" where there is no test split
    seeds: list[int]
    seeds_needed: int
    confidence: float
    margin: float
    chance: float  # balanced accuracy of the class prior
    num_scenes: int
    pairs: list[Contrast]  # each model with each that comes later; exploratory


def compare(names: list[str], fusion_names: list[str], manifest: Manifest, settings: Report) -> Comparison:
    """Reads the results of these models and of the baselines, and compares them.

    The reference is chosen on the validation split, so that the test split has no say in it.

    Raises:
        UserError: when results are missing, or a model lacks a seed or a sample that others have.
    """
    evaluated = {name: evaluations.read(name) for name in (*names, *BASELINES)}
    seeds = sorted(evaluated[names[0]].seeds)
    split = "test" if manifest.has_test_split else "validation"
    parts = [part for part in ("validation", "test") if part in manifest.splits()]
    resampled = {
        part: resample_split(names, part, seeds, settings.draws, with_ranks=part == split) for part in parts
    }
    on_split = resampled[split]

    def validation_loss(name: str) -> float:
        return float(resampled["validation"].values(name, "loss").mean())

    reference = min(fusion_names, key=validation_loss)
    single = min([name for name in names if name not in fusion_names], key=validation_loss)
    accuracies = {name: on_split.accuracies(name) for name in names}

    def family(pairs: list[tuple[str, str]]) -> list[Contrast]:
        return statistics.contrast_family(
            accuracies, pairs, on_split.draws, settings.confidence, settings.margin
        )

    claims = family([(name, reference) for name in names if name != reference])
    against_reference = {claim.model: claim for claim in claims}
    others = [name for name in fusion_names if name != reference]
    against_single = {claim.model: claim for claim in family([(name, single) for name in others])}
    # One comparison has one outcome: this one is of the first family.
    against_single[reference] = against_reference[single].reversed()
    chance = float(on_split.values("prior", "balanced_accuracy").mean())
    models = {
        name: ModelSummary(
            evaluation=evaluation,
            metrics={part: resampled[part].summaries(name, settings.confidence) for part in parts},
            beats_prior=None if name == "prior" else on_split.beats_prior(name),
            mean_below_prior=bool(
                on_split.values(name, "loss").mean() < on_split.values("prior", "loss").mean()
            ),
            contrast=against_reference.get(name),
            single=against_single.get(name),
            is_reference=name == reference,
            seed_share=(
                statistics.seed_share(
                    accuracies[name].measured,
                    resampling.over_seeds(accuracies[name].resampled, on_split.draws),
                )
                if name in accuracies
                else None
            ),
            sensor_use=(
                sensor_use.uses(list(evaluation.probes.values()), settings.confidence, settings.margin)
                if name in fusion_names
                else None
            ),
            curves=sensor_use.curves(list(evaluation.probes.values()), chance) if name in names else {},
            calibration=(
                calibration.calibrate(resampled["validation"].guesses[name], on_split.guesses[name])
                if name in names
                else None
            ),
            confusion=_confusion(on_split.guesses[name]),
        )
        for name, evaluation in evaluated.items()
    }
    return Comparison(
        models=models,
        reference=reference,
        single=single,
        split=split,
        seeds=seeds,
        seeds_needed=statistics.seeds_needed(len(claims)),
        confidence=settings.confidence,
        margin=settings.margin,
        chance=chance,
        num_scenes=on_split.draws.scenes.shape[1],
        pairs=family(list(itertools.combinations(names, 2))),
    )


@dataclass(frozen=True)
class ResampledSplit:
    """All models' predictions on one split, and their metrics under the same draws."""

    guesses: dict[str, SplitPredictions]
    scenes: Int[np.ndarray, "N"]  # index of each sample's scene
    draws: Draws
    measured: dict[str, list[Metrics]]  # by model, of each seed
    metrics: dict[str, dict[str, Float[np.ndarray, "_ _"]]]  # by model and metric, under each draw and seed

    def values(self, name: str, metric: str) -> Float[np.ndarray, "S"]:
        """A metric of each seed; NaN where it is not defined."""
        return np.array([getattr(seed, metric) for seed in self.measured[name]], dtype=float)

    def draws_of(self, name: str) -> Draws:
        """A baseline has one run, whatever the number of seeds."""
        count = len(self.guesses[name].seeds)
        return self.draws if count > 1 else Draws(np.ones_like(self.draws.seeds[:, :1]), self.draws.scenes)

    def beats_prior(self, name: str) -> bool:
        lost = self.metrics[name]["loss"] - self.metrics["prior"]["loss"]
        return statistics.beats_prior(
            self.values(name, "loss") - self.values("prior", "loss"),
            resampling.over_seeds(lost, self.draws_of(name)),
            self.draws.scenes.shape[1],
        )

    def accuracies(self, name: str) -> Accuracies:
        guess = self.guesses[name]
        recalls = [metrics.recalls(metrics.confusion(logits, guess.labels)) for logits in guess.logits]
        return Accuracies(
            self.values(name, "balanced_accuracy"),
            self.metrics[name]["balanced_accuracy"],
            np.stack(recalls),
        )

    def summaries(self, name: str, confidence: float) -> dict[str, Summary]:
        """Every metric of a model with its intervals."""
        draws = self.draws_of(name)
        found = {}
        for metric in METRICS:
            array = self.values(name, metric)
            if np.isnan(array).any():
                found[metric] = Summary([None] * len(array), None, None, None, None, None, None)
                continue
            over_seeds = statistics.interval_over_seeds(array, confidence)
            resampled = self.metrics[name].get(metric)
            if resampled is None:  # ranks, on the split that no verdict stands on
                two_way = Interval(over_seeds.mean, None, None)
            elif metric == "balanced_accuracy":
                labels = self.guesses[name].labels
                two_way = statistics.interval_of_accuracy(
                    self.accuracies(name), labels, self.scenes, draws, confidence
                )
            elif metric == "accuracy" and array.min() == array.max() and array[0] in (0, 1):
                two_way = statistics.interval_of_share(array[0], draws.scenes.shape[1], confidence)
            else:
                two_way = statistics.two_way_interval(
                    array,
                    resampling.over_seeds(resampled, draws),
                    draws.scenes.shape[1],
                    confidence,
                    (0.0, np.inf if metric == "loss" else 1.0),
                )
            found[metric] = Summary(
                values=array.tolist(),
                mean=over_seeds.mean,
                sd=float(array.std(ddof=1)) if len(array) > 1 else None,
                low=two_way.low,
                high=two_way.high,
                seeds_low=over_seeds.low,
                seeds_high=over_seeds.high,
            )
        return found


def resample_split(
    names: list[str], split: str, seeds: list[int], num_draws: int, *, with_ranks: bool
) -> ResampledSplit:
    """Reads all predictions on a split, those of the baselines too, and resamples them alike.

    Raises:
        UserError: when a model's predictions are missing, or of other seeds or groups than the rest.
    """
    guesses = {name: predictions.read(name, split) for name in (*names, *BASELINES)}
    for name, guess in guesses.items():
        path = f"reports/predictions/{name}.parquet"
        for what in ("groups", "scenes", "labels", "num_logits"):
            if not np.array_equal(getattr(guess, what), getattr(guesses["prior"], what)):
                told = what.replace("_", " ").replace("num", "numbers of")
                raise UserError(f"{path}: holds other {told} than prior.parquet; run `dvc repro`")
        if name in names and guess.seeds != seeds:
            raise UserError(f"{path}: holds seeds {guess.seeds} instead of {seeds}; run `dvc repro`")
    _, scenes = np.unique(guesses["prior"].scenes, return_inverse=True)
    draws = resampling.draw(len(seeds), int(scenes.max()) + 1, num_draws)
    return ResampledSplit(
        guesses=guesses,
        scenes=scenes,
        draws=draws,
        measured={
            name: [metrics.measure(logits, guess.labels) for logits in guess.logits]
            for name, guess in guesses.items()
        },
        metrics={
            name: resampling.resample(guess.logits, guess.labels, scenes, draws, with_ranks=with_ranks)
            for name, guess in guesses.items()
        },
    )


def _confusion(guess: SplitPredictions) -> Float[np.ndarray, "L L"]:
    counts = np.mean([metrics.confusion(logits, guess.labels) for logits in guess.logits], axis=0)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def count_last_epoch_best(names: list[str]) -> dict[str, int]:
    """By model, the number of seeds whose best epoch was the last: they might have gone on improving.

    One that was stopped for want of improvement (`train.patience`) is none of them.
    """
    return {
        name: int((np.nan_to_num(losses, nan=np.inf).argmin(axis=1) == losses.shape[1] - 1).sum())
        for name, losses in ((name, records.read_history(name)["valid"]) for name in names)
    }


def write_statistics(comparison: Comparison, manifest: Manifest, last_epoch_best: dict[str, int]) -> None:
    """Writes what repeats to the last bit: metrics, contrasts, verdicts."""
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
        "last_epoch_best": last_epoch_best,
        "models": {name: _model_statistics(model) for name, model in comparison.models.items()},
        "pairs": [_contrast_statistics(pair) for pair in comparison.pairs],
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
        "single": _contrast_statistics(model.single),
        "seed_share": model.seed_share,
        "sensor_use": model.sensor_use and {sensor: asdict(use) for sensor, use in model.sensor_use.items()},
        "curves": {
            sensor: {name: asdict(curve) for name, curve in by_name.items()}
            for sensor, by_name in model.curves.items()
        },
        "calibration": model.calibration and asdict(model.calibration),
        "confusion": [[None if np.isnan(share) else share for share in row] for row in model.confusion],
        "verdict": model.verdict,
    }


def _contrast_statistics(contrast: Contrast | None) -> dict[str, Any] | None:
    if contrast is None:
        return None
    return {
        "model": contrast.model,
        "against": contrast.against,
        "difference": contrast.difference,
        "two_way": [contrast.two_way.low, contrast.two_way.high],
        "over_seeds": [contrast.over_seeds.low, contrast.over_seeds.high],
        "probability": contrast.probability,
        "p": contrast.p,
        "p_holm": contrast.p_holm,
        "p_tied": contrast.p_tied,
        "outcome": contrast.outcome,
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
