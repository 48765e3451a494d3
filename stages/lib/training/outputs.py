"""Writes the results of a training stage: weights, their metadata, history and timing."""

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

from stages.lib.fusions import ModelSpec
from stages.lib.models import architecture, checkpoints, networks, records
from stages.lib.models.architecture import Architecture
from stages.lib.models.checkpoints import MODELS
from stages.lib.tensors.manifest import Manifest
from stages.lib.training.settings import TrainConfig
from stages.lib.training.state import Epoch, TrainState


def write(
    name: str,
    states: dict[int, TrainState],
    weights: Callable[[int], Path],
    *,
    metadata: dict[str, Any],
    environment: dict[str, Any],
) -> None:
    """Writes all files of a model's training.

    Args:
        weights: returns the file with a seed's weights.
        metadata: settings to store beside the weights; the same in every repetition.
        environment: device, workers, threads: values that may differ between repetitions.
    """
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed, state in states.items():
        _link(weights(seed), checkpoints.weights_path(MODELS, name, seed))
        content = {
            "model": name,
            "seed": seed,
            "best_epoch": state.best_epoch,
            "train_loss": [epoch.train_loss for epoch in state.history],
            "valid_loss": [epoch.valid_loss for epoch in state.history],
            **metadata,
        }
        (folder / f"seed-{seed}.json").write_text(json.dumps(content, indent=2) + "\n")
    records.write_history(
        name, [row for seed, state in states.items() for row in history_rows(seed, state.history)]
    )
    seconds = {
        str(seed): {"epoch_s": state.epoch_s, "peak_memory_mib": state.peak_memory_mib}
        for seed, state in states.items()
    }
    records.write_timing(f"train-{name}", {"model": name, **environment, "seeds": seconds})


def history_rows(seed: int, epochs: list[Epoch]) -> list[dict[str, int | float]]:
    return [{"seed": seed, **asdict(epoch)} for epoch in epochs]


def _link(source: Path, target: Path) -> None:
    """Makes a hard link to a finished file, or a copy where the file system has no hard links.

    A link is safe: DVC and `Scratch` replace files and never write into existing ones.
    """
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def metadata(spec: ModelSpec, config: TrainConfig, sizes: Architecture, manifest: Manifest) -> dict[str, Any]:
    """The settings and data that a model was trained with, to store beside its weights."""
    nets = spec.sensors if spec.kind == "late" else (spec.name,)
    return {
        "recipe": asdict(config),
        "architecture": architecture.facts(spec.name, sizes),
        "head_widths": {net: networks.sketch(net, sizes).head_width for net in nets},
        "classes": manifest.classes,
        "data_digest": manifest.digest,
    }


def _revision() -> str | None:
    """The Git revision of the running code, with a plus if the code or params.yaml has uncommitted changes."""
    sources = ["stages", "params.yaml", "dvc.yaml", "requirements.txt"]
    status = ["git", "--no-optional-locks", "status", "--porcelain", *sources]
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no Git here, or no repository
        return None
    return commit.stdout.strip() + ("+" if changes.stdout else "")


def environment(device: torch.device, workers: int, threads: int, backend: str) -> dict[str, Any]:
    """The hardware and software of a measurement."""
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
