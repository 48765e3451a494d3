"""Training runs on disk: what the training stages write and the evaluation stages read.

models/NAME/seed-51.safetensors    weights of the best epoch
models/NAME/seed-51.json           their story: settings, best epoch, losses
reports/history/NAME.csv           one line per seed and epoch
reports/timing/train-NAME.json     seconds, memory, device, versions: all that is not repeatable
"""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import safetensors.torch
import torch
from torch import nn

from stages.lib import networks, training
from stages.lib.manifest import Manifest
from stages.lib.networks import Architecture, LateNet
from stages.lib.params import Network, Train
from stages.lib.terminal import EpochProgress, UserError
from stages.lib.training import Epoch, Inputs, Outcome, Recipe

MODELS = Path("models")
HISTORY = Path("reports/history")
TIMING = Path("reports/timing")


def architecture(manifest: Manifest, network: Network) -> Architecture:
    """Sizes of the networks for this data and these settings."""
    return Architecture(
        rgb_channels=manifest.channels["rgb"],
        lidar_channels=manifest.channels["lidar"],
        image_size=manifest.image_size,
        num_logits=manifest.num_logits,
        unimodal_channels=network.unimodal_channels,
        intermediate_channels=network.intermediate_channels,
        hidden=network.hidden,
        late_hidden=network.late_hidden,
    )


def recipe_of(train: Train) -> Recipe:
    """The part of the settings that decides what is learned."""
    return Recipe(
        epochs=train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        schedule=train.schedule,
        precision=train.precision,
    )


def num_workers(setting: int | str, num_seeds: int, device: torch.device) -> int:
    """Processes for `train.workers`: "auto" is one per CPU core, or a single one on CUDA."""
    available = 1 if device.type == "cuda" else len(os.sched_getaffinity(0))
    return min(available if setting == "auto" else int(setting), num_seeds)


def train_seeds(
    name: str, job: Callable[..., Outcome], seeds: list[int], *, workers: int, epochs: int
) -> dict[int, Outcome]:
    """Trains a model once per seed, `workers` seeds at a time, each in a process of its own.

    Args:
        job: called with `seed` and with `tell`, to be told each finished epoch.
        epochs: of each seed, for the progress bar.
    """
    with EpochProgress(name, total_epochs=epochs * len(seeds)) as progress:
        outcomes = joblib.Parallel(n_jobs=workers)(
            joblib.delayed(job)(seed=seed, tell=progress.tell) for seed in seeds
        )
    return dict(zip(seeds, outcomes, strict=True))


def train_one(
    name: str,
    build: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Inputs, Inputs]],
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    threads: int,
    tell: Callable[[str], None],
) -> Outcome:
    """One seed of one model, from initial weights to the best epoch.

    Args:
        name: of the model, for errors.
        build: makes the untrained network; called after seeding.
        inputs: gives training and validation inputs.
        tell: told each finished epoch in words.
    """
    training.prepare_process(threads)
    train, validation = inputs()
    network = training.seeded_build(build, seed)

    def on_epoch(epoch: Epoch) -> None:
        tell(
            f"seed {seed}, epoch {epoch.epoch}/{recipe.epochs}: "
            f"train {epoch.train_loss:.4f}, validation {epoch.valid_loss:.4f}"
        )

    try:
        return training.fit(
            network, train, validation, recipe=recipe, seed=seed, device=device, on_epoch=on_epoch
        )
    except training.Diverged as error:
        raise UserError(f"{name}, seed {seed}: {error}; try a lower train.learning_rate") from None


def write(
    name: str,
    outcomes: dict[int, Outcome],
    *,
    story: dict[str, Any],
    circumstances: dict[str, Any],
) -> None:
    """Writes all files of a model's training.

    Args:
        story: settings to keep beside the weights; must be the same in every repetition.
        circumstances: what may differ between repetitions: device, workers, threads.
    """
    folder = MODELS / name
    for directory in (folder, HISTORY, TIMING):
        directory.mkdir(parents=True, exist_ok=True)
    for seed, outcome in outcomes.items():
        safetensors.torch.save_file(outcome.weights, folder / f"seed-{seed}.safetensors")
        content = {
            "model": name,
            "seed": seed,
            "best_epoch": outcome.best_epoch,
            "train_loss": [epoch.train_loss for epoch in outcome.history],
            "valid_loss": [epoch.valid_loss for epoch in outcome.history],
            **story,
        }
        _write_json(folder / f"seed-{seed}.json", content)
    with (HISTORY / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "seed", "learning_rate", "train_loss", "valid_loss"])
        for seed, outcome in outcomes.items():
            for epoch in outcome.history:
                row = asdict(epoch)
                writer.writerow(
                    [row["epoch"], seed, row["learning_rate"], row["train_loss"], row["valid_loss"]]
                )
    seconds = {
        str(seed): {"epoch_s": outcome.epoch_s, "peak_memory_mib": outcome.peak_memory_mib}
        for seed, outcome in outcomes.items()
    }
    _write_json(TIMING / f"train-{name}.json", {"model": name, **circumstances, "seeds": seconds})


def story(recipe: Recipe, sizes: Architecture, manifest: Manifest) -> dict[str, Any]:
    """What a model was made from, to keep beside its weights."""
    return {
        "recipe": asdict(recipe),
        "architecture": asdict(sizes),
        "classes": manifest.classes,
        "data_digest": manifest.digest,
    }


def circumstances(device: torch.device, workers: int, threads: int) -> dict[str, Any]:
    """Where a measurement was made."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": device.type,
        "gpu": gpu,
        "cpu_cores": os.cpu_count(),
        "workers": workers,
        "threads": threads,
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def load_network(name: str, seed: int, sizes: Architecture) -> nn.Module:
    """A trained model; a late one is put together from its head and the unimodal nets of its seed.

    Raises:
        UserError: when weights are missing or belong to a network of other sizes.
    """
    network = networks.build(name, sizes)
    if isinstance(network, LateNet):
        _load_weights(network.rgb_net, "rgb", seed)
        _load_weights(network.lidar_net, "lidar", seed)
        _load_weights(network.fusion, name, seed)
    else:
        _load_weights(network, name, seed)
    return network.eval()


def _load_weights(network: nn.Module, name: str, seed: int) -> None:
    path = MODELS / name / f"seed-{seed}.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` trains {name} for every seed in params.yaml")
    try:
        network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: does not fit the network of params.yaml: {reason}") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
