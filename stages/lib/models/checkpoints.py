"""Trained models on disk.

models/NAME/seed-51.safetensors    weights of the best epoch
models/NAME/seed-51.json           metadata: settings, best epoch, losses
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.models import architecture, networks
from stages.lib.models.architecture import Architecture
from stages.lib.models.networks import FusionNet

MODELS = Path("models")


def trained_architecture(name: str, seed: int) -> Architecture:
    """The sizes of a trained model, from its metadata: they hold whatever params.yaml says now.

    Raises:
        UserError: when there is no such model.
    """
    return architecture.from_facts(metadata(name, seed)["architecture"])


def metadata(name: str, seed: int) -> dict[str, Any]:
    """The metadata of a trained model.

    Raises:
        UserError: when there is no such model.
    """
    path = weights_path(MODELS, name, seed).with_suffix(".json")
    require_file(path)
    return json.loads(path.read_text())


def load_network(
    name: str, seed: int, sizes: Architecture, models: Path = MODELS, *, with_frozen_nets: bool = True
) -> FusionNet:
    """A trained model in evaluation mode; a head over frozen networks comes with the trained networks of its seed.

    Args:
        models: folder of all models.
        with_frozen_nets: False leaves these networks without weights: the model then joins their logits only.

    Raises:
        UserError: when weights are missing or do not fit these sizes.
    """
    # Without initial weights, which would take longer than reading the trained ones.
    network = networks.sketch(name, sizes)
    frozen_nets = network.frozen_nets if with_frozen_nets else {}
    for part, module in {**frozen_nets, name: network.own_weights}.items():
        _load_weights(module, weights_path(models, part, seed))
    return network.eval()


def weights_path(models: Path, name: str, seed: int) -> Path:
    return models / name / f"seed-{seed}.safetensors"


def save_weights(weights: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes the weights of one network and one seed.

    Raises:
        OSError: when the file cannot be written; the library's own error hides this class.
    """
    try:
        safetensors.torch.save_file(weights, path, metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


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
        # Copies, which are aligned in memory as any tensor; in place of the weights, which may be without values.
        weights = {
            name: tensor.to(torch.float32, copy=True)
            for name, tensor in safetensors.torch.load_file(path).items()
        }
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: does not fit the network of params.yaml: {reason}") from None
