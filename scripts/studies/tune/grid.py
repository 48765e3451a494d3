"""The points of the search, and which of them a model gets: numbers in, a point out.

S = seeds of the search
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.lib.core.errors import UserError
from stages.lib.params import Train

# Of the default learning rates. Half a decade to either side: models that need another learning rate need one of
# another order, and steps of two would lie within the noise of two seeds.
FACTORS = (1 / 3, 1.0, 3.0)
# The default, and a value that can matter. 350 steps at the default learning rate take 1 - exp(-0.21 x decay) off
# every weight: 2 % at 0.1, which made no difference (benchmarks/README.md), 19 % at 1. The head of a late fusion
# takes many more and larger steps; a decay of 1 keeps its weights below about 1.
WEIGHT_DECAYS = (0.0, 1.0)
_SETTINGS = {"tune.factors": FACTORS, "tune.weight_decays": WEIGHT_DECAYS}


@dataclass(frozen=True)
class Point:
    """What a model can be trained with."""

    learning_rate: float  # highest one, of networks
    late_learning_rate: float  # highest one, of a late fusion's head over frozen networks
    weight_decay: float

    @property
    def name(self) -> str:
        """Of the experiment in DVC."""
        return f"lr-{self.learning_rate:g}-wd-{self.weight_decay:g}"

    @property
    def settings(self) -> list[str]:
        """For all models at once."""
        return [
            f"train.learning_rate={self.learning_rate:g}",
            f"train.late.learning_rate={self.late_learning_rate:g}",
            f"train.weight_decay={self.weight_decay:g}",
        ]

    def rate_of(self, has_frozen_nets: bool) -> float:
        """The learning rate of a model of this kind."""
        return self.late_learning_rate if has_frozen_nets else self.learning_rate


@dataclass(frozen=True)
class Grid:
    """All points, and the one of the default settings."""

    points: tuple[Point, ...]
    default: Point


def split(overrides: Sequence[str]) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """The grid's own settings (`tune.factors=[0.5,1,2]`, `tune.weight_decays=[0,0.1]`), and all other overrides.

    Raises:
        UserError: when a setting of the grid is unknown or no list of numbers.
    """
    own: dict[str, tuple[float, ...]] = dict(_SETTINGS)
    rest = []
    for override in overrides:
        key, _, text = override.partition("=")
        if not key.startswith("tune."):
            rest.append(override)
            continue
        if key not in own:
            raise UserError(f"SET: unknown setting '{key}'; those of the search are {', '.join(own)}")
        own[key] = _numbers(key, text)
    return own, rest


def _numbers(key: str, text: str) -> tuple[float, ...]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    least = "above zero" if key == "tune.factors" else "not below zero"
    if (
        not isinstance(values, list)
        or not values
        or not all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in values)
        or (key == "tune.factors" and 0 in values)
    ):
        raise UserError(f"SET: {key}: '{text}' is no list of numbers {least}, such as [0.5,1,2]")
    return tuple(map(float, values))


def build(train: Train, own: Mapping[str, Sequence[float]]) -> Grid:
    """The grid around the default settings, which are one of its points, given or not."""
    default = Point(train.learning_rate, train.late.learning_rate, train.weight_decay)
    points = [
        Point(_scaled(train.learning_rate, factor), _scaled(train.late.learning_rate, factor), decay)
        for decay in sorted({*own["tune.weight_decays"], train.weight_decay})
        for factor in sorted({*own["tune.factors"], 1.0})
    ]
    return Grid(tuple(points), default)


def _scaled(rate: float, factor: float) -> float:
    """To three digits, as file names and tables show it; the default stays as it is."""
    return rate if factor == 1 else float(f"{rate * factor:.3g}")


def choose(losses: Mapping[Point, Float[np.ndarray, "S"]], default: Point) -> Point:
    """The point with the lowest mean validation loss over seeds; the default where others are only as good.

    Args:
        losses: of each seed's best epoch; infinite where its training diverged.
    """
    others = [point for point in losses if point != default]
    return min([default, *others], key=lambda point: float(losses[point].mean()))


def edges(point: Point, points: Sequence[Point]) -> list[str]:
    """At which ends of the grid a point lies, in words: beyond them, a model might be better still.

    No decay is no end: there is nothing beyond it.
    """
    rates = {other.learning_rate for other in points}
    decays = {other.weight_decay for other in points}
    found = []
    if len(rates) > 1 and point.learning_rate in (min(rates), max(rates)):
        found.append(f"{'lowest' if point.learning_rate == min(rates) else 'highest'} learning rate")
    if len(decays) > 1 and point.weight_decay == max(decays):
        found.append("highest weight decay")
    return found
