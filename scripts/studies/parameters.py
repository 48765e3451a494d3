"""Settings of a run: KEY=VALUE overrides of params.yaml, in the grammar of `dvc exp run --set-param`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.params import Params


def apply(settings: Sequence[str], folder: Path) -> None:
    """Writes settings into a folder's params.yaml; later ones win.

    `dvc exp run --set-param` would also prepare an experiment, which takes seconds and has no use here.

    Raises:
        UserError: when a setting is malformed or its key does not exist.
    """
    try:
        apply_overrides(folder / "params.yaml", list(settings))
    except InvalidArgumentError as error:
        raise UserError(f"SET: {str(error.__cause__).splitlines()[0]}") from None


def resolved(settings: Sequence[str]) -> Params:
    """All settings of a run: the project's params.yaml with these overrides.

    Raises:
        UserError: when a setting is malformed, its key does not exist or its value is not valid.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        shutil.copy2("params.yaml", folder)
        apply(settings, Path(folder))
        try:
            return params.load(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "params.yaml with SET")) from None


def combine(own: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """A study's own settings and the user's overrides, which win.

    Where the user chooses other models without the headline's fusion, the first fusion of theirs takes its place.
    """
    settings = [*own, *overrides]
    if any(override.startswith("fusion=") for override in overrides):
        return settings
    listed = resolved(settings)
    names = listed.fusion_names()
    return settings if listed.fusion in names else [*settings, f"fusion={names[0]}"]


def closing_line(command: str, settings: Sequence[str]) -> str:
    """The last line of a study's report."""
    return f"The settings are not those of params.yaml but those of `{command}`: {', '.join(settings)}."
