"""Tracking: a run for each model and seed in W&B, MLflow or TensorBoard.

Nothing here can change a result, so training and evaluation load this room by name: no stage but `check` depends on
it, and a change of it, or of the tracker, trains nothing again.
"""

from __future__ import annotations

import importlib
import importlib.util

from stages.lib.core.errors import UserError
from stages.lib.params import Track
from stages.lib.tracking.base import Tracker

# Each tracker is a class in the module of this name, such as Wandb. It imports these packages, which are in
# requirements-track.txt.
PACKAGES = {"wandb": ["wandb"], "mlflow": ["mlflow", "sqlalchemy", "alembic"], "tensorboard": ["tensorboard"]}


def require_packages(settings: Track) -> None:
    """Raises UserError when a package of the chosen tracker is not installed."""
    for package in PACKAGES.get(settings.backend, []):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"params.yaml: track.backend: {settings.backend} needs the package {package}; run `pip install -r "
                "requirements-track.txt`, or choose none"
            )


def open_tracker(settings: Track) -> Tracker:
    """The tracker of params.yaml, which is not none.

    Raises:
        UserError: when a package is missing.
        Exception: whatever the tracker raises when it cannot start.
    """
    require_packages(settings)
    module = importlib.import_module(f"stages.lib.tracking.{settings.backend}")
    return getattr(module, settings.backend.capitalize())(settings)
