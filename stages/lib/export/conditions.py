"""Divides the groups of the cache by conditions: texts as they are, numbers in bins.

N = training groups
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.lib.core.errors import shortened
from stages.lib.core.names import SPLITS
from stages.lib.datasets.condition_values import RETURNS, Value
from stages.lib.params import ConditionField
from stages.lib.tensors.groups import CachedGroup
from stages.lib.tensors.manifest import Condition

NOT_GIVEN = "not given"
OTHER = "other"
_MOST_VALUES = 12  # of a text; beyond it, the rarest ones count as `OTHER`
_FEW_NUMBERS = 3  # so few different numbers are no bins, but values
_ROUNDING = 0.02  # share of the training groups that a rounded edge may move to another bin


@dataclass(frozen=True)
class _Names:
    """The names of a condition's values, in the order of tables."""

    values: list[str]
    of_groups: list[str]
    edges: list[float] | None = None
    warning: str | None = None


def divide(
    fields: list[ConditionField],
    groups: list[CachedGroup],
    values: list[dict[str, Value]],
    slices: dict[str, list[str]],
) -> tuple[list[Condition], list[dict[str, str]], list[str]]:
    """The conditions; each group's value of each; warnings.

    Args:
        groups: of the cache.
        values: of each group, by field.
        slices: by field, the slices whose samples hold it; a field that is not among them has no values.
    """
    conditions, warnings = [], []
    of_groups: list[dict[str, str]] = [{} for _ in groups]
    for field in fields:
        if field.name == RETURNS:
            found: list[Value] = [float(group.returns) for group in groups]
        elif field.name in slices:
            found = [own.get(field.name) for own in values]
        else:
            continue
        is_training = [group.split == "train" for group in groups]
        named = _named(field, found, is_training)
        counts = {split: dict.fromkeys(named.values, 0) for split in SPLITS}
        for group, own, name in zip(groups, of_groups, named.of_groups, strict=True):
            own[field.name] = name
            counts[group.split][name] += 1
        conditions.append(
            Condition(field.name, named.values, named.edges, slices.get(field.name, []), counts)
        )
        if named.warning:
            warnings.append(named.warning)
    return conditions, of_groups, warnings


def _named(field: ConditionField, found: list[Value], is_training: list[bool]) -> _Names:
    given = [value for value in found if value is not None]
    if any(isinstance(value, str) for value in given):
        return _texts(field.name, [None if v is None else _text(v) for v in found], is_training)
    numbers = np.array([np.nan if value is None else float(value) for value in found])
    if field.edges is not None:
        return _bins(numbers, field.edges)
    if len(set(given)) <= _FEW_NUMBERS:
        return _few_numbers(numbers)
    train = numbers[np.array(is_training)]
    return _bins(numbers, terciles(train[~np.isnan(train)]))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _texts(field: str, found: list[str | None], is_training: list[bool]) -> _Names:
    """Texts as they are, the most frequent one of the training split first."""
    everywhere = Counter(value for value in found if value is not None)
    training = Counter(
        value for value, is_in in zip(found, is_training, strict=True) if is_in and value is not None
    )
    ranked = sorted(everywhere, key=lambda value: (-training[value], -everywhere[value], value))
    kept, warning = ranked, None
    if len(ranked) > _MOST_VALUES:
        kept = ranked[: _MOST_VALUES - 1]
        warning = (
            f"field '{shortened(field)}' (dataset.condition_fields) has {len(ranked):,} different values; the "
            f"{len(kept)} most frequent ones of the training split are compared, all others count as '{OTHER}'"
        )
    known = set(kept)
    of_groups = [NOT_GIVEN if v is None else v if v in known else OTHER for v in found]
    extra = [name for name in (OTHER, NOT_GIVEN) if name in of_groups and name not in known]
    return _Names([*kept, *extra], of_groups, warning=warning)


def _few_numbers(numbers: Float[np.ndarray, "_"]) -> _Names:
    values = [f"{value:g}" for value in np.unique(numbers[~np.isnan(numbers)])]
    of_groups = [NOT_GIVEN if np.isnan(number) else f"{number:g}" for number in numbers]
    return _Names([*values, *[NOT_GIVEN] * (NOT_GIVEN in of_groups)], of_groups)


def _bins(numbers: Float[np.ndarray, "_"], edges: Sequence[float]) -> _Names:
    """An edge belongs to the bin above it."""
    shown = [f"{edge:.15g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    values = [f"< {shown[0]}", *between, f">= {shown[-1]}"] if shown else ["any"]
    of_groups = [
        NOT_GIVEN if np.isnan(number) else values[place]
        for number, place in zip(numbers, np.searchsorted(edges, numbers, side="right"), strict=True)
    ]
    return _Names([*values, *[NOT_GIVEN] * (NOT_GIVEN in of_groups)], of_groups, list(edges))


def terciles(numbers: Float[np.ndarray, "N"]) -> list[float]:
    """The edges of three bins of about the same size, rounded as far as this moves few of the numbers.

    Fewer edges where equal numbers leave no bin between two of them.
    """
    if not len(numbers):
        return []
    exact = np.quantile(numbers, [1 / 3, 2 / 3])
    edges = exact
    for digits in range(2, 18):
        edges = np.array([float(f"{edge:.{digits}g}") for edge in exact])
        if np.abs(_shares(numbers, edges) - _shares(numbers, exact)).max() <= _ROUNDING:
            break
    if (numbers == np.rint(numbers)).all():
        edges = np.ceil(edges)  # the same bins, since no number lies between
    filled: list[float] = []
    for edge in np.unique(edges):
        lower = filled[-1] if filled else -np.inf
        if ((numbers >= lower) & (numbers < edge)).any() and (numbers >= edge).any():
            filled.append(float(edge))
    return filled


def _shares(numbers: Float[np.ndarray, "N"], edges: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_"]:
    places: Int[np.ndarray, "N"] = np.searchsorted(edges, numbers, side="right")
    return np.bincount(places, minlength=len(edges) + 1) / len(numbers)
