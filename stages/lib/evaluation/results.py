"""A model's evaluation on disk: its metrics per seed, and its cost.

reports/evaluation/NAME.json
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.evaluation.metrics import Metrics

FOLDER = Path("reports/evaluation")


@dataclass(frozen=True)
class Cost:
    """Costs that do not depend on the machine; None for baselines."""

    parameters: int | None
    trainable_parameters: int | None
    weights_mib: float | None
    flops_m: float | None  # floating-point operations of one sample, in millions
    # Units of the head's first layer; None also for a late fusion, whose networks have their own heads.
    head_width: int | None


@dataclass(frozen=True)
class Probes:
    """One seed's balanced accuracy by state of its sensors, on the test split or, without one, on validation."""

    clean: float
    missing: dict[str, float]  # by the missing sensor: each that the model sees, and "both"
    shuffled: dict[str, float]  # by the sensor with inputs from other groups; empty without permutations
    # By sensor, corruption and severity, 0 being none: on `evaluate.corrupted_groups` of the samples.
    corrupted: dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Evaluation:
    """One model's results."""

    model: str
    kind: str  # "unimodal", "early", "intermediate", "late" or "baseline"
    cost: Cost
    seeds: dict[int, dict[str, Metrics]]  # by seed and split
    probes: dict[int, Probes]  # by seed; empty for baselines, which use no sensor


def write(evaluation: Evaluation) -> None:
    """Writes a model's results."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{evaluation.model}.json"
    path.write_text(json.dumps(asdict(evaluation), indent=2) + "\n")


def read(name: str) -> Evaluation:
    """A model's results.

    Raises:
        UserError: when they are missing.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` evaluates {name}")
    content = json.loads(path.read_text())
    return Evaluation(
        model=content["model"],
        kind=content["kind"],
        cost=Cost(**content["cost"]),
        seeds={
            int(seed): {split: Metrics(**values) for split, values in by_split.items()}
            for seed, by_split in content["seeds"].items()
        },
        probes={int(seed): Probes(**probes) for seed, probes in content["probes"].items()},
    )
