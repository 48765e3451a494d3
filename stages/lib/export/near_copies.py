"""Finds near copies across splits: groups whose picture and raster look like those of a group in another split.

Such a copy is the same view once more: encoded again, a little brighter, cropped or shifted by some pixels, or the next
frame of a sensor at rest. A model that trained on the one knows the other, so results on it are too good.

The distance of two pictures is that of their thumbnails (16 x 16, smoothed, without mean, of length 1), after the shift
of at most one cell that brings them closest, together with the difference of their mean colours. That of two rasters is
the same for mean nearness, together with the difference of the mean ranges. A pair is near when both distances together
are within _LIMIT; where a raster has no return, the picture alone has to be within half of it. Pictures of a single
colour and nearly black ones are never compared.

_LIMIT was chosen on the built-in dataset (2,110 groups; 1.2 million pairs across splits). docs/own-data.md has the
rates; `tests/export/test_near_copies.py` checks them at a smaller size.

All pairs are first compared by matrix products, with distances that allow for shifts to first order (the tangent
distance of Simard, LeCun and Denker 1993); only the closest few of each group are shifted.

    N = groups of a split;  Q = groups that are compared with them;  P = pairs;  T = side of a thumbnail
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.lib.core import errors
from stages.lib.export.group_stats import GroupStats
from stages.lib.export.thumbnails import SIDE
from stages.lib.tensors.manifest import NearCopy

MOST_LISTED = 100  # pairs in the manifest

_LIMIT = 0.08  # of the distance of a near copy
_SHARE = 0.1  # of the distance between unrelated groups, at most: where all pictures are alike, copies are closer
_FAINT = 0.02  # standard deviation of a thumbnail's brightness; a picture of less contrast shows too little
# How much a difference in colour (as shares of red, green and blue) and in range (as logarithm) counts.
_COLOR_WEIGHT, _RANGE_WEIGHT = 2.0, 8.0
_CANDIDATES = 4  # of each group, which are compared after shifting
_CANDIDATE_LIMIT = 0.5  # of their distance before
_STEPS = 3  # in search of the best shift
_TOGETHER = 256  # groups in a block of the matrix products, and at most 4096 pairs in one of shifts: limits memory
# The splits that are compared, each with the ones after it.
_PAIRS = (("test", "train"), ("validation", "train"), ("test", "validation"))


@dataclass(frozen=True)
class NearCopies:
    """The near copies of a dataset."""

    listed: list[NearCopy]  # the closest first, at most MOST_LISTED
    counts: dict[str, dict[str, int]]  # groups with a near copy, by their split and that of the copy

    def warning(self) -> str | None:
        """What they mean and what to do, as a sentence without a full stop."""
        if not self.listed:
            return None
        parts = [
            f"{count:,} {split} group{'s' if count > 1 else ''} {'have' if count > 1 else 'has'} a near copy in the "
            f"{other} split"
            for split, others in self.counts.items()
            for other, count in others.items()
        ]
        first = self.listed[0]
        return (
            f"{'; '.join(parts)}: almost the same picture and scan, so results on them are too good; give each such "
            "pair the same scene (dataset.scene_field), so that both are in one split, or leave one of the two out "
            f"(closest: {errors.printable(first.group)} and {errors.printable(first.other_group)})"
        )


class _Described(NamedTuple):
    """What is compared of the groups of one split."""

    pictures: Float[np.ndarray, "N T T"]
    colors: Float[np.ndarray, "N 3"]  # weighted shares of the mean colour
    is_faint: Bool[np.ndarray, "N"]
    rasters: Float[np.ndarray, "N T T"]
    ranges: Float[np.ndarray, "N 1"]  # weighted logarithm of the mean range
    is_empty: Bool[np.ndarray, "N"]  # whether the raster has no return


class Search:
    """Collects the thumbnails of all groups during the export, then compares them."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = defaultdict(list)
        self._thumbnails: dict[str, list[Float[np.ndarray, "2 T T"]]] = defaultdict(list)
        self._colors: dict[str, list[Float[np.ndarray, "3"]]] = defaultdict(list)
        self._ranges_m: dict[str, list[float]] = defaultdict(list)

    def add(self, split: str, key: str, stats: GroupStats) -> None:
        """Adds one group of the cache."""
        self._keys[split].append(key)
        self._thumbnails[split].append(stats.thumbnails)
        sums = stats.color_sums[0]
        self._colors[split].append(np.broadcast_to(sums / max(sums.sum(), 1e-9), 3))
        self._ranges_m[split].append(stats.mean_range_m if stats.returns else 0.0)

    def find(self) -> NearCopies:
        """Compares all groups across splits; of the copies of a group in one split, the closest counts."""
        described = {split: self._describe(split) for split in self._keys}
        limit = _LIMIT
        if "train" in described:
            limit = min(limit, _SHARE * _usual_distance(described["train"]))
        found = []
        counts: dict[str, dict[str, int]] = {}
        for split, other in _PAIRS:
            if split not in described or other not in described:
                continue
            copies = _closest(described[split], described[other], limit)
            for place, other_place, picture, raster in copies:
                group, other_group = self._keys[split][place], self._keys[other][other_place]
                found.append(NearCopy(group, split, other_group, other, picture, raster))
            if copies:
                counts.setdefault(split, {})[other] = len(copies)
        found.sort(key=lambda pair: (np.hypot(pair.picture_distance, pair.raster_distance or 0.0), pair.group))
        return NearCopies(found[:MOST_LISTED], counts)

    def _describe(self, split: str) -> _Described:
        thumbnails = np.stack(self._thumbnails[split])
        ranges_m = np.array(self._ranges_m[split], dtype=np.float32)
        prepared: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for part in _blocks(len(thumbnails), 1024):
            pictures, rasters = (_smoothed(thumbnails[part, i].astype(np.float32)) for i in range(2))
            pictures -= pictures.mean(axis=(1, 2), keepdims=True)
            is_faint = pictures.std(axis=(1, 2)) < _FAINT
            # Halves take half the memory; their error is far below any distance that matters.
            prepared.append((_unit(pictures).astype(np.float16), is_faint, _unit(rasters).astype(np.float16)))
        pictures, is_faint, rasters = (np.concatenate(parts) for parts in zip(*prepared, strict=True))
        return _Described(
            pictures=pictures,
            colors=_COLOR_WEIGHT * np.stack(self._colors[split]).astype(np.float32),
            is_faint=is_faint,
            rasters=rasters,
            ranges=_RANGE_WEIGHT * np.log(np.where(ranges_m > 0, ranges_m, 1))[:, None],
            is_empty=ranges_m == 0,
        )


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _smoothed(thumbnails: Float[np.ndarray, "N T T"]) -> Float[np.ndarray, "N T T"]:
    """Weighs each cell twice and its neighbours once, along both axes: then values between cells can be read off."""
    for axis in (1, 2):
        ends = np.swapaxes(thumbnails, 1, axis)
        ends = np.concatenate([ends[:, :1], ends, ends[:, -1:]], axis=1)
        thumbnails = np.swapaxes((ends[:, :-2] + 2 * ends[:, 1:-1] + ends[:, 2:]) / 4, 1, axis)
    return thumbnails


def _unit(thumbnails: Float[np.ndarray, "N T T"]) -> Float[np.ndarray, "N T T"]:
    """Divided by their length, so that no factor on all values counts."""
    return thumbnails / np.maximum(np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True), 1e-9)


def _usual_distance(described: _Described) -> float:
    """The median distance between groups that stand half a split apart, so rarely of the same scene."""
    count = len(described.pictures)
    if count < 2:
        return np.inf
    firsts = np.unique(np.linspace(0, count - 1, min(count, 1000)).astype(int))
    seconds = (firsts + count // 2) % count
    compared = ~(described.is_faint[firsts] | described.is_faint[seconds])
    if not compared.any():
        return np.inf
    first, second = (_members(described, places[compared]) for places in (firsts, seconds))
    squares = sum(
        np.square(getattr(first, name).astype(np.float32) - getattr(second, name)).reshape(compared.sum(), -1).sum(1)
        for name in ("pictures", "colors", "rasters", "ranges")
    )
    return float(np.sqrt(np.median(squares)))


def _members(described: _Described, places: Int[np.ndarray, "P"] | slice) -> _Described:
    return _Described(*(values[places] for values in described))


def _closest(
    groups: _Described, others: _Described, limit: float
) -> list[tuple[int, int, float, float | None]]:
    """The closest near copy of each group that has one: both places, and the distances of pictures and rasters."""
    candidates = _candidates(groups, others)
    best: dict[int, tuple[float, int, float, float | None]] = {}
    for part in _blocks(len(candidates), 4096):
        pairs = candidates[part]
        first, second = _members(groups, pairs[:, 0]), _members(others, pairs[:, 1])
        empty = first.is_empty | second.is_empty
        picture = np.hypot(
            _shifted_distance(first.pictures, second.pictures),
            np.linalg.norm(first.colors - second.colors, axis=1),
        )
        raster = np.hypot(
            _shifted_distance(first.rasters, second.rasters), np.abs(first.ranges - second.ranges)[:, 0]
        )
        distance = np.where(empty, 2 * picture, np.hypot(picture, raster))
        for i in np.flatnonzero(distance <= limit).tolist():
            place, other = pairs[i].tolist()
            own = None if empty[i] else float(raster[i])
            best[place] = min(
                best.get(place, (np.inf, 0, 0.0, None)),
                (float(distance[i]), other, float(picture[i]), own),
                key=lambda entry: entry[:2],
            )
    return [(place, other, picture, raster) for place, (_, other, picture, raster) in sorted(best.items())]


def _candidates(groups: _Described, others: _Described) -> Int[np.ndarray, "P 2"]:
    """For each group the few others that may be near copies, by distances that allow for shifts to first order."""
    found = [np.empty((0, 2), dtype=np.int64)]
    other_pictures, other_rasters = _coarse(others.pictures), _coarse(others.rasters)
    for part in _blocks(len(groups.pictures), _TOGETHER):
        own = _members(groups, part)
        squares = _tangent_squares(own.rasters, own.ranges, other_rasters, others.ranges)
        squares[own.is_empty[:, None] | others.is_empty] = 0
        squares += _tangent_squares(own.pictures, own.colors, other_pictures, others.colors)
        squares[own.is_faint[:, None] | others.is_faint] = np.inf
        rows, columns = np.nonzero(squares <= _CANDIDATE_LIMIT**2)
        # The place of each candidate among those of its group, by distance.
        order = np.lexsort((squares[rows, columns], rows))
        rows, columns = rows[order], columns[order]
        first = np.searchsorted(rows, rows)
        near = np.arange(len(rows)) - first < _CANDIDATES
        found.append(np.stack([part.start + rows[near], columns[near]], axis=1))
    return np.concatenate(found)


def _coarse(thumbnails: Float[np.ndarray, "*n T T"]) -> Float[np.ndarray, "*n cells"]:
    """With a quarter of the cells, which is enough to find candidates; distances stay about the same."""
    half = SIDE // 2
    boxes = thumbnails.astype(np.float32).reshape(*thumbnails.shape[:-2], half, 2, half, 2)
    return 2 * boxes.mean(axis=(-3, -1)).reshape(*thumbnails.shape[:-2], half**2)


def _tangent_squares(
    thumbnails: Float[np.ndarray, "Q T T"],
    more: Float[np.ndarray, "Q d"],
    others: Float[np.ndarray, "N cells"],
    others_more: Float[np.ndarray, "N d"],
) -> Float[np.ndarray, "Q N"]:
    """Squared distances between all groups and all others, without what small shifts of the group would explain.

    Args:
        more: values whose differences count, too.
        others: coarse thumbnails.
    """
    own = _coarse(thumbnails)
    full, others_full = np.hstack([own, more]), np.hstack([others, others_more])
    squares = np.square(full).sum(axis=1)[:, None] + np.square(others_full).sum(axis=1)
    squares -= 2 * full @ others_full.T
    slopes = np.stack(np.gradient(thumbnails.astype(np.float32), axis=(1, 2)), axis=1)
    directions = np.linalg.qr(np.swapaxes(_coarse(slopes), 1, 2))[0]  # orthonormal: (Q, cells, 2)
    for direction in np.moveaxis(directions, 2, 0):
        squares -= np.square(direction @ others.T - (direction * own).sum(axis=1)[:, None])
    return squares


def _shifted_distance(
    first: Float[np.ndarray, "P T T"], second: Float[np.ndarray, "P T T"]
) -> Float[np.ndarray, "P"]:
    """The distance of each pair after the shift that brings it closest, by Gauss and Newton's method."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    shift = np.zeros((len(first), 2), dtype=np.float32)  # in cells, rows and columns
    best = np.full(len(first), np.inf)
    for step in range(_STEPS + 1):
        # Both move by half: then reading values between cells blurs both alike.
        left, right = _moved(first, -shift / 2), _moved(second, shift / 2)
        difference = (right - left).reshape(len(first), -1)
        best = np.minimum(best, np.linalg.norm(difference, axis=1))
        if step == _STEPS:
            break
        slopes = np.stack(np.gradient((left + right) / 2, axis=(1, 2)), axis=1).reshape(len(first), 2, -1)
        normal = slopes @ np.swapaxes(slopes, 1, 2) + 1e-6 * np.eye(2, dtype=np.float32)
        shift = np.clip(shift - np.linalg.solve(normal, slopes @ difference[:, :, None])[:, :, 0], -0.75, 0.75)
    return best


def _moved(
    thumbnails: Float[np.ndarray, "P T T"], shift: Float[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P T T"]:
    """Values at places that are this far away, linear between cells; beyond the border, the border's. Length is 1."""
    places = np.clip(np.arange(SIDE) + shift[:, :, None], 0, SIDE - 1)  # (P, 2, T)
    low = np.minimum(places.astype(int), SIDE - 2)
    weight = (places - low).astype(np.float32)
    pairs = np.arange(len(thumbnails))[:, None]
    rows, down = low[:, 0], weight[:, 0, :, None]
    mixed = thumbnails[pairs, rows] * (1 - down) + thumbnails[pairs, rows + 1] * down
    mixed = np.swapaxes(mixed, 1, 2)
    columns, right = low[:, 1], weight[:, 1, :, None]
    mixed = mixed[pairs, columns] * (1 - right) + mixed[pairs, columns + 1] * right
    return _unit(np.swapaxes(mixed, 1, 2))
