"""Writes what a training stage leaves: weights, their metadata, history and timing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stages.lib import fusions
from stages.lib.core.names import SENSORS
from stages.lib.models import checkpoints, networks, records
from stages.lib.models.checkpoints import MODELS
from stages.lib.models.architecture import Architecture
from stages.lib.tensors.manifest import Manifest
from stages.lib.training.settings import TrainConfig
from stages.lib.training.state import TrainState


def write(
    name: str,
    outcomes: dict[int, TrainState],
    weights: Callable[[int], Path],
    *,
    metadata: dict[str, Any],
    environment: dict[str, Any],
) -> None:
    """Writes all files of a model's training.

    Args:
        weights: tells in which file each seed's lie.
        metadata: settings to keep beside the weights; must be the same in every repetition.
        environment: what may differ between repetitions: device, workers, threads.
    """
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed, outcome in outcomes.items():
        _link(weights(seed), checkpoints.weights_path(MODELS, name, seed))
        content = {
            "model": name,
            "seed": seed,
            "best_epoch": outcome.best_epoch,
            "train_loss": [epoch.train_loss for epoch in outcome.history],
            "valid_loss": [epoch.valid_loss for epoch in outcome.history],
            **metadata,
        }
        (folder / f"seed-{seed}.json").write_text(json.dumps(content, indent=2) + "\n")
    records.write_history(
        name,
        [{"seed": seed, **asdict(epoch)} for seed, outcome in outcomes.items() for epoch in outcome.history],
    )
    seconds = {
        str(seed): {"epoch_s": outcome.epoch_s, "peak_memory_mib": outcome.peak_memory_mib}
        for seed, outcome in outcomes.items()
    }
    records.write_timing(f"train-{name}", {"model": name, **environment, "seeds": seconds})


def _link(source: Path, target: Path) -> None:
    """Gives a finished file a second name, or a copy where the file system knows no such thing.

    Nobody writes into either: DVC and `Scratch` put new files in the place of old ones.
    """
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def metadata(name: str, recipe: TrainConfig, sizes: Architecture, manifest: Manifest) -> dict[str, Any]:
    """What a model was made from, to keep beside its weights."""
    nets = SENSORS if name not in SENSORS and fusions.kind(name) == "late" else [name]
    return {
        "recipe": asdict(recipe),
        "architecture": networks.facts(name, sizes),
        "head_widths": {net: networks.sized(net, sizes).hidden[0] for net in nets},
        "classes": manifest.classes,
        "data_digest": manifest.digest,
    }


def _revision() -> str | None:
    """The Git revision of the code at work, with a plus where it or params.yaml has been changed since."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(
            [
                "git",
                "--no-optional-locks",
                "status",
                "--porcelain",
                "stages",
                "params.yaml",
                "dvc.yaml",
                "requirements.txt",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no Git here, or no repository
        return None
    return commit.stdout.strip() + ("+" if changes.stdout else "")


def environment(device: torch.device, workers: int, threads: int, backend: str) -> dict[str, Any]:
    """Where a measurement was made."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": device.type,
        "gpu": gpu,
        "cpu_cores": os.cpu_count(),
        "workers": workers,
        "threads": threads,
        "backend": backend,
        "platform": platform.platform(),
        "revision": _revision(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
