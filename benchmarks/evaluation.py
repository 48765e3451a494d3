"""The time of a model's evaluation, and of the comparison of all models.

    python benchmarks/evaluation.py [--groups 1000] [--seeds 10] [--json FILE]

Makes the built-in dataset with so many test groups in a temporary folder, and times two stages as processes,
start included: the evaluation of concatenation with three seeds, with corruptions of as many groups as in
params.yaml and of all groups, and the comparison of six models. Nothing is trained: the evaluated weights are
initial ones, and the compared predictions are random, which takes both stages the same time. Takes about four
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import safetensors.torch
import torch
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/evaluation.py` works as well
    sys.path.insert(0, str(ROOT))

from dvc.utils.hydra import apply_overrides

from benchmarks.export import memory_mib
from stages.lib import fusions, params
from stages.lib.evaluation import decisions, predictions, results
from stages.lib.evaluation.decisions import Decisions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.models import architecture, checkpoints, networks, records
from stages.lib.models.architecture import Architecture
from stages.lib.params import Params
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests

EVALUATED = "concatenation"
EVALUATED_SEEDS = [0, 1, 2]
SHARES = {"train": 0.4, "validation": 0.1, "test": 0.5}  # of the groups


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=1000, help="of the test split")
    parser.add_argument("--seeds", type=int, default=10, help="of the comparison")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.chdir(folder)
        figures = measure(given.groups, given.seeds)
    rows = [[what, f"{row['seconds']:.1f}", f"{row['peak_mib']:,.0f}"] for what, row in figures.items()]
    print(tabulate(rows, ["Stage", "Seconds", "Peak memory (MiB)"], "github", disable_numparse=True))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(groups: int, num_seeds: int) -> dict[str, dict[str, float]]:
    """Seconds and memory of each stage, in this folder."""
    shares = [f"synthetic.splits.{split}={share}" for split, share in SHARES.items()]
    total = round(groups / SHARES["test"])
    configure([f"synthetic.groups={total}", *shares, f"seeds={EVALUATED_SEEDS}"])
    for stage in ("check", "synthesize", "export"):
        timed(stage)
    write_weights(params.load())
    figures = {"evaluate": timed("evaluate", EVALUATED)}
    configure([f"evaluate.corrupted_groups={groups}"])
    figures["evaluate, all groups corrupted"] = timed("evaluate", EVALUATED)
    configure([f"seeds={list(range(num_seeds))}"])
    write_random_results(params.load())
    figures["compare"] = timed("compare")
    return figures


def configure(overrides: list[str]) -> None:
    """Writes settings into the folder's own params.yaml."""
    path = Path("params.yaml")
    if not path.exists():
        path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, overrides)


def timed(stage: str, *arguments: str) -> dict[str, float]:
    """Runs a stage as DVC does; returns its seconds, and the peak memory of all its processes in MiB."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    peak_mib = 0.0
    while process.poll() is None:
        peak_mib = max(peak_mib, memory_mib(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"stage {stage} failed; its own message is above")
    return {"seconds": time.perf_counter() - started, "peak_mib": peak_mib}


def write_weights(settings: Params) -> None:
    manifest = manifests.load(manifests.FOLDER)
    sizes = Architecture.from_settings(manifest, settings.network)
    for seed in settings.seeds:
        torch.manual_seed(seed)
        path = checkpoints.weights_path(checkpoints.MODELS, EVALUATED, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(networks.build(EVALUATED, sizes).state_dict(), path)
        path.with_suffix(".json").write_text(
            json.dumps({"architecture": architecture.facts(EVALUATED, sizes)})
        )


def write_random_results(settings: Params) -> None:
    """Writes all inputs of `compare`: random logits, and otherwise the results of the evaluation above."""
    measured = results.read(EVALUATED)
    latency = records.read_timing(f"evaluate-{EVALUATED}")
    decided = decisions.read(EVALUATED)
    row = {state: found[:1] for state, found in decided.decided.items()}
    shares = manifests.load(manifests.FOLDER).class_shares
    groups = {split: stored_groups.read(manifests.FOLDER, split) for split in ("validation", "test")}
    generator = np.random.default_rng(0)
    probes = measured.probes[EVALUATED_SEEDS[0]]
    for name in (*settings.model_names(), "prior", "return_count"):
        is_baseline = name not in settings.model_names()
        seeds = [0] if is_baseline else settings.seeds
        random = [
            Predictions(seed, split, members, random_logits([group.label for group in members], generator))
            for seed in seeds
            for split, members in groups.items()
        ]
        predictions.write(name, random)
        results.write(
            replace(
                measured,
                model=name,
                kind="baseline" if is_baseline else fusions.spec(name).kind,
                seeds=predictions.measure_seeds(random, shares),
                probes={} if is_baseline else dict.fromkeys(seeds, probes),
            )
        )
        if not is_baseline:
            repeated = {state: found.repeat(len(seeds), axis=0) for state, found in row.items()}
            decisions.write(name, Decisions(seeds, decided.groups, repeated))
            write_training(name, seeds)
            records.write_timing(f"evaluate-{name}", latency)


def random_logits(labels: list[int], generator: np.random.Generator) -> np.ndarray:
    """Logits of an accuracy of 90 %."""
    signs = np.where(np.array(labels) == 1, 1.0, -1.0)[:, None]
    return (1.28 * signs + generator.normal(size=signs.shape)).astype(np.float32)


def write_training(name: str, seeds: list[int]) -> None:
    rows = [
        {
            "epoch": epoch,
            "seed": seed,
            "learning_rate": 0.001,
            "train_loss": 1 / epoch,
            "valid_loss": 1 / epoch,
        }
        for seed in seeds
        for epoch in (1, 2, 3)
    ]
    records.write_history(name, rows)
    seconds = {str(seed): {"epoch_s": [1.0, 1.0, 1.0], "peak_memory_mib": 1.0} for seed in seeds}
    records.write_timing(f"train-{name}", {"model": name, "seeds": seconds})


if __name__ == "__main__":
    main()
