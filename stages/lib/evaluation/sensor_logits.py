"""Logits of trained unimodal networks for every state of their sensor: all inputs of a late fusion over frozen nets.

data/logits/SENSOR.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from stages.lib.core.errors import UserError
from stages.lib.evaluation.sensor_states import Features, SensorState

FOLDER = Path("data/logits")
_REMEDY = "; `dvc repro` evaluates that sensor's networks first"


def write(sensor: str, logits: dict[SensorState, Features], nets: dict[int, str]) -> None:
    """Writes the logits of all seeds' networks of one sensor.

    Args:
        nets: by seed, a digest of the weights behind the logits.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    tensors = {
        _key(state, seed): tensor.cpu().contiguous()
        for state, by_seed in logits.items()
        for seed, tensor in by_seed.items()
    }
    # A single entry, since the library writes several entries in an order that changes from run to run.
    metadata = {"nets": json.dumps(nets)}
    safetensors.torch.save_file(tensors, _path(sensor), metadata)


def read(
    sensor: str, states: list[SensorState], nets: dict[int, str], device: torch.device
) -> dict[SensorState, Features]:
    """Logits for these states of one sensor.

    Raises:
        UserError: when they are missing, or when their networks' weights have other digests.
    """
    path = _path(sensor)
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads((file.metadata() or {}).get("nets", "{}"))
            if any(written.get(str(seed)) != digest for seed, digest in nets.items()):
                raise UserError(
                    f"{path}: holds logits of other weights than those in models/{sensor}{_REMEDY}"
                )
            return {
                state: {seed: file.get_tensor(_key(state, seed)).to(device) for seed in nets}
                for state in states
            }
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_REMEDY}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: {error}{_REMEDY}") from None


def _path(sensor: str) -> Path:
    return FOLDER / f"{sensor}.safetensors"


def _key(state: SensorState, seed: int) -> str:
    return f"{state.name} {state.severity}, seed {seed}"
