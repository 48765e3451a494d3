"""Two-way bootstrap: every metric with other seeds and other scenes.

Seeds and scenes are drawn together, with replacement (the pigeonhole bootstrap of Owen 2007, arXiv 0712.1111).
Other seeds stand for another training, other scenes for other test data. Of each, one fewer is drawn than there
are, so that the spread of a mean is not too small (McCarthy and Snowden 1985).

S = seeds;  N = samples;  G = scenes;  D = draws;  K = logits: 1 for two classes, else one per class
L = classes;  R = rows
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stages.lib.evaluation import metrics

# Metrics that rank the samples cost a sort's length per draw rather than a scene's.
_RANK_DRAWS = 2000
_CHUNK = 500  # draws at a time; bounds the memory


@dataclass(frozen=True)
class BootstrapDraws:
    """How often each seed and each scene was drawn."""

    seeds: UInt8[np.ndarray, "D S"]
    scenes: UInt8[np.ndarray, "D G"]


def draw(num_seeds: int, num_scenes: int, num_draws: int, *, seed: int = 0) -> BootstrapDraws:
    """Draws that depend on these numbers alone, so that models compared under them are paired."""
    of_seeds, of_scenes = np.random.default_rng(seed).spawn(2)
    return BootstrapDraws(_counts(num_seeds, num_draws, of_seeds), _counts(num_scenes, num_draws, of_scenes))


def _counts(count: int, num_draws: int, generator: np.random.Generator) -> UInt8[np.ndarray, "D count"]:
    if count == 1:
        return np.ones((num_draws, 1), dtype=np.uint8)
    chosen = generator.integers(count, size=(num_draws, count - 1))
    counts = np.zeros((num_draws, count), dtype=np.uint8)
    np.add.at(counts, (np.arange(num_draws)[:, None], chosen), 1)
    return counts


def over_seeds(values: Float[np.ndarray, "D S"], draws: BootstrapDraws) -> Float[np.ndarray, "D"]:
    """Each draw's mean over the seeds that it drew."""
    weights = draws.seeds[: len(values)].astype(np.float64)
    return (values * weights).sum(axis=1) / weights.sum(axis=1)


def accuracies(
    is_right: Bool[np.ndarray, "R N"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    drawn: UInt8[np.ndarray, "D G"],
) -> Float[np.ndarray, "D R"]:
    """Balanced accuracy of R rows of decisions under each draw of scenes; NaN where a draw holds no sample at all."""
    hits, counts = [], []
    for label in np.unique(labels):
        members = labels == label
        in_scene = np.zeros((drawn.shape[1], int(members.sum())))
        in_scene[scenes[members], np.arange(in_scene.shape[1])] = 1
        hits.append(in_scene @ is_right[:, members].T)
        counts.append(in_scene.sum(axis=1))
    stacked = np.concatenate([*hits, np.stack(counts, axis=1)], axis=1)
    parts = []
    for chunk in _chunks(drawn):
        sums = chunk @ stacked
        of_class = sums[:, -len(counts) :, None]
        right = sums[:, : -len(counts)].reshape(len(sums), len(counts), len(is_right))
        with np.errstate(divide="ignore", invalid="ignore"):
            recalls = np.where(of_class > 0, right / of_class, 0)
            parts.append(recalls.sum(axis=1) / (of_class > 0).sum(axis=1))
    return np.concatenate(parts)


def resample(
    logits: Float[np.ndarray, "S N K"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    draws: BootstrapDraws,
    shares: Float[np.ndarray, "L"],
    *,
    with_ranks: bool = True,
) -> dict[str, Float[np.ndarray, "D S"]]:
    """Every metric of every seed's predictions under each draw of scenes.

    Metrics that rank samples come with fewer draws, the first of all; they are left out where the split
    leaves them undefined. A value is NaN where a draw does. The calibration error keeps the whole split's
    bins.

    Args:
        scenes: index of each sample's scene.
        shares: of each class in the training split; balanced accuracy and F1 weigh decisions by them.
        with_ranks: whether metrics that rank samples, which take most of the time, are wanted at all.
    """
    log_probabilities = [metrics.log_probabilities(part) for part in logits]
    num_scenes = draws.scenes.shape[1]
    decisions = [metrics.predicted(part) for part in metrics.weighed(logits, shares)]
    sums = [
        _SceneSums(part, decided, labels, scenes, num_scenes)
        for part, decided in zip(log_probabilities, decisions, strict=True)
    ]
    # All seeds in one product, since the draws are by far its largest factor.
    stacked = np.concatenate([part.sums for part in sums], axis=1)
    ends = np.cumsum([part.sums.shape[1] for part in sums])[:-1]
    chunks = []
    for drawn in _chunks(draws.scenes):
        of_seeds = np.split(drawn @ stacked, ends, axis=1)
        chunks.append([part.metrics(drawn_sums) for part, drawn_sums in zip(sums, of_seeds, strict=True)])
    found = {
        name: np.concatenate([np.stack([seed[name] for seed in chunk], axis=1) for chunk in chunks])
        for name in chunks[0][0]
    }
    classes = metrics.ranked_classes(labels, log_probabilities[0].shape[1])
    if classes and with_ranks:
        drawn = draws.scenes[: max(200, _RANK_DRAWS // len(classes))]
        areas = np.stack(
            [_areas(part, labels, scenes, classes, drawn) for part in log_probabilities], axis=-1
        )
        found["auroc"], found["average_precision"] = areas
    return found


def _areas(
    log_probability: Float[np.ndarray, "N L"],
    labels: Int[np.ndarray, "N"],
    scenes: Int[np.ndarray, "N"],
    classes: list[int],
    drawn: UInt8[np.ndarray, "D G"],
) -> Float[np.ndarray, "2 D"]:
    """Area under the ROC curve and average precision of one seed, means over classes."""
    by_class = [
        np.concatenate(
            [
                metrics.ranked_areas(
                    metrics.ranking_score(log_probability, label), labels == label, chunk[:, scenes]
                )
                for chunk in _chunks(drawn)
            ],
            axis=1,
        )
        for label in classes
    ]
    return np.mean(by_class, axis=0)


class _SceneSums:
    """What all metrics but those of ranks are made of, summed over the samples of each scene."""

    def __init__(
        self,
        log_probability: Float[np.ndarray, "N L"],
        decided: Int[np.ndarray, "N"],
        labels: Int[np.ndarray, "N"],
        scenes: Int[np.ndarray, "N"],
        num_scenes: int,
    ) -> None:
        num_samples, num_classes = log_probability.shape
        truth, predicted = np.eye(num_classes)[labels], np.eye(num_classes)[decided]
        right = (log_probability.argmax(axis=1) == labels).astype(float)
        bins = metrics.calibration_bins(log_probability)
        gaps = np.exp(log_probability.max(axis=1)) - right
        in_bin = np.zeros((num_samples, len(bins)))
        for place, members in enumerate(bins):
            in_bin[members, place] = gaps[members]
        columns = {
            "count": np.ones((num_samples, 1)),
            "loss": -log_probability[np.arange(num_samples), labels][:, None],
            "brier": metrics.sample_briers(log_probability, labels)[:, None],
            "right": right[:, None],
            "truth": truth,
            "predicted": predicted,
            "hits": truth * predicted,
            "gaps": in_bin,
        }
        self._splits = np.cumsum([values.shape[1] for values in columns.values()])[:-1]
        self._rare = metrics.rarer_class(truth.sum(axis=0))
        self._names = list(columns)
        rows = np.concatenate(list(columns.values()), axis=1)
        self.sums = np.zeros((num_scenes, rows.shape[1]))
        np.add.at(self.sums, scenes, rows)

    def metrics(self, drawn: Float[np.ndarray, "D F"]) -> dict[str, Float[np.ndarray, "D"]]:
        """Metrics from these sums over the scenes of each draw."""
        parts = dict(zip(self._names, np.split(drawn, self._splits, axis=1), strict=True))
        count = parts["count"][:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = parts["hits"] / parts["truth"]  # NaN where a draw holds no sample of the class
            f1 = 2 * parts["hits"] / (parts["truth"] + parts["predicted"])
            occurs = parts["truth"] > 0
            num_occurring = occurs.sum(axis=1)
            found = {name: parts[name][:, 0] / count for name in ("loss", "brier")}
            found["accuracy"] = parts["right"][:, 0] / count
            found["balanced_accuracy"] = np.where(occurs, recall, 0).sum(axis=1) / num_occurring
            found["f1"] = np.where(occurs, f1, 0).sum(axis=1) / num_occurring
            found["ece"] = np.abs(parts["gaps"]).sum(axis=1) / count
        found["f1_rare"] = f1[:, self._rare]
        return found


def _chunks(drawn: UInt8[np.ndarray, "D G"]) -> Iterator[Float[np.ndarray, "chunk G"]]:
    for start in range(0, len(drawn), _CHUNK):
        yield drawn[start : start + _CHUNK].astype(np.float64)
