"""Draws the figures of the dataset during the export: contact sheets, histograms, class balance."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from stages.lib.export.group_stats import RANGE_BINS, GroupStats
from stages.lib.lidar import depth_image
from stages.lib.plots import dataset as plots
from stages.lib.plots import style
from stages.lib.plots.dataset import Histogram, Shown
from stages.lib.plots.style import Figure
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

_MOST_CLASSES = 10  # shown on a contact sheet: the most frequent ones
_SAMPLES = 10  # of each class on a contact sheet
_MOST_PAIRS = 8  # of near copies in their figure
_LONGEST_KEY = 24  # characters of a group's key in a figure


class Overview:
    """Collects the statistics of all groups during the export, and draws figures of them."""

    def __init__(self, max_range_m: float) -> None:
        self._max_range_m = max_range_m
        self._range_counts: dict[tuple[str, str], np.ndarray] = defaultdict(
            lambda: np.zeros(RANGE_BINS, np.int64)
        )
        self._returns: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._brightness: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, split: str, label: str, stats: GroupStats) -> None:
        """Adds one group of the cache."""
        place = (split, label)
        self._range_counts[place] += stats.range_counts
        self._returns[place].append(stats.returns)
        self._brightness[place].append(stats.brightness)

    def draw(self, folder: Path, manifest: Manifest) -> None:
        """Writes all figures into the folder of a cache whose shards are complete."""
        figures = {
            "class_balance": plots.class_balance(manifest.counts),
            "histograms": plots.histograms(
                self._histograms("train", manifest),
                {split: self._histogram(manifest.classes, [split]) for split in manifest.splits()},
            ),
        }
        for split in manifest.splits():
            figures[f"samples_{split}"] = contact_sheet(folder, manifest, split)
        if manifest.near_copies:
            figures["near_copies"] = near_copies(folder, manifest)
        (folder / manifests.FIGURES).mkdir()
        for name, figure in figures.items():
            style.save(figure, folder / manifests.FIGURES / f"{name}.png")

    def _histograms(self, split: str, manifest: Manifest) -> dict[str, list[Histogram]]:
        """By class, for the most frequent classes of a split."""
        return {label: self._histogram([label], [split]) for label in _most_frequent(manifest.counts[split])}

    def _histogram(self, labels: list[str], splits: list[str]) -> list[Histogram]:
        places = [(split, label) for split in splits for label in labels]
        returns = [count for place in places for count in self._returns[place]]
        brightness = [value for place in places for value in self._brightness[place]]
        range_counts = sum((self._range_counts[place] for place in places), np.zeros(RANGE_BINS))
        edges_m = np.linspace(0, self._max_range_m, RANGE_BINS + 1)
        return [
            Histogram(f"range of the returns (m)\nat {edges_m[-1]:g}: and beyond", edges_m, range_counts),
            _histogram("returns per scan", returns, _most(self._returns) + 1),
            _histogram("mean brightness of a picture\n(1: white)", brightness, _most(self._brightness)),
        ]


def _most(values: dict[tuple[str, str], list[int]] | dict[tuple[str, str], list[float]]) -> float | int:
    return max((max(part, default=0) for part in values.values()), default=0)


def _histogram(label: str, values: list[float] | list[int], top: float | int) -> Histogram:
    counts, edges = np.histogram(values, bins=40, range=(0, top or 1))
    return Histogram(label, edges, counts)


def contact_sheet(folder: Path, manifest: Manifest, split: str) -> Figure:
    """Samples of every class of a split, images above depth images; from different scenes if there are enough."""
    groups = stored_groups.read(folder, split)
    rows = {}
    for label in _most_frequent(manifest.counts[split]):
        of_class = [i for i, group in enumerate(groups) if manifest.classes[group.label] == label]
        one_per_scene = {groups[i].scene: i for i in of_class}
        indices = list(one_per_scene.values()) if len(one_per_scene) >= _SAMPLES else of_class
        # Spread over the whole split: groups with similar names are often recorded shortly after each other.
        picks = np.linspace(0, len(indices) - 1, min(_SAMPLES, len(indices))).round().astype(int)
        pairs = [samples.read(folder, manifest, split, indices[pick]) for pick in picks]
        rows[label] = [
            (samples.for_display(image), depth_image.from_raster(raster)) for image, raster in pairs
        ]
    return plots.contact_sheet(rows, _SAMPLES)


def near_copies(folder: Path, manifest: Manifest) -> Figure:
    """The closest pairs of groups of different splits that look alike."""
    places = {
        split: {group.group: place for place, group in enumerate(stored_groups.read(folder, split))}
        for split in manifest.splits()
    }

    def shown(split: str, group: str) -> Shown:
        image, raster = samples.read(folder, manifest, split, places[split][group])
        return samples.for_display(image), depth_image.from_raster(raster), f"{split}\n{_end(group)}"

    return plots.pairs(
        [
            (shown(pair.split, pair.group), shown(pair.other_split, pair.other_group))
            for pair in manifest.near_copies[:_MOST_PAIRS]
        ]
    )


def _end(key: str) -> str:
    """The end of a group's key in a line of a figure: neighbours differ there."""
    return key if len(key) <= _LONGEST_KEY else f"...{key[3 - _LONGEST_KEY :]}"


def _most_frequent(counts: dict[str, int]) -> list[str]:
    """The most frequent classes that occur, in the order of `counts`."""
    chosen = {label for label, count in Counter(counts).most_common(_MOST_CLASSES) if count}
    return [label for label in counts if label in chosen]
