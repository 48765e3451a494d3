"""Checks params.yaml before anything runs, so that a slip ends in one line and costs nothing.

    python -m stages.check

Writes data/params.ok, always with the same content: that params.yaml changed says nothing to the
stages that follow, which depend on the keys they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.lib import fusions, params
from stages.lib.core import console
from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS
from stages.lib.datasets import reader, synthetic
from stages.lib.params import LidarSource, Params, Synthetic

PASSED = Path("data/params.ok")


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    check_lists(settings)
    check_fusion(settings)
    check_splits(settings)
    check_view(settings.synthetic)
    check_lidar(settings.dataset.lidar)
    check_dataset(Path(settings.dataset.path))
    PASSED.parent.mkdir(exist_ok=True)
    PASSED.write_text("params.yaml is valid\n")


def check_lists(settings: Params) -> None:
    """Every list names what exists, once."""
    choices = {
        "unimodal": SENSORS,
        "intermediate": fusions.names(*fusions.JOINT),
        "late": fusions.names("late"),
    }
    for key, known in choices.items():
        for name in getattr(settings, key):
            if name not in known:
                raise UserError(f"params.yaml: {key}: unknown name '{name}'; it can hold {', '.join(known)}")
    for key in (*choices, "seeds"):
        entries = getattr(settings, key)
        twice = sorted({entry for entry in entries if entries.count(entry) > 1})
        if twice:
            raise UserError(f"params.yaml: {key}: {twice[0]} is listed twice")
    missing = [sensor for sensor in SENSORS if sensor not in settings.unimodal]
    if missing:
        raise UserError(
            f"params.yaml: unimodal: '{missing[0]}' is missing; late fusion stands on both "
            "unimodal nets, and every fusion is compared with them"
        )


def check_fusion(settings: Params) -> None:
    """The headline's fusion is one of those that are trained."""
    if settings.fusion not in settings.fusion_names():
        raise UserError(
            f"params.yaml: fusion: unknown fusion '{settings.fusion}'; choose one of "
            f"{', '.join(settings.fusion_names())} (the entries of intermediate and late)"
        )


def check_splits(settings: Params) -> None:
    """Three different tags for three splits."""
    tags = settings.dataset.splits
    if len({tags.train, tags.validation, tags.test}) < 3:
        raise UserError(
            f"params.yaml: dataset.splits: train, validation and test need three different tags, "
            f"not {tags.train}, {tags.validation}, {tags.test}"
        )


def check_lidar(source: LidarSource) -> None:
    """Formats that lie in a field name it; those that lie in files have none."""
    in_files = source.format in ("npy", "pcd")
    if in_files != (source.field is None):
        right = "null" if in_files else "the name of the field that holds the arrays"
        raise UserError(
            f"params.yaml: dataset.lidar.field: is {source.field or 'null'}; for format {source.format} "
            f"it has to be {right}"
        )


def check_view(settings: Synthetic) -> None:
    """The nearest and largest object of the built-in dataset stays inside the field of view."""
    radius_m, distance_m = settings.radius_m[1], settings.distance_m[0]
    if synthetic.reach_rad(radius_m, distance_m) >= synthetic.HALF_VIEW_RAD:
        raise UserError(
            f"params.yaml: synthetic: an object of radius {radius_m:g} m at {distance_m:g} m does not fit the "
            "field of view; raise distance_m or lower radius_m"
        )


def check_dataset(folder: Path) -> None:
    """The dataset is there; the built-in one is made by the next stage."""
    if folder != synthetic.FOLDER:
        reader.require_dataset_folder(folder)


if __name__ == "__main__":
    console.run(main)
