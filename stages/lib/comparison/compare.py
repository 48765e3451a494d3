"""From the results of all models to the comparison: every number and verdict of the report."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from stages.lib.comparison import calibration, sensor_use
from stages.lib.comparison.calibration import Calibration
from stages.lib.comparison.sensor_use import CorruptionCurve, SensorUse
from stages.lib.core.errors import UserError
from stages.lib.evaluation import metrics, predictions, results
from stages.lib.evaluation.metrics import Metrics
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.evaluation.results import Evaluation
from stages.lib.models import records
from stages.lib.params import Report
from stages.lib.statistics import bootstrap, intervals, significance
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies, Interval
from stages.lib.statistics.significance import Contrast, Difference
from stages.lib.tensors.manifest import Manifest

BASELINES = ("prior", "return_count")

METRICS = [field.name for field in fields(Metrics)]

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
    single: str  # the sensor whose own net has the highest mean balanced accuracy on validation
    split: str  # that the verdicts stand on: "test", or "validation" where there is no test split
    seeds: list[int]
    seeds_needed: int
    confidence: float
    margin: float
    chance: float  # balanced accuracy of the class prior
    num_scenes: int
    pairs: list[Difference]  # each model with each that comes later; exploratory
    last_epoch_best: dict[str, int]  # by model, the number of seeds whose best epoch was the last


def compare(names: list[str], fusion_names: list[str], manifest: Manifest, settings: Report) -> Comparison:
    """Reads the results of these models and of the baselines, and compares them.

    The reference is chosen on the validation split, so that the test split has no say in it.

    Raises:
        UserError: when results are missing, or a model lacks a seed or a sample that others have.
    """
    evaluated = {name: results.read(name) for name in (*names, *BASELINES)}
    seeds = sorted(evaluated[names[0]].seeds)
    split = "test" if manifest.has_test_split else "validation"
    parts = [part for part in manifest.splits() if part != "train"]
    resampled = {
        part: resample_split(names, part, seeds, settings.draws, with_ranks=part == split) for part in parts
    }
    on_split = resampled[split]

    def on_validation(name: str, metric: str) -> float:
        return float(resampled["validation"].values(name, metric).mean())

    reference = min(fusion_names, key=lambda name: on_validation(name, "loss"))
    # By what the verdicts are about: by its loss the weaker of the two might be chosen, and easily passed.
    single = max(
        (name for name in names if name not in fusion_names),
        key=lambda name: on_validation(name, "balanced_accuracy"),
    )
    accuracies = {name: on_split.accuracies(name) for name in names}

    def family(pairs: list[tuple[str, str]]) -> list[Contrast]:
        return significance.contrast_family(
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
                intervals.seed_share(
                    accuracies[name].measured,
                    bootstrap.over_seeds(accuracies[name].resampled, on_split.draws),
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
        seeds_needed=significance.seeds_needed(len(claims)),
        confidence=settings.confidence,
        margin=settings.margin,
        chance=chance,
        num_scenes=on_split.draws.scenes.shape[1],
        pairs=significance.differences(
            accuracies, list(itertools.combinations(names, 2)), on_split.draws, settings.confidence
        ),
        last_epoch_best={
            name: _last_epoch_best(name) for name in names if evaluated[name].cost.trainable_parameters
        },
    )


@dataclass(frozen=True)
class ResampledSplit:
    """All models' predictions on one split, and their metrics under the same draws."""

    guesses: dict[str, SplitPredictions]
    scenes: Int[np.ndarray, "N"]  # index of each sample's scene
    draws: BootstrapDraws
    measured: dict[str, list[Metrics]]  # by model, of each seed
    metrics: dict[str, dict[str, Float[np.ndarray, "_ _"]]]  # by model and metric, under each draw and seed

    def values(self, name: str, metric: str) -> Float[np.ndarray, "S"]:
        """A metric of each seed; NaN where it is not defined."""
        return np.array([getattr(seed, metric) for seed in self.measured[name]], dtype=float)

    def draws_of(self, name: str) -> BootstrapDraws:
        """A baseline has one run, whatever the number of seeds."""
        count = len(self.guesses[name].seeds)
        return (
            self.draws
            if count > 1
            else BootstrapDraws(np.ones_like(self.draws.seeds[:, :1]), self.draws.scenes)
        )

    def beats_prior(self, name: str) -> bool:
        lost = self.metrics[name]["loss"] - self.metrics["prior"]["loss"]
        return significance.beats_prior(
            self.values(name, "loss") - self.values("prior", "loss"),
            bootstrap.over_seeds(lost, self.draws_of(name)),
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
            over_seeds = intervals.interval_over_seeds(array, confidence)
            resampled = self.metrics[name].get(metric)
            if resampled is None:  # ranks, on the split that no verdict stands on
                two_way = Interval(over_seeds.mean, None, None)
            elif metric == "balanced_accuracy":
                labels = self.guesses[name].labels
                two_way = intervals.interval_of_accuracy(
                    self.accuracies(name), labels, self.scenes, draws, confidence
                )
            elif metric == "accuracy" and array.min() == array.max() and array[0] in (0, 1):
                two_way = intervals.interval_of_share(array[0], draws.scenes.shape[1], confidence)
            else:
                two_way = intervals.two_way_interval(
                    array,
                    bootstrap.over_seeds(resampled, draws),
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
    draws = bootstrap.draw(len(seeds), int(scenes.max()) + 1, num_draws)
    return ResampledSplit(
        guesses=guesses,
        scenes=scenes,
        draws=draws,
        measured={
            name: [metrics.measure(logits, guess.labels) for logits in guess.logits]
            for name, guess in guesses.items()
        },
        metrics={
            name: bootstrap.resample(guess.logits, guess.labels, scenes, draws, with_ranks=with_ranks)
            for name, guess in guesses.items()
        },
    )


def _confusion(guess: SplitPredictions) -> Float[np.ndarray, "L L"]:
    counts = np.mean([metrics.confusion(logits, guess.labels) for logits in guess.logits], axis=0)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def _last_epoch_best(name: str) -> int:
    """Seeds whose best epoch was the last: they might have gone on improving.

    One that was stopped for want of improvement (`train.patience`) is none of them.
    """
    losses = np.nan_to_num(records.read_history(name)["valid"], nan=np.inf)
    return int((losses.argmin(axis=1) == losses.shape[1] - 1).sum())
