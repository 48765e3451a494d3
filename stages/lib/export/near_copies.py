"""Finds near copies across splits: groups whose picture and raster look like those of a group in another split.

Such a copy is the same view once more: encoded again, a little brighter, cropped or shifted by some pixels, or the
next frame of a sensor at rest. A model that trained on the one knows the other, so results on it are too good.

The distance of two pictures is that of their thumbnails (16 x 16, smoothed, without mean, of length 1), after the
shift that brings them closest, together with the difference of their mean colours. That of two rasters is the same
for mean nearness, together with the difference of the mean ranges. A pair is near when both distances together are
within _LIMIT; where a raster has no return, the picture alone has to be within half of it. Pictures of a single
colour and nearly black ones are never compared.

_LIMIT was chosen on the built-in dataset, whose scenes differ in little. On it (700 training, 210 validation and
1,200 test groups) and on three more of other seeds (1,500 groups each), none of 3.1 million pairs across splits was
near; the closest had a distance of 0.087. Copies of 600 such test groups were hidden among 270 training groups. Of
the 463 whose picture is bright enough, these shares were found: JPEG of quality 50, 75 and 95: 94, 97 and 100 %; 2 %
cropped: 100 %; brightness -15 and +15 %: 98 and 100 %; picture shifted by 1 and 2 of 64 pixels: 99 and 99 %,
together with its raster: 85 and 79 % (96 and 93 % of rasters with 30 returns or more); 2 cm of range noise and 5 % of
the returns lost: 96 % (100 %). With a _CANDIDATE_LIMIT of 0.5 the same copies are found.

All pairs are first compared by matrix products, with distances that allow for shifts to first order (the tangent
distance of Simard, LeCun and Denker 1993); only the closest few of each group are shifted.

    N = groups of a split;  P = pairs;  T = side of a thumbnail
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.lib.core import errors
from stages.lib.export import distances
from stages.lib.export.group_stats import GroupStats
from stages.lib.tensors.manifest import NearCopy

MOST_LISTED = 100  # pairs in the manifest

_LIMIT = 0.08  # of the distance of a near copy
_SHARE = (
    0.1  # of the distance between unrelated groups, at most: where all pictures are alike, copies are closer
)
_FAINT = 0.02  # standard deviation of a thumbnail's brightness; a picture of less contrast shows too little
# How much a difference in colour (as shares of red, green and blue) and in range (as logarithm) counts.
_COLOR_WEIGHT, _RANGE_WEIGHT = 2.0, 8.0
_CANDIDATES = 4  # of each group, which are compared after shifting
_CANDIDATE_LIMIT = 0.3  # of their distance before, at _LIMIT
_LEAST_CANDIDATE_LIMIT = 0.1  # where the limit of near copies is smaller
_TOGETHER = 128  # groups in a block of the matrix products
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
    colors: Float[np.ndarray, "N colors"]  # weighted shares of the mean colour
    is_faint: Bool[np.ndarray, "N"]
    rasters: Float[np.ndarray, "N T T"]
    ranges: Float[np.ndarray, "N 1"]  # weighted logarithm of the mean range
    is_empty: Bool[np.ndarray, "N"]  # whether the raster has no return


class Search:
    """Collects the thumbnails of all groups during the export, then compares them."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = defaultdict(list)
        self._thumbnails: dict[str, list[Float[np.ndarray, "2 T T"]]] = defaultdict(list)
        self._color_sums: dict[str, list[Float[np.ndarray, "colors"]]] = defaultdict(list)
        self._ranges_m: dict[str, list[float]] = defaultdict(list)  # 0 where there is no return

    def add(self, split: str, key: str, stats: GroupStats) -> None:
        """Adds one group of the cache."""
        self._keys[split].append(key)
        self._thumbnails[split].append(stats.thumbnails)
        self._color_sums[split].append(stats.color_sums[0])
        self._ranges_m[split].append(stats.mean_range_m)

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
        found.sort(
            key=lambda pair: (np.hypot(pair.picture_distance, pair.raster_distance or 0.0), pair.group)
        )
        return NearCopies(found[:MOST_LISTED], counts)

    def _describe(self, split: str) -> _Described:
        thumbnails = np.stack(self._thumbnails[split])
        ranges_m = np.array(self._ranges_m[split], dtype=np.float32)
        sums = np.stack(self._color_sums[split])
        colors = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-9)
        prepared: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for part in _blocks(len(thumbnails), 1024):
            pictures, rasters = (distances.smoothed(thumbnails[part, i].astype(np.float32)) for i in range(2))
            pictures -= pictures.mean(axis=(1, 2), keepdims=True)
            is_faint = pictures.std(axis=(1, 2)) < _FAINT
            # Halves take half the memory; their error is far below any distance that matters.
            prepared.append(
                (
                    distances.unit(pictures).astype(np.float16),
                    is_faint,
                    distances.unit(rasters).astype(np.float16),
                )
            )
        pictures, is_faint, rasters = (np.concatenate(parts) for parts in zip(*prepared, strict=True))
        return _Described(
            pictures=pictures,
            colors=_COLOR_WEIGHT * colors.astype(np.float32),
            is_faint=is_faint,
            rasters=rasters,
            ranges=_RANGE_WEIGHT * np.log(np.where(ranges_m > 0, ranges_m, 1))[:, None],
            is_empty=ranges_m == 0,
        )


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


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
        np.square(getattr(first, name).astype(np.float32) - getattr(second, name))
        .reshape(compared.sum(), -1)
        .sum(1)
        for name in ("pictures", "colors", "rasters", "ranges")
    )
    return float(np.sqrt(np.median(squares)))


def _members(described: _Described, places: Int[np.ndarray, "P"] | slice) -> _Described:
    return _Described(*(values[places] for values in described))


def _closest(
    groups: _Described, others: _Described, limit: float
) -> list[tuple[int, int, float, float | None]]:
    """The closest near copy of each group that has one: both places, and the distances of pictures and rasters."""
    candidates = _candidates(groups, others, max(_LEAST_CANDIDATE_LIMIT, _CANDIDATE_LIMIT * limit / _LIMIT))
    best: dict[int, tuple[float, int, float, float | None]] = {}
    for part in _blocks(len(candidates), 4096):
        pairs = candidates[part]
        raster = _raster_distances(groups, others, pairs)
        pairs, raster = pairs[raster <= limit], raster[raster <= limit]
        first, second = _members(groups, pairs[:, 0]), _members(others, pairs[:, 1])
        empty = first.is_empty | second.is_empty
        picture = np.hypot(
            distances.shifted_distance(first.pictures, second.pictures),
            np.linalg.norm(first.colors - second.colors, axis=1),
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


def _raster_distances(
    groups: _Described, others: _Described, pairs: Int[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P"]:
    """Distances of the rasters of pairs; 0 where one of the two has no return, so that the picture decides."""
    first, second = groups.rasters[pairs[:, 0]], others.rasters[pairs[:, 1]]
    range_difference = np.abs(groups.ranges[pairs[:, 0]] - others.ranges[pairs[:, 1]])[:, 0]
    empty = groups.is_empty[pairs[:, 0]] | others.is_empty[pairs[:, 1]]
    return np.where(empty, 0.0, np.hypot(distances.shifted_distance(first, second), range_difference))


def _candidates(groups: _Described, others: _Described, limit: float) -> Int[np.ndarray, "P 2"]:
    """For each group the few closest others within a limit, by distances that allow for shifts to first order.

    Groups are taken by range, and compared only with others of about the same range, and with those without.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    order = np.lexsort((others.ranges[:, 0], ~others.is_empty))
    num_empty = int(others.is_empty.sum())
    ranges = others.ranges[order[num_empty:], 0]
    pictures = distances.with_squares(distances.coarse(others.pictures), others.colors)[order]
    rasters = distances.with_squares(distances.coarse(others.rasters), others.ranges)[order]
    is_empty, is_faint = others.is_empty[order], others.is_faint[order]
    own_order = np.lexsort((groups.ranges[:, 0], ~groups.is_empty))
    for block in _blocks(len(own_order), _TOGETHER):
        places = own_order[block]
        own = _members(groups, places)
        start, end = num_empty, len(order)
        if not own.is_empty.any():
            bounds = own.ranges.min() - limit, own.ranges.max() + limit
            start, end = num_empty + np.searchsorted(ranges, bounds)
        for part in (slice(num_empty), slice(start, end)):
            squares = distances.tangent_squares(own.rasters, own.ranges, rasters[part])
            squares[own.is_empty[:, None] | is_empty[part]] = 0
            squares += distances.tangent_squares(own.pictures, own.colors, pictures[part])
            squares[own.is_faint[:, None] | is_faint[part]] = np.inf
            rows, columns = np.nonzero(squares <= limit**2)
            by_distance = np.lexsort((squares[rows, columns], rows))
            rows, columns = rows[by_distance], columns[by_distance]
            # The place of each candidate among those of its group.
            near = np.arange(len(rows)) - np.searchsorted(rows, rows) < _CANDIDATES
            found.append(np.stack([places[rows[near]], order[part][columns[near]]], axis=1))
    return np.concatenate(found)
