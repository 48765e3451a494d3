"""Writes a deployed model as one ONNX file, and compares what ONNX Runtime and PyTorch make of it.

The only module that needs onnx, onnxscript and onnxruntime, which requirements-deploy.txt lists.

B = batch;  C = colour channels;  S = side in pixels;  L = classes
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.benchmark import Timer

from stages.lib.core.errors import UserError, first_line
from stages.lib.deployment.model import DeployedModel
from stages.lib.models import devices

OPSET = 20
INPUTS, OUTPUTS = ("rgb", "xyza"), ("probabilities", "decision")
TOLERANCE = 1e-4  # of a probability
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LIMIT_BYTES = 2**31 - 2**20  # of a file in Protocol Buffers' format, less room for the graph
_TIMED_S = 1.0


def require_packages() -> None:
    """Raises UserError when a package is missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"not installed: {', '.join(missing)}; `pip install -r requirements-deploy.txt` installs what ONNX needs"
        )


def write(
    path: Path,
    model: DeployedModel,
    rgb: UInt8[Tensor, "B C S S"],
    xyza: Float[Tensor, "B 4 S S"],
    facts: dict[str, Any],
) -> None:
    """Writes the file.

    Args:
        rgb: a sample of the inputs, at least two; `xyza` likewise.
        facts: metadata: JSON values by key.

    Raises:
        UserError: when the weights are too large for one file, or when the network cannot be translated.
    """
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size > _LIMIT_BYTES:
        raise UserError(
            f"{size / 2**30:.1f} GiB of weights; an ONNX file holds 2 GiB: export fewer seeds, with --seed"
        )
    batch = torch.export.Dim("batch", min=1)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of libraries that are not installed and not needed
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (rgb, xyza),
                dynamo=True,
                opset_version=OPSET,
                input_names=INPUTS,
                output_names=OUTPUTS,
                dynamic_shapes=({0: batch}, {0: batch}),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"PyTorch cannot translate this network to ONNX: {first_line(error)}") from None
    finally:
        log.setLevel(level)
    assert program is not None
    if any(isinstance(given.shape[0], int) for given in program.model.graph.inputs if given.shape):
        raise UserError(
            "the network's graph fixes the size of a batch; in its fusion, write x.shape[0] instead of len(x)"
        )
    program.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    program.save(path, external_data=False)


class Session:
    """An ONNX file in ONNX Runtime, on one thread of the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(
        self, rgb: UInt8[np.ndarray, "B C S S"], xyza: Float[np.ndarray, "B 4 S S"]
    ) -> tuple[Float[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        """Probabilities and decisions."""
        probabilities, decisions = self._session.run(list(OUTPUTS), {"rgb": rgb, "xyza": xyza})
        # ONNX Runtime has a type of its own for whole numbers of 64 bits.
        return probabilities, decisions.astype(np.int64)


@torch.no_grad()
def difference(
    session: Session, model: DeployedModel, rgb: UInt8[Tensor, "B C S S"], xyza: Float[Tensor, "B 4 S S"]
) -> float:
    """The largest difference of a probability between ONNX Runtime and PyTorch.

    Raises:
        UserError: when it is above the tolerance, or when decisions differ where they are not almost tied.
    """
    probabilities, decided = session.run(rgb.numpy(), xyza.numpy())
    logits = model.logits(rgb, xyza)
    largest = float(np.abs(probabilities - model.probabilities(logits).mean(dim=0).numpy()).max())
    scores = model.scores(logits).numpy()
    lost = scores.max(axis=1) - scores[np.arange(len(scores)), decided]  # by another decision than PyTorch's
    # Not `largest > TOLERANCE`, which NaN would pass.
    if not (largest <= TOLERANCE and (lost <= TOLERANCE).all()):
        raise UserError(
            f"ONNX Runtime and PyTorch differ by {largest:.2g} in a probability ({TOLERANCE:g} is allowed) in a "
            f"batch of {len(rgb)}; no file was written"
        )
    return largest


@torch.no_grad()
def latencies_ms(
    session: Session, model: DeployedModel, rgb: UInt8[Tensor, "1 C S S"], xyza: Float[Tensor, "1 4 S S"]
) -> tuple[float, float]:
    """Median time of one sample on one thread in milliseconds: PyTorch in its faster layout, then ONNX Runtime."""
    arrays = (rgb.numpy(), xyza.numpy())
    model = devices.place(copy.deepcopy(model), torch.device("cpu"))
    tensors = [tensor.to(memory_format=torch.channels_last) for tensor in (rgb, xyza)]
    runs = (lambda: model(*tensors), lambda: session.run(*arrays))
    times = [
        Timer("run()", globals={"run": run}, num_threads=1).blocked_autorange(min_run_time=_TIMED_S)
        for run in runs
    ]
    return times[0].median * 1000, times[1].median * 1000
