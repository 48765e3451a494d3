"""Training runs on disk: what the training stages write and the evaluation stages read.

models/NAME/seed-51.safetensors    weights of the best epoch
models/NAME/seed-51.json           their story: settings, best epoch, losses

Their histories and timing files are `records`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from stages.lib import fusions, networks
from stages.lib.networks import Architecture, FusionNet, LateNet
from stages.lib.params import SENSORS, Network
from stages.lib.store import records
from stages.lib.store.manifest import Manifest
from stages.lib.terminal import UserError
from stages.lib.training.loop import Recipe, Run

MODELS = Path("models")


def architecture(manifest: Manifest, network: Network) -> Architecture:
    """What networks are built from, for this data and these settings."""
    return Architecture(
        rgb_channels=manifest.channels["rgb"],
        lidar_channels=manifest.channels["lidar"],
        image_size=manifest.image_size,
        num_logits=manifest.num_logits,
        unimodal_channels=network.unimodal_channels,
        intermediate_channels=network.intermediate_channels,
        hidden=network.hidden,
        late_hidden=network.late_hidden,
        fuse_after=network.fuse_after,
        downsample=network.downsample,
        match_parameters=network.match_parameters,
        init=network.init,
    )


def trained_architecture(name: str, seed: int) -> Architecture:
    """What a trained model was built from, as its story tells: so it can be used whatever params.yaml says by now.

    Raises:
        UserError: when there is no such model.
    """
    path = weights_path(MODELS, name, seed).with_suffix(".json")
    require_file(path)
    return networks.from_facts(json.loads(path.read_text())["architecture"])


def write(
    name: str,
    outcomes: dict[int, Run],
    weights: Callable[[int], Path],
    *,
    story: dict[str, Any],
    circumstances: dict[str, Any],
) -> None:
    """Writes all files of a model's training.

    Args:
        weights: tells in which file each seed's lie.
        story: settings to keep beside the weights; must be the same in every repetition.
        circumstances: what may differ between repetitions: device, workers, threads.
    """
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed, outcome in outcomes.items():
        _link(weights(seed), weights_path(MODELS, name, seed))
        content = {
            "model": name,
            "seed": seed,
            "best_epoch": outcome.best_epoch,
            "train_loss": [epoch.train_loss for epoch in outcome.history],
            "valid_loss": [epoch.valid_loss for epoch in outcome.history],
            **story,
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
    records.write_timing(f"train-{name}", {"model": name, **circumstances, "seeds": seconds})


def _link(source: Path, target: Path) -> None:
    """Gives a finished file a second name, or a copy where the file system knows no such thing.

    Nobody writes into either: DVC and `Scratch` put new files in the place of old ones.
    """
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def story(name: str, recipe: Recipe, sizes: Architecture, manifest: Manifest) -> dict[str, Any]:
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


def circumstances(device: torch.device, workers: int, threads: int, backend: str) -> dict[str, Any]:
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


def load_network(name: str, seed: int, sizes: Architecture, models: Path = MODELS) -> FusionNet:
    """A trained model; a late one is put together from its head and the unimodal nets of its seed.

    Args:
        models: folder of all models.

    Raises:
        UserError: when weights are missing or belong to a network of other sizes.
    """
    network = networks.build(name, sizes)
    trained: nn.Module = network
    if isinstance(network, LateNet):
        trained = network.trained
        if trained is not network:
            _load_weights(network.rgb_net, weights_path(models, "rgb", seed))
            _load_weights(network.lidar_net, weights_path(models, "lidar", seed))
    _load_weights(trained, weights_path(models, name, seed))
    return network.eval()


def weights_path(models: Path, name: str, seed: int) -> Path:
    return models / name / f"seed-{seed}.safetensors"


def weights_digest(name: str, seed: int) -> str:
    """SHA-256 of a trained model's weights.

    Raises:
        UserError: when there are none.
    """
    path = weights_path(MODELS, name, seed)
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path) -> None:
    """Raises UserError when a file of a model is missing."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; `dvc repro` trains {path.parent.name} for every seed of params.yaml"
        )


def _load_weights(network: nn.Module, path: Path) -> None:
    require_file(path)
    try:
        network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: does not fit the network of params.yaml: {reason}") from None
