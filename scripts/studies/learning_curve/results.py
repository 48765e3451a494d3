"""From runs with different shares of the training scenes to the numbers of a learning curve.

Reads data/tensors/ and reports/ in the folder of each run. What one run says about its models comes from its own
statistics.json; only comparisons between runs are computed here.

S = seeds;  G = test scenes
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stages.lib.comparison import results
from stages.lib.comparison.results import Comparison, Summary
from stages.lib.core.errors import UserError
from stages.lib.evaluation import predictions
from stages.lib.models import records
from stages.lib.statistics import significance, two_way
from stages.lib.statistics.results import Contrast
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.training import subsample

_SAME = ("split", "seeds", "classes", "confidence", "margin", "num_scenes")


@dataclass(frozen=True)
class Size:
    """All models, trained on one share of the training scenes."""

    share: float
    groups: list[int]  # for training, by seed
    scenes: list[int]  # of these groups, by seed
    epochs: int  # most of any seed of the first model
    compared: Comparison

    @property
    def mean_groups(self) -> float:
        return float(np.mean(self.groups))

    @property
    def accuracies(self) -> dict[str, Summary]:
        """Balanced accuracy of every trained model; the baselines see the whole training split at every size."""
        split = self.compared.split
        return {
            name: model.metrics[split]["balanced_accuracy"]
            for name, model in self.compared.models.items()
            if model.kind != "baseline"
        }

    @property
    def contrasts(self) -> list[Contrast]:
        """Every other fusion against the reference of this size."""
        return [model.contrast for model in self.compared.models.values() if model.contrast]

    @property
    def singles(self) -> list[Contrast]:
        """Every fusion against the better single sensor of this size."""
        return [model.single for model in self.compared.models.values() if model.single]


@dataclass(frozen=True)
class Change:
    """How a quantity changes from the smallest size to the largest: a claim of a family."""

    what: str  # a model; or two, such as "late less addition"
    small: float  # at the smallest size
    large: float
    claim: Contrast  # "better": it is higher at the largest size


@dataclass(frozen=True)
class Curve:
    """All models at all sizes of the training data, and what changes from the smallest to the largest."""

    manifest: Manifest
    timing: dict[str, Any]  # reports/timing/train-NAME.json of the first model at the largest size
    sizes: list[Size]  # by ascending share
    gains: list[Change]  # of each model's balanced accuracy
    changes: list[Change]  # of the difference between each late fusion and each other fusion


@dataclass(frozen=True)
class _Run:
    """One run as its folder has it."""

    size: Size
    manifest: Manifest
    timing: dict[str, Any]
    groups: list[str]  # of the split that verdicts stand on
    values: dict[str, Float[np.ndarray, "S G"]]  # by model: what each scene adds to balanced accuracy


def read(folders: dict[float, Path]) -> Curve:
    """Reads the runs and compares them.

    Args:
        folders: of the runs, by the share of the training scenes.

    Raises:
        UserError: when results are missing, or the runs differ in their data, models or seeds.
    """
    runs = [_read_run(share, folder) for share, folder in sorted(folders.items())]
    _require_same(runs, [folder for _, folder in sorted(folders.items())])
    return Curve(
        manifest=runs[-1].manifest,
        timing=runs[-1].timing,
        sizes=[run.size for run in runs],
        gains=_gains(runs[0], runs[-1]) if len(runs) > 1 else [],
        changes=_changes(runs[0], runs[-1]) if len(runs) > 1 else [],
    )


def _read_run(share: float, folder: Path) -> _Run:
    with contextlib.chdir(folder):  # all readers take paths relative to a project's folder
        compared = results.read()
        manifest = manifests.load(manifests.FOLDER)
        train = stored_groups.read(manifests.FOLDER, "train")
        names = [name for name, model in compared.models.items() if model.kind != "baseline"]
        found = {name: predictions.read(name, compared.split) for name in names}
        epochs = records.read_history(names[0])["valid"].shape[1]
        timing = records.read_timing(f"train-{names[0]}")
    drawn = [[train[place] for place in subsample.draw(train, share, seed)] for seed in compared.seeds]
    first = next(iter(found.values()))
    _, scenes = np.unique(first.scenes, return_inverse=True)
    return _Run(
        size=Size(
            share=share,
            groups=[len(groups) for groups in drawn],
            scenes=[len({group.scene for group in groups}) for groups in drawn],
            epochs=epochs,
            compared=compared,
        ),
        manifest=manifest,
        timing=timing,
        groups=first.groups,
        values={
            name: two_way.scene_accuracies(part.decisions(manifest.class_shares), part.labels, scenes)
            for name, part in found.items()
        },
    )


def _require_same(runs: list[_Run], folders: list[Path]) -> None:
    """Raises UserError unless all runs have the same data, models and seeds, so that values can be paired."""
    first = runs[0]
    for run, folder in zip(runs[1:], folders[1:], strict=True):
        pairs = {
            key: (getattr(first.size.compared, key), getattr(run.size.compared, key)) for key in _SAME
        } | {
            "data": (first.manifest.digest, run.manifest.digest),
            "groups": (first.groups, run.groups),
            "models": (list(first.values), list(run.values)),
        }
        for what, (expected, found) in pairs.items():
            if expected != found:
                raise UserError(
                    f"{folder}: {what.replace('_', ' ')} differ from those of {folders[0]}; "
                    "all shares take the same settings"
                )


def _gains(small: _Run, large: _Run) -> list[Change]:
    """One family: every model at the largest size against itself at the smallest."""
    return _family(
        {name: ([name], small.values[name], large.values[name]) for name in large.values}, small, large
    )


def _changes(small: _Run, large: _Run) -> list[Change]:
    """One family: the difference of each late fusion to each other fusion, at both sizes."""
    models, fusions = large.size.compared.models, large.size.compared.fusions
    late = [name for name in fusions if models[name].kind == "late"]
    differences = {
        f"{name} less {other}": (
            [name, other],
            small.values[name] - small.values[other],
            large.values[name] - large.values[other],
        )
        for name in late
        for other in fusions
        if other not in late
    }
    return _family(differences, small, large)


def _family(
    quantities: dict[str, tuple[list[str], Float[np.ndarray, "S G"], Float[np.ndarray, "S G"]]],
    small: _Run,
    large: _Run,
) -> list[Change]:
    """Changes of several quantities, corrected as one family; nothing is claimed about models with failed seeds.

    Args:
        quantities: by name, the models that it comes from, and its values at the smallest and the largest size.
    """
    compared = large.size.compared
    values: dict[str, Float[np.ndarray, "S G"]] = {}
    failed = []
    for name, (models, at_small, at_large) in quantities.items():
        values |= {_key(name, small): at_small, _key(name, large): at_large}
        if any(run.size.compared.models[model].failed_seeds for run in (small, large) for model in models):
            failed.append(_key(name, large))
    pairs = [(_key(name, large), _key(name, small)) for name in quantities]
    claims = significance.family(values, pairs, compared.confidence, compared.margin, failed)
    return [
        Change(name, float(values[before].mean()), float(values[after].mean()), claim)
        for name, (after, before), claim in zip(quantities, pairs, claims, strict=True)
    ]


def _key(name: str, run: _Run) -> str:
    return f"{name}, {run.size.share:.0%}"


def as_json(curve: Curve) -> dict[str, Any]:
    """The numbers of the curve for other programs."""
    compared = curve.sizes[-1].compared
    return {
        "dataset": curve.manifest.source,
        "digest": curve.manifest.digest,
        "split": compared.split,
        "scenes": compared.num_scenes,
        "seeds": compared.seeds,
        "confidence": compared.confidence,
        "margin": compared.margin,
        "shares": [_size_as_json(size) for size in curve.sizes],
        "gains": [asdict(gain) for gain in curve.gains],
        "changes": [asdict(change) for change in curve.changes],
    }


def _size_as_json(size: Size) -> dict[str, Any]:
    compared = size.compared
    return {
        "share": size.share,
        "training_groups": size.mean_groups,
        "training_groups_by_seed": size.groups,
        "training_scenes_by_seed": size.scenes,
        "epochs": size.epochs,
        "reference": compared.reference,
        "single": compared.single,
        "models": {
            name: {
                "balanced_accuracy": accuracy.mean,
                "interval": [accuracy.low, accuracy.high],
                "by_seed": accuracy.values,
                "failed_seeds": compared.models[name].failed_seeds,
            }
            for name, accuracy in size.accuracies.items()
        },
        "against_reference": [asdict(claim) for claim in size.contrasts],
        "against_single": [asdict(claim) for claim in size.singles],
    }
