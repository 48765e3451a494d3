"""Trained models on disk.

models/NAME/seed-51.safetensors    weights of the best epoch
models/NAME/seed-51.json           metadata: settings, best epoch, losses
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
from torch import nn

from stages.lib.core.errors import UserError
from stages.lib.models import networks
from stages.lib.models.networks import Architecture, FusionNet, LateNet
from stages.lib.params import Network
from stages.lib.tensors.manifest import Manifest

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
