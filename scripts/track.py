"""Logs all finished runs in the tracker of params.yaml: those that it does not have, or has in part.

    python -m scripts.track

Reads models/, reports/history/ and reports/evaluation/; trains nothing. What the tracker has is not logged again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from stages.lib import params, tracking
from stages.lib.core import console
from stages.lib.core.errors import UserError, first_line
from stages.lib.evaluation import results
from stages.lib.models import checkpoints, records
from stages.lib.params import Params
from stages.lib.tracking import runs
from stages.lib.tracking.base import Tracker, send


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    backend = settings.track.backend
    if backend == "none":
        raise UserError("params.yaml: track.backend: is none; choose wandb, mlflow or tensorboard")
    tracking.require_packages(settings.track)
    finished = [name for name in settings.model_names() if is_finished(name, settings)]
    if not finished:
        raise UserError("models/: no finished run; `dvc repro` trains the models of params.yaml")
    try:
        tracker = tracking.open_tracker(settings.track)
        for name in console.track(finished, f"runs sent to {backend}", unit="model"):
            log_model(name, settings, tracker)
    except UserError:
        raise
    except Exception as error:  # of a library that documents none of its errors
        raise UserError(f"tracking with {backend} failed: {first_line(error)}") from None


def is_finished(name: str, settings: Params) -> bool:
    """Whether a model is trained and evaluated."""
    metadata = [checkpoints.weights_path(checkpoints.MODELS, name, seed) for seed in settings.seeds]
    files = [*metadata, records.HISTORY / f"{name}.csv", results.FOLDER / f"{name}.json"]
    return all(file.is_file() for file in files)


def log_model(name: str, settings: Params, tracker: Tracker) -> None:
    """Logs the epochs and the test metrics of every seed of a model."""
    epochs, measured = records.read_epochs(name), results.read(name).seeds
    for seed in settings.seeds:
        test = measured[seed].get("test")
        log = tracker.start_run(runs.describe_finished(checkpoints.metadata(name, seed)))
        send(log, epochs[seed], runs.test_metrics(asdict(test)) if test else {})
        log.finish()


if __name__ == "__main__":
    console.run(main)
