"""`make tune`: the same small search for every model; then a run with default and one with own settings."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from scripts.studies import parameters, runs, workspace
from scripts.studies.runs import Run
from scripts.studies.tune import comparison, figure, grid, page, search
from scripts.studies.tune.grid import Grid, Point
from scripts.studies.zoo.study import main_settings
from stages.lib import fusions
from stages.lib.core import console
from stages.lib.fusions.base import LateFusion
from stages.lib.models import devices
from stages.lib.params import Params

RESULTS = Path("reports/tune")
_NUM_SEARCH_SEEDS = 2
_NO_OWN_SETTINGS = ["~train.per_model", "+train.per_model={}"]


def conduct(dataset: Path, overrides: Sequence[str]) -> None:
    """Carries out the search and both runs, and writes reports/tune/."""
    own, overrides = grid.split(overrides)
    default = default_settings(overrides)
    settings = parameters.resolved(default)
    space = grid.build(settings.train, own)
    seeds = search_seeds(settings.seeds)
    console.report_line(cost(settings, space))
    losses = search.run(
        Path.cwd() / workspace.FOLDER / "tune",
        dataset,
        [*default, f"seeds=[{','.join(map(str, seeds))}]"],
        space.points,
        stage_groups(settings),
        len(seeds),
        jobs(settings),
    )
    trained = {name: has_weights(name) for name in losses}
    chosen = {
        name: grid.choose(found, space.default) if trained[name] else space.default
        for name, found in losses.items()
    }
    frozen = {name: fusions.spec(name).has_frozen_nets for name in losses}
    tuned = [*default, *own_settings(chosen, space, frozen)]
    both = [Run("default", tuple(default)), Run("tuned", tuple(tuned))]
    folders = dict(runs.run_all("tune", dataset, both))
    tuning = comparison.compare(folders, losses, chosen, space, seeds, frozen, trained)
    RESULTS.mkdir(parents=True, exist_ok=True)
    comparison.write(tuning, RESULTS / "tune.json")
    figure.save(tuning, RESULTS)
    path = f"dataset.path={workspace.dataset_path(dataset)}"
    closing = parameters.closing_line("make tune", [path, *default])
    (RESULTS / "report.md").write_text(page.render(tuning, closing))


def default_settings(overrides: Sequence[str]) -> list[str]:
    """Those of `make zoo`, so that what it has trained is not trained again, without settings of single models."""
    return parameters.combine([*main_settings("tune"), *_NO_OWN_SETTINGS], overrides)


def search_seeds(usual: Sequence[int]) -> list[int]:
    """The smallest seeds that are not the usual ones: what is chosen by a seed's luck must not be judged by it."""
    return list(
        itertools.islice((seed for seed in itertools.count() if seed not in usual), _NUM_SEARCH_SEEDS)
    )


def stage_groups(settings: Params) -> dict[str, str]:
    """By model, the group of stages in dvc.yaml that trains it."""
    groups = {
        "unimodal": settings.unimodal,
        "intermediate": settings.intermediate,
        "late": settings.late,
    }
    return {name: group for group, names in groups.items() for name in names}


def jobs(settings: Params) -> int:
    """Experiments at once: each trains one model at a time, with a process for each seed of the search."""
    if devices.choose(settings.train.device).type == "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // (_NUM_SEARCH_SEEDS * settings.train.threads))


def cost(settings: Params, space: Grid) -> str:
    """What the study trains, in words."""
    models, points = len(settings.model_names()), len(space.points)
    searched, judged = models * points * _NUM_SEARCH_SEEDS, models * len(settings.seeds)
    return (
        f"tune: {searched} trainings in the search ({models} models x {points} points x {_NUM_SEARCH_SEEDS} seeds), "
        f"then {judged} with the default settings and at most {judged} with each model's own ({models} models x "
        f"{len(settings.seeds)} seeds); what is in DVC's cache is not trained again"
    )


def has_weights(name: str) -> bool:
    """Whether a model has weights to train; a late fusion by a fixed rule has none, so nothing is chosen for it."""
    spec = fusions.spec(name)
    if not spec.has_frozen_nets:
        return True
    assert spec.operator is not None and issubclass(spec.operator, LateFusion)
    return next(spec.operator(num_logits=1, hidden=1).parameters(), None) is not None


def own_settings(chosen: dict[str, Point], space: Grid, has_frozen_nets: dict[str, bool]) -> list[str]:
    """`train.per_model` with the settings of all models whose point is not the default."""
    entries = [
        f"{name}:{{learning_rate:{point.rate_of(has_frozen_nets[name]):g},weight_decay:{point.weight_decay:g}}}"
        for name, point in chosen.items()
        if point != space.default
    ]
    return [_NO_OWN_SETTINGS[0], f"+train.per_model={{{','.join(entries)}}}"]
