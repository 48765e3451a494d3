"""A fingerprint of all that the App's dataset is made from: if it is the same, nothing has to be imported again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from scripts.explore.results import MODELS
from stages.lib.core.errors import UserError
from stages.lib.evaluation import predictions
from stages.lib.params import Params
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests

KEY = "explore_fingerprint"  # in the dataset's info


def of_inputs(settings: Params) -> str:
    """SHA-256 over data, predictions, weights, settings and code.

    Raises:
        UserError: when predictions are missing.
    """
    names = settings.model_names()
    tables = [predictions.FOLDER / f"{name}.parquet" for name in names]
    for path in tables:
        if not path.is_file():
            raise UserError(f"{path}: no predictions yet; run `dvc repro`")
    dataset = Path(settings.dataset.path)
    files = [
        *tables,
        manifests.FOLDER / manifests.FILE,
        manifests.FOLDER / stored_groups.FILE,
        *(path for name in names for path in sorted((MODELS / name).glob("*.json"))),
        *sorted(Path(__file__).parent.glob("*.py")),
    ]
    facts = {
        "dataset": str(settings.dataset),
        # Of the dataset's own files only size and time: reading them takes as long as their import.
        "samples": [
            [path.name, path.stat().st_size, path.stat().st_mtime_ns]
            for path in sorted(dataset.glob("*.json"))
        ],
        "fusion": settings.fusion,
        "models": names,
        "versions": [metadata.version(package) for package in ("fiftyone", "fiftyone-brain")],
        "files": _digests(files),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digests(files: Iterable[Path]) -> list[tuple[str, str]]:
    found = []
    for path in files:
        with path.open("rb") as file:
            found.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return found
