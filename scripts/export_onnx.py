"""Writes a trained model as one ONNX file that takes measurements and returns calibrated probabilities.

    python -m scripts.export_onnx MODEL OUT.onnx [--seed N | --ensemble]

Inputs are `rgb`, uint8 (B, C, S, S), and `xyza`, float32 (B, 4, S, S): x, y, z in metres and a > 0 at returns, in the
dataset's raster before it is turned onto the image. Normalisation, turn, networks and calibration are inside.
docs/onnx.md has more. The file is kept only if ONNX Runtime and PyTorch agree on samples of the tensor cache.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scripts.command_line import Parser
from stages.lib import params
from stages.lib.comparison.results import Summary
from stages.lib.core import console
from stages.lib.deployment import accuracy, files, loading, onnx_file
from stages.lib.deployment.loading import Deployable
from stages.lib.deployment.model import turned_back
from stages.lib.models import devices, records
from stages.lib.params import Report
from stages.lib.report import format
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.split import Split

_BATCHES = (1, 7)  # on which ONNX Runtime and PyTorch are compared


def main(arguments: Sequence[str]) -> None:
    given = parse(arguments)
    onnx_file.require_packages()
    files.require_place(given.out, (".onnx",))
    report = params.load().report
    devices.prepare_process(threads=1)
    deployed = loading.load(given.model, None if given.seed is None else [given.seed])
    if given.seed is None and not given.ensemble:
        deployed = loading.load(given.model, [best_seed(deployed)])
    split, summary = measured_accuracy(deployed, report)
    rgb, xyza = samples(deployed, split)
    with files.replaced(given.out) as path:
        with console.timed("translating to ONNX"):
            onnx_file.write(path, deployed.model, rgb, xyza, metadata(deployed, split, summary, report))
        session = onnx_file.Session(path)
        largest = compare(session, deployed, rgb, xyza)
        torch_ms, onnx_ms = onnx_file.latencies_ms(session, deployed.model, rgb[:1], xyza[:1])
        size_mb = os.path.getsize(path) / 1e6
    seeds = f"seed{'s' if deployed.seeds[1:] else ''} {', '.join(map(str, deployed.seeds))}"
    print(
        f"wrote {given.out}: {deployed.name}, {seeds}, {size_mb:.1f} MB, opset {onnx_file.OPSET}\n"
        f"balanced accuracy on the {split} split: {format.with_interval(summary)}\n"
        f"largest difference from PyTorch: {largest:.1g} in a probability (batches of 1 and 7, one of them with a "
        "scan without returns)\n"
        f"one sample on one thread: ONNX Runtime {onnx_ms:.2f} ms, PyTorch {torch_ms:.2f} ms"
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m scripts.export_onnx", description="Writes a trained model as an ONNX file."
    )
    parser.add_argument("model", metavar="MODEL", help="a trained model, such as late")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="the file to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--seed", type=int, help="the seed to export; by default the one with the lowest validation loss"
    )
    which.add_argument(
        "--ensemble", action="store_true", help="all seeds in one file; probabilities are their mean"
    )
    return parser.parse_args(arguments)


def best_seed(deployed: Deployable) -> int:
    """The seed with the lowest loss on validation."""
    losses = deployed.validation.losses().mean(axis=1)
    return deployed.seeds[int(losses.argmin())]


def measured_accuracy(deployed: Deployable, report: Report) -> tuple[str, Summary]:
    """The split that the report judges models on, and the balanced accuracy there."""
    split = "test" if deployed.manifest.has_test_split else "validation"
    found = loading.split_predictions(deployed.name, split, deployed.seeds)
    together = accuracy.of_all_together(deployed.model, found, report)
    each = accuracy.of_each_seed(deployed.model, found, deployed.manifest.class_shares, report)
    return split, (together or each)["balanced_accuracy"]


def samples(deployed: Deployable, split: str) -> tuple[UInt8[Tensor, "B C S S"], Float[Tensor, "B 4 S S"]]:
    """Images and rasters of the cache, spread over a split, as the file takes them."""
    cached = Split(manifests.FOLDER, deployed.manifest, split)
    places = np.linspace(0, len(cached) - 1, max(_BATCHES)).astype(int).tolist()
    images, rasters = cached.images_and_rasters(places)
    return (images * 255).round().to(torch.uint8), turned_back(rasters, deployed.manifest.orientation)


def compare(
    session: onnx_file.Session,
    deployed: Deployable,
    rgb: UInt8[Tensor, "B C S S"],
    xyza: Float[Tensor, "B 4 S S"],
) -> float:
    """The largest difference from PyTorch, for batches of every size, with and without a scan without returns."""
    without = xyza.clone()
    without[0] = 0
    return max(
        onnx_file.difference(session, deployed.model, rgb[:size], scans[:size])
        for size in _BATCHES
        for scans in (xyza, without)
    )


def metadata(deployed: Deployable, split: str, summary: Summary, report: Report) -> dict[str, Any]:
    """What the file says about itself; every value is JSON."""
    manifest = deployed.manifest
    return {
        "model": deployed.name,
        "classes": manifest.classes,
        "seeds": deployed.seeds,
        "temperatures": deployed.model.temperatures.tolist(),
        "class_shares": manifest.class_shares.tolist(),
        "data_digest": manifest.digest,
        "balanced_accuracy": {
            "split": split,
            "mean": summary.mean,
            "low": summary.low,
            "high": summary.high,
            "confidence": report.confidence,
        },
        "revision": records.read_timing(f"train-{deployed.name}")["revision"],
        "orientation": manifest.orientation,
        "image_size": manifest.image_size,
        "opset": onnx_file.OPSET,
    }


if __name__ == "__main__":
    console.run(main)
