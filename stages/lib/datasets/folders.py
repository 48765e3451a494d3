"""The folder of a dataset: whether it is one, and where DVC's copies of the project find it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stages.lib.core.errors import UserError, first_line

_PROJECT = (
    "DVC_ROOT"  # set by DVC for its stages: the project's folder, although they may run in a copy of it
)


def link_into_copy(folder: Path) -> None:
    """In a copy that DVC makes for a queued experiment, links the project's own dataset.

    A copy holds only what Git or DVC tracks, so a dataset that is in data/ alone would be missing. A link lets DVC
    hash it like the folder itself.
    """
    project = os.environ.get(_PROJECT)
    if not project or folder.is_absolute() or os.path.lexists(folder):
        return
    original = Path(project).resolve() / folder
    if original.is_dir() and original != folder.resolve():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(original)


def require_dataset(folder: Path, *, setting: str | None = "dataset.path") -> None:
    """Raises UserError unless the folder has the files of a FiftyOneDataset.

    Args:
        setting: the key of params.yaml that names the folder; None if it is an argument of a command.
    """
    place = f"params.yaml: {setting}: " if setting else ""
    if not folder.is_dir():
        raise UserError(f"{place}no folder '{folder}'")
    missing = [] if (folder / "metadata.json").is_file() else ["metadata.json"]
    # FiftyOne's export with use_dirs=True writes a folder of the samples instead of one file.
    if not (folder / "samples.json").is_file() and not (folder / "samples").is_dir():
        missing.append("samples.json")
    if missing:
        raise UserError(
            f"{place}'{folder}' is not a FiftyOneDataset (it has no {' and no '.join(missing)}); "
            "write one with dataset.export(export_dir=..., dataset_type=fo.types.FiftyOneDataset)"
        )


def require_json(folder: Path) -> None:
    """Raises UserError with the file and the place when one of the dataset's two files is damaged."""
    for path in (folder / "metadata.json", folder / "samples.json"):
        try:
            if path.is_file():
                json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid JSON ({first_line(error)})") from None
