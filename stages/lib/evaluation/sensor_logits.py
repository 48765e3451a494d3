"""What trained unimodal nets say of every state of their sensor: a late fusion over frozen nets needs nothing else.

data/logits/SENSOR.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from stages.lib.core.errors import UserError
from stages.lib.evaluation.states import Features, State

FOLDER = Path("data/logits")
_MEND = "; `dvc repro` evaluates that sensor's nets first"


def write(sensor: str, logits: dict[State, Features], nets: dict[int, str]) -> None:
    """Writes the logits of all seeds' nets of one sensor.

    Args:
        nets: by seed, a digest of the weights that the logits are of.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    tensors = {
        _key(state, seed): tensor.cpu().contiguous()
        for state, by_seed in logits.items()
        for seed, tensor in by_seed.items()
    }
    # One entry, since the library writes several in an order that changes from run to run.
    story = {"nets": json.dumps(nets)}
    safetensors.torch.save_file(tensors, _path(sensor), story)


def read(
    sensor: str, states: list[State], nets: dict[int, str], device: torch.device
) -> dict[State, Features]:
    """Logits of these states of one sensor.

    Raises:
        UserError: when there are none, or when they are of other nets than those of these digests.
    """
    path = _path(sensor)
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads((file.metadata() or {}).get("nets", "{}"))
            if any(written.get(str(seed)) != digest for seed, digest in nets.items()):
                raise UserError(f"{path}: holds logits of other weights than those in models/{sensor}{_MEND}")
            return {
                state: {seed: file.get_tensor(_key(state, seed)).to(device) for seed in nets}
                for state in states
            }
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_MEND}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: {error}{_MEND}") from None


def _path(sensor: str) -> Path:
    return FOLDER / f"{sensor}.safetensors"


def _key(state: State, seed: int) -> str:
    return f"{state.name} {state.severity}, seed {seed}"
