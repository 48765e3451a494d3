"""The variants of the zoo's main run: all fusions at one number of parameters, and fused at other places.

A variant has the seeds and the data of the main run, so its models are compared with those of the main run seed by
seed and scene by scene.

S = seeds;  G = scenes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scripts.studies import parameters
from scripts.studies.runs import Run
from stages.lib import params
from stages.lib.comparison import results
from stages.lib.comparison.results import Comparison, ModelResult, Summary
from stages.lib.evaluation import predictions
from stages.lib.params import Params
from stages.lib.statistics import significance, two_way
from stages.lib.statistics.results import Contrast
from stages.lib.tensors import manifest as manifests

# The most different operators: one keeps both sensors' maps, the others join them by a sum, a product, a selection,
# low-rank products of all pairs, a modulation of one by the other, a learned gate, and attention.
DIFFERENT = [
    "concatenation",
    "addition",
    "hadamard",
    "maximum",
    "low_rank",
    "film",
    "gated",
    "cross_attention",
]
PLACED = ["concatenation", "addition"]
PLACES = (1, 2, 3)  # of network.fuse_after
MATCHED = "matched"


def list_runs(main: Sequence[str]) -> list[Run]:
    """The variants of a main run with these settings, of the operators that it contains."""
    settings = parameters.resolved(main)
    runs = []
    different = [name for name in DIFFERENT if name in settings.intermediate]
    if different and not settings.network.match_parameters:
        only = _only(different, settings)
        runs.append(Run(MATCHED, (*main, "network.match_parameters=true", *only)))
    placed = [name for name in PLACED if name in settings.intermediate]
    if placed:
        runs += [
            Run(place_name(place), (*main, f"network.fuse_after={place}", *_only(placed, settings)))
            for place in PLACES
            if place != settings.network.fuse_after
        ]
    return runs


def place_name(place: int) -> str:
    """The name of the run that fuses after this block."""
    return f"fuse-after-{place}"


def _only(names: list[str], settings: Params) -> list[str]:
    """Settings for these fusions of feature maps, and one late fusion."""
    late = "late" if "late" in settings.late else settings.late[0]
    return [f"intermediate=[{','.join(names)}]", f"late=[{late}]", f"fusion={names[0]}"]


@dataclass(frozen=True)
class RunResults:
    """What a run found."""

    settings: Params
    compared: Comparison
    values: dict[str, Float[np.ndarray, "S G"]]  # by model: what each scene adds to balanced accuracy

    def accuracy(self, name: str) -> Summary:
        return self.model(name).metrics[self.compared.split]["balanced_accuracy"]

    def mean_accuracy(self, name: str) -> float:
        return self.compared.accuracy(name)

    def model(self, name: str) -> ModelResult:
        return self.compared.models[name]


def read(folder: Path) -> RunResults:
    """Reads the results in a run's folder.

    Raises:
        UserError: when some are missing.
    """
    with chdir(folder):
        settings, compared = params.load(), results.read()
        shares = manifests.load(manifests.FOLDER).class_shares
        found = {name: predictions.read(name, compared.split) for name in settings.model_names()}
    values = {
        name: two_way.scene_accuracies(
            part.decisions(shares), part.labels, np.unique(part.scenes, return_inverse=True)[1]
        )
        for name, part in found.items()
    }
    return RunResults(settings, compared, values)


@dataclass(frozen=True)
class Matched:
    """All fusions at one number of parameters."""

    main: RunResults
    run: RunResults
    names: list[str]  # fusions, in the order of the run
    changes: dict[str, Contrast]  # by fusion: here less in the main run; one family


@dataclass(frozen=True)
class Places:
    """Fusions of feature maps, fused after each block."""

    names: list[str]
    runs: dict[int, RunResults]  # by place
    default: int  # the place in the main run
    contrasts: dict[tuple[str, int, int], Contrast]  # by fusion, later and earlier place; one family


def compare_matched(main: RunResults, run: RunResults) -> Matched:
    """Compares the run at one number of parameters with the main run."""
    names = run.settings.fusion_names()
    pairs = [((name, MATCHED), (name, "main")) for name in names]
    contrasts = _family({MATCHED: run, "main": main}, pairs)
    return Matched(main, run, names, dict(zip(names, contrasts, strict=True)))


def compare_places(main: RunResults, others: Mapping[int, RunResults]) -> Places:
    """Compares the places of the fusion, each with each, for every operator.

    Args:
        others: runs by place.
    """
    default = main.settings.network.fuse_after
    runs = dict(sorted({**others, default: main}.items()))
    names = next(iter(others.values())).settings.intermediate
    keys = [(name, later, earlier) for name in names for later in runs for earlier in runs if earlier < later]
    pairs = [((name, str(later)), (name, str(earlier))) for name, later, earlier in keys]
    contrasts = _family({str(place): run for place, run in runs.items()}, pairs)
    return Places(names, runs, default, dict(zip(keys, contrasts, strict=True)))


Place = tuple[str, str]  # a model and its run


def _family(runs: Mapping[str, RunResults], pairs: list[tuple[Place, Place]]) -> list[Contrast]:
    """Contrasts of models of several runs as one family, in the order of the pairs."""
    members = dict.fromkeys(member for pair in pairs for member in pair)
    label = {(name, run): f"{name} ({run})" for name, run in members}
    report = next(iter(runs.values())).settings.report
    return significance.family(
        {label[name, run]: runs[run].values[name] for name, run in members},
        [(label[model], label[against]) for model, against in pairs],
        report.confidence,
        report.margin,
        [label[name, run] for name, run in members if runs[run].model(name).failed_seeds],
    )
