"""All models' predictions on one split, their metrics, and these under the same draws of seeds and scenes.

S = seeds;  N = samples
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from stages.lib.comparison.results import Summary
from stages.lib.core.errors import UserError
from stages.lib.evaluation import decisions, metrics
from stages.lib.evaluation import predictions as stored
from stages.lib.evaluation.decisions import Decisions
from stages.lib.evaluation.metrics import Metrics
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.statistics import bootstrap, intervals, significance, two_way
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies
from stages.lib.statistics.results import Interval

BASELINES = ("prior", "return_count")
_NEAR_CHANCE = 0.1  # of balanced accuracy
METRICS = [field.name for field in fields(Metrics)]


@dataclass(frozen=True)
class ResampledSplit:
    """All models' predictions on one split, and their metrics under the same draws."""

    predictions: dict[str, SplitPredictions]  # by model
    scenes: Int[np.ndarray, "N"]  # index of each sample's scene
    shares: Float[np.ndarray, "L"]  # of each class in the training split
    draws: BootstrapDraws
    measured: dict[str, list[Metrics]]  # by model, of each seed
    metrics: dict[str, dict[str, Float[np.ndarray, "_ _"]]]  # by model and metric, under each draw and seed

    def values(self, name: str, metric: str) -> Float[np.ndarray, "S"]:
        """A metric of each seed; NaN where it is not defined."""
        return np.array([getattr(seed, metric) for seed in self.measured[name]], dtype=float)

    @property
    def labels(self) -> Int[np.ndarray, "N"]:
        return self.predictions["prior"].labels

    def decisions(self, name: str) -> Decisions:
        """A model's decisions with the sensors in every state.

        Raises:
            UserError: when they are missing, or of other seeds or groups than its predictions.
        """
        found, expected = decisions.read(name), self.predictions[name]
        for what in ("seeds", "groups"):
            if getattr(found, what) != getattr(expected, what):
                path = decisions.FOLDER / f"{name}.parquet"
                raise UserError(f"{path}: has other {what} than {name}'s predictions; run `dvc repro`")
        return found

    def draws_of(self, name: str) -> BootstrapDraws:
        """A baseline has one run, whatever the number of seeds."""
        count = len(self.predictions[name].seeds)
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

    def scene_accuracies(self, name: str) -> Float[np.ndarray, "S G"]:
        """What each scene adds to the balanced accuracy of each seed."""
        found = self.predictions[name]
        return two_way.scene_accuracies(found.decisions(self.shares), found.labels, self.scenes)

    def failed_seeds(self, name: str) -> list[int]:
        """Seeds whose balanced accuracy is near chance: their training did not work."""
        accuracies = self.values(name, "balanced_accuracy")
        limit = self.values("prior", "balanced_accuracy").mean() + _NEAR_CHANCE
        pairs = zip(self.predictions[name].seeds, accuracies, strict=True)
        return [seed for seed, accuracy in pairs if accuracy <= limit]

    def accuracies(self, name: str) -> Accuracies:
        found = self.predictions[name]
        weighed = metrics.weighed(found.logits, self.shares)
        recalls = [metrics.recalls(metrics.confusion(logits, found.labels)) for logits in weighed]
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
                labels = self.predictions[name].labels
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


def read(
    names: list[str],
    split: str,
    seeds: list[int],
    num_draws: int,
    shares: Float[np.ndarray, "L"],
    *,
    with_ranks: bool,
) -> ResampledSplit:
    """Reads all predictions on a split, those of the baselines too, and resamples them alike.

    Raises:
        UserError: when a model's predictions are missing, or of other seeds or groups than the rest.
    """
    predictions = {name: stored.read(name, split) for name in (*names, *BASELINES)}
    for name, found in predictions.items():
        path = f"reports/predictions/{name}.parquet"
        for what in ("groups", "scenes", "labels", "num_logits", "conditions"):
            if not np.array_equal(getattr(found, what), getattr(predictions["prior"], what)):
                kind = what.replace("_", " ").replace("num", "numbers of")
                raise UserError(f"{path}: has other {kind} than prior.parquet; run `dvc repro`")
        if name in names and found.seeds != seeds:
            raise UserError(f"{path}: has seeds {found.seeds} instead of {seeds}; run `dvc repro`")
    _, scenes = np.unique(predictions["prior"].scenes, return_inverse=True)
    draws = bootstrap.draw(len(seeds), int(scenes.max()) + 1, num_draws)
    return ResampledSplit(
        predictions=predictions,
        scenes=scenes,
        shares=shares,
        draws=draws,
        measured={
            name: [metrics.measure(logits, found.labels, shares) for logits in found.logits]
            for name, found in predictions.items()
        },
        metrics={
            name: bootstrap.resample(found.logits, found.labels, scenes, draws, shares, with_ranks=with_ranks)
            for name, found in predictions.items()
        },
    )
