"""What identifies and describes a run: one seed of one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class Run:
    """One seed of one model."""

    model: str
    seed: int
    id: str
    config: dict[str, Setting]  # a dot in a key stands for a group

    @property
    def name(self) -> str:
        return f"{self.model}-seed-{self.seed}"

    @property
    def tags(self) -> list[str]:
        return [self.model, f"seed-{self.seed}", f"data-{self.config['data_digest']:.12}"]


def describe(model: str, seed: int, metadata: Mapping[str, Any], first: tuple[float, float]) -> Run:
    """The run of a seed.

    Args:
        metadata: settings and digest of the data, as in models/NAME/seed-51.json.
        first: training and validation loss of the first epoch. They are part of the id: a seed that is resumed or
            repeated goes on in its run, and a seed that other code trains gets a run of its own.
    """
    facts = json.dumps([model, seed, metadata, first], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()
    config = {"model": model, "seed": seed, **_flat(metadata)}
    return Run(model, seed, f"{model}-seed-{seed}-{digest[:10]}", config)


def describe_finished(content: Mapping[str, Any]) -> Run:
    """The run of a trained seed, from the content of models/NAME/seed-51.json."""
    results = ("model", "seed", "best_epoch", "train_loss", "valid_loss")
    metadata = {key: value for key, value in content.items() if key not in results}
    first = (content["train_loss"][0], content["valid_loss"][0])
    return describe(content["model"], content["seed"], metadata, first)


def test_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The summary of a run: metrics on the test split under the names that reports/comparison.csv has for them."""
    return {f"test_{name}": value for name, value in metrics.items() if value is not None}


def _flat(group: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Settings without nested groups; a list becomes a text, which every tracker takes."""
    flat: dict[str, Setting] = {}
    for key, value in group.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
