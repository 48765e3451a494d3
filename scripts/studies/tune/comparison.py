"""The tuned models against the default ones: every number and outcome of the page; written to reports/tune/tune.json.

S = seeds;  G = scenes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from scripts.studies.tune import grid
from scripts.studies.tune.grid import Grid, Point
from stages.lib.comparison import results
from stages.lib.comparison.results import Comparison
from stages.lib.core.names import SENSORS
from stages.lib.evaluation import predictions
from stages.lib.statistics import significance, two_way
from stages.lib.statistics.results import Contrast, Difference, Interval
from stages.lib.tensors import manifest as manifests

Losses = Mapping[str, Mapping[Point, Float[np.ndarray, "S"]]]  # of the search, by model and point
RUNS = ("default", "tuned")


@dataclass(frozen=True)
class Trained:
    """A model in one of the two runs."""

    learning_rate: float
    weight_decay: float
    accuracy: Interval  # balanced accuracy, over seeds and scenes
    rank: int | None  # among the fusions, by mean balanced accuracy; None for a sensor


@dataclass(frozen=True)
class TunedModel:
    """A model with default and with its own settings."""

    kind: str
    has_weights: bool  # of its own; without any there is nothing to choose
    losses: list[float | None]  # mean validation loss at each point of the search; None where a seed diverged
    point: Point  # with the lowest of them; the default without weights
    edges: list[str]  # ends of the grid at which this point lies
    default: Trained
    tuned: Trained
    # Whether both runs trained it alike: a late fusion over frozen networks also needs the same networks.
    is_same: bool
    gain: Contrast | Difference  # tuned less default; a contrast for a fusion, untested for a sensor


@dataclass(frozen=True)
class Front:
    """A run's answer."""

    reference: str  # the fusion with the lowest validation loss
    names: list[str]  # the reference, and all fusions that are not shown to be worse
    beats_prior: bool  # whether the reference is shown to be better than the class prior


@dataclass(frozen=True)
class Tuning:
    """The study's results."""

    split: str  # that all accuracies come from
    confidence: float
    margin: float
    seeds: list[int]
    search_seeds: list[int]
    num_scenes: int
    points: list[Point]
    default: Point
    fronts: dict[str, Front]  # by run
    failed: dict[str, dict[str, list[int]]]  # by run and model, seeds that did not train
    models: dict[str, TunedModel]  # in the order of params.yaml

    @property
    def fusions(self) -> list[str]:
        return [name for name, model in self.models.items() if model.kind != "unimodal"]

    @property
    def order(self) -> list[str]:
        """All models as they are shown: fusions by their accuracy when tuned, then sensors."""
        fusions = sorted(self.fusions, key=lambda name: self.models[name].tuned.rank or 0)
        return [*fusions, *(name for name in self.models if name not in fusions)]


def compare(
    folders: Mapping[str, Path],
    losses: Losses,
    chosen: Mapping[str, Point],
    space: Grid,
    search_seeds: list[int],
    has_frozen_nets: Mapping[str, bool],
    has_weights: Mapping[str, bool],
) -> Tuning:
    """Compares the two runs.

    Args:
        folders: of both runs, laid out like the project.
        losses: of the search.
        chosen: each model's point.
        has_frozen_nets: by model, whether it is a head over frozen networks.
        has_weights: by model, whether it has weights of its own to train.
    """
    compared = {run: _read_comparison(folders[run]) for run in RUNS}
    default = compared["default"]
    names = [name for name, model in default.models.items() if model.kind != "baseline"]
    values = {run: _scene_accuracies(folders[run], names, default.split) for run in RUNS}
    failed = {run: _failed_seeds(compared[run]) for run in RUNS}
    gains = _gains(values, default, set().union(*failed.values()))
    ranks = {run: _ranks(compared[run]) for run in RUNS}
    same_nets = all(chosen[sensor] == space.default for sensor in SENSORS)

    def trained(name: str, run: str, point: Point) -> Trained:
        summary = compared[run].models[name].metrics[default.split]["balanced_accuracy"]
        assert summary.mean is not None  # of this metric
        return Trained(
            learning_rate=point.rate_of(has_frozen_nets[name]),
            weight_decay=point.weight_decay,
            accuracy=Interval(summary.mean, summary.low, summary.high),
            rank=ranks[run].get(name),
        )

    return Tuning(
        split=default.split,
        confidence=default.confidence,
        margin=default.margin,
        seeds=default.seeds,
        search_seeds=search_seeds,
        num_scenes=default.num_scenes,
        points=list(space.points),
        default=space.default,
        fronts={run: _front(compared[run]) for run in RUNS},
        failed=failed,
        models={
            name: TunedModel(
                kind=default.models[name].kind,
                has_weights=has_weights[name],
                losses=[_finite(float(losses[name][point].mean())) for point in space.points],
                point=chosen[name],
                edges=grid.edges(chosen[name], space.points) if has_weights[name] else [],
                default=trained(name, "default", space.default),
                tuned=trained(name, "tuned", chosen[name]),
                is_same=chosen[name] == space.default and (same_nets or default.models[name].kind != "late"),
                gain=gains[name],
            )
            for name in names
        },
    )


def write(tuning: Tuning, path: Path) -> None:
    path.write_text(json.dumps(asdict(tuning), indent=2) + "\n")


def read(path: Path) -> Tuning:
    return TypeAdapter(Tuning).validate_json(path.read_bytes())


def _read_comparison(folder: Path) -> Comparison:
    with chdir(folder):
        return results.read()


def _scene_accuracies(folder: Path, names: list[str], split: str) -> dict[str, Float[np.ndarray, "S G"]]:
    """What each scene adds to the balanced accuracy of each seed, by model."""
    with chdir(folder):
        shares = manifests.load(manifests.FOLDER).class_shares
        found = {name: predictions.read(name, split) for name in names}
    values = {}
    for name, predicted in found.items():
        _, scenes = np.unique(predicted.scenes, return_inverse=True)
        values[name] = two_way.scene_accuracies(predicted.decisions(shares), predicted.labels, scenes)
    return values


def _gains(
    values: Mapping[str, dict[str, Float[np.ndarray, "S G"]]], compared: Comparison, failed: set[str]
) -> dict[str, Contrast | Difference]:
    """Each model's gain by tuning, paired by seed and scene; those of all fusions are one family of claims."""
    before = {f"{name}, default": found for name, found in values["default"].items()}
    after = {f"{name}, tuned": found for name, found in values["tuned"].items()}
    pairs = [(f"{name}, tuned", f"{name}, default") for name in compared.fusions]
    contrasts = significance.family(
        before | after,
        pairs,
        compared.confidence,
        compared.margin,
        failed=[f"{name}, tuned" for name in failed],
    )
    gains: dict[str, Contrast | Difference] = dict(zip(compared.fusions, contrasts, strict=True))
    for name in values["default"].keys() - gains.keys():
        differences = values["tuned"][name] - values["default"][name]
        gains[name] = significance.difference(
            f"{name}, tuned", f"{name}, default", differences, compared.confidence
        )
    return gains


def _front(compared: Comparison) -> Front:
    has_learned = bool(compared.models[compared.reference].beats_prior)
    return Front(compared.reference, compared.front, has_learned)


def _failed_seeds(compared: Comparison) -> dict[str, list[int]]:
    return {name: model.failed_seeds for name, model in compared.models.items() if model.failed_seeds}


def _ranks(compared: Comparison) -> dict[str, int]:
    """Each fusion's place by mean balanced accuracy; equal ones share the better place."""
    accuracies = {name: compared.accuracy(name) for name in compared.fusions}
    return {
        name: 1 + sum(other > accuracy for other in accuracies.values())
        for name, accuracy in accuracies.items()
    }


def _finite(loss: float) -> float | None:
    return loss if np.isfinite(loss) else None
