"""What trained unimodal nets say of every state of their sensor: a late fusion over frozen nets needs nothing else.

data/logits/SENSOR.safetensors
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from stages.lib.evaluation.states import Features, State
from stages.lib.terminal import UserError

FOLDER = Path("data/logits")


def write(sensor: str, logits: dict[State, Features]) -> None:
    """Writes the logits of all seeds' nets of one sensor."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    tensors = {
        _key(state, seed): tensor.cpu().contiguous()
        for state, by_seed in logits.items()
        for seed, tensor in by_seed.items()
    }
    safetensors.torch.save_file(tensors, FOLDER / f"{sensor}.safetensors")


def read(states: list[State], seeds: list[int], device: torch.device) -> dict[State, Features]:
    """Logits of these states.

    Raises:
        UserError: when there are none.
    """
    tensors = {sensor: _load(sensor) for sensor in {state.sensor for state in states}}
    try:
        return {
            state: {seed: tensors[state.sensor][_key(state, seed)].to(device) for seed in seeds}
            for state in states
        }
    except KeyError as error:
        raise UserError(f"{FOLDER}: holds no logits of {error}; run `dvc repro`") from None


def _load(sensor: str) -> dict[str, Tensor]:
    path = FOLDER / f"{sensor}.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` evaluates {sensor}")
    return safetensors.torch.load_file(path)


def _key(state: State, seed: int) -> str:
    return f"{state.name} {state.severity}, seed {seed}"
