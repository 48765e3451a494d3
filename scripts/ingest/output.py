"""What all forms of raw data share: they become a new dataset folder, and a summary says what was left out."""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.core.names import SPLITS
from stages.lib.params import Dataset

LEFT_OUT = "left_out.txt"

_MOST_LINES = 50  # about what is left out, on the terminal; left_out.txt lists all


def require_new(out: Path) -> None:
    """Raises UserError when `out` exists already."""
    if out.exists():
        raise UserError(f"{out}: exists already; name a new folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """The folder to write into. Only when the context ends without an error, it gets its final name `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "dataset"
        yield folder
        folder.rename(out)


def require_usable(counts: Counter[tuple[str, str]], source: Path) -> None:
    """Raises UserError unless two classes have training groups and there is a validation group.

    Args:
        counts: number of groups by class and split.
    """
    learned = sorted({label for label, split in counts if split == "train"})
    num_validation = sum(count for (_, split), count in counts.items() if split == "validation")
    if len(learned) < 2 or not num_validation:
        raise UserError(
            f"{source}: too few pairs: {sum(counts.values()):,} in all, training groups in "
            f"{', '.join(learned) or 'no class'}, {num_validation:,} for validation; training groups of two classes "
            "and one validation group are needed"
        )


def write_left_out(folder: Path, left_out: Iterable[str]) -> None:
    (folder / LEFT_OUT).write_text("".join(f"{line}\n" for line in left_out))


def print_summary(out: Path, left_out: list[str], counts: Counter[tuple[str, str]], unit: str) -> None:
    """Prints what was left out, and the groups of each split.

    Args:
        unit: what a line of `left_out` is about, in the plural.
    """
    for line in left_out[:_MOST_LINES]:
        print(f"left out: {line}")
    if len(left_out) > _MOST_LINES:
        print(f"left out: {len(left_out) - _MOST_LINES:,} more")
    for split in SPLITS:
        told = ", ".join(f"{count:,} {label}" for (label, of), count in counts.items() if of == split)
        print(f"{split}: {told or 'none'}")
    print(f"left out: {len(left_out):,} {unit} in all, listed in {out / LEFT_OUT}")


def next_command(out: Path, dataset: Dataset, others: dict[str, object] | None = None) -> str:
    """The command that runs the pipeline on cut-out objects: it sets what params.yaml has otherwise.

    Args:
        dataset: the settings of params.yaml.
        others: more settings of the dataset, by key.
    """
    wanted = {
        "label_field": "ground_truth",
        "scene_field": "scene",
        "rgb.slice": "rgb",
        "lidar.slice": "lidar_img",
        "lidar.format": "xyza",
        "lidar.field": "xyza",
        "lidar.orientation": "as-is",
    }
    wanted |= {f"splits.{split}": split for split in SPLITS}
    options = [f"dataset.path={out}"]
    for key, value in (wanted | (others or {})).items():
        current: object = dataset
        for name in key.split("."):
            current = getattr(current, name)
        if current != value:
            options.append(f"dataset.{key}={value}")
    return f"dvc exp run {' '.join(f'-S {shlex.quote(option)}' for option in options)} headline report"
