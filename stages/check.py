"""Checks params.yaml before anything else runs, so that a wrong setting costs one line and no time.

    python -m stages.check

Writes data/params.ok, always with the same content: a change of params.yaml re-runs only the stages that read the
changed keys. Writes data/per_model/NAME.json for each model: what `train.per_model` sets for it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.lib import fusions, params, tracking
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.datasets import folders, synthetic
from stages.lib.params import LidarSource, OwnSettings, Params, Synthetic

PASSED = Path("data/params.ok")
PER_MODEL = Path("data/per_model")


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    check_lists(settings)
    check_fusion(settings)
    check_splits(settings)
    check_view(settings.synthetic)
    check_lidar(settings.dataset.lidar)
    tracking.require_packages(settings.track)
    check_dataset(Path(settings.dataset.path))
    PASSED.parent.mkdir(exist_ok=True)
    PASSED.write_text("params.yaml is valid\n")
    write_per_model(settings)


def check_lists(settings: Params) -> None:
    """Every name in a list exists, and no entry is there twice."""
    choices = {
        "unimodal": SENSORS,
        "intermediate": fusions.names(*fusions.JOINT),
        "late": fusions.names("late"),
    }
    for key, known in choices.items():
        for name in getattr(settings, key):
            if name not in known:
                raise UserError(
                    f"params.yaml: {key}: unknown name '{name}'; known names are {', '.join(known)}"
                )
    for key in (*choices, "seeds"):
        entries = getattr(settings, key)
        twice = sorted({entry for entry in entries if entries.count(entry) > 1})
        if twice:
            raise UserError(f"params.yaml: {key}: {twice[0]} is listed twice; list it once")
    known = [*SENSORS, *choices["intermediate"], *choices["late"]]
    for name in settings.train.per_model:
        if name not in known:
            raise UserError(
                f"params.yaml: train.per_model: unknown model '{name}'; known names are {', '.join(known)}"
            )
    missing = [sensor for sensor in SENSORS if sensor not in settings.unimodal]
    if missing:
        raise UserError(
            f"params.yaml: unimodal: '{missing[0]}' is missing; list both rgb and lidar: late fusion joins their "
            "nets, and every fusion is compared with them"
        )


def write_per_model(settings: Params) -> None:
    shutil.rmtree(PER_MODEL, ignore_errors=True)
    PER_MODEL.mkdir()
    for name in settings.model_names():
        own = settings.train.per_model.get(name, OwnSettings())
        given = {key: value for key, value in vars(own).items() if value is not None}
        (PER_MODEL / f"{name}.json").write_text(json.dumps(given) + "\n")


def check_fusion(settings: Params) -> None:
    """The fusion of the headline is one of those that are trained."""
    if settings.fusion not in settings.fusion_names():
        raise UserError(
            f"params.yaml: fusion: unknown fusion '{settings.fusion}'; choose one of "
            f"{', '.join(settings.fusion_names())} (the entries of intermediate and late)"
        )


def check_splits(settings: Params) -> None:
    """The three splits have three different tags."""
    tags = settings.dataset.splits
    if len({tags.train, tags.validation, tags.test}) < 3:
        raise UserError(
            f"params.yaml: dataset.splits: train, validation and test need three different tags, "
            f"not {tags.train}, {tags.validation}, {tags.test}"
        )


def check_lidar(source: LidarSource) -> None:
    """A format in a field of samples needs the field's name; a format in files has no field."""
    in_files = source.format in ("npy", "pcd")
    if in_files != (source.field is None):
        right = "null" if in_files else "the name of the field with the arrays"
        raise UserError(
            f"params.yaml: dataset.lidar.field: is {source.field or 'null'}; for format {source.format} "
            f"it has to be {right}"
        )


def check_view(settings: Synthetic) -> None:
    """The largest object of the built-in dataset, at its smallest distance, fits the field of view."""
    radius_m, distance_m = settings.radius_m[1], settings.distance_m[0]
    if synthetic.reach_rad(radius_m, distance_m) >= synthetic.HALF_VIEW_RAD:
        raise UserError(
            f"params.yaml: synthetic: an object of radius {radius_m:g} m at {distance_m:g} m does not fit the "
            "field of view; raise distance_m or lower radius_m"
        )


def check_dataset(folder: Path) -> None:
    """The dataset's folder exists, unless it is the built-in dataset, which the next stage writes."""
    if folder != synthetic.FOLDER:
        folders.link_into_copy(folder)
        folders.require_dataset(folder)


if __name__ == "__main__":
    console.run(main)
