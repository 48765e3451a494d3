"""The worst errors of each fusion, as pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from stages.lib import lidar, metrics, predictions, tensors
from stages.lib.manifest import Manifest
from stages.lib.plots import results
from stages.lib.plots.results import Mistake
from stages.lib.plots.style import Figure
from stages.lib.tensors import Split

_MOST = 8  # errors of each model
_MOST_IN_ALL = 80  # keeps the figure of many models small
_MOST_GAIN = 8.0  # of a dark picture's light


def draw(names: list[str], split: str, manifest: Manifest) -> Figure:
    """Of each model the samples that most of its seeds get wrong, the surest errors first."""
    stored = Split(tensors.FOLDER, manifest, split)
    places = {group.group: place for place, group in enumerate(tensors.read_groups(tensors.FOLDER, split))}
    most = min(_MOST, max(1, _MOST_IN_ALL // len(names)))
    found = {}
    for name in names:
        guess = predictions.read(name, split)
        said = np.stack([metrics.predicted(logits) for logits in guess.logits])
        wrong = (said != guess.labels).mean(axis=0)
        surest = guess.losses().mean(axis=0)
        worst = np.lexsort((-surest, -wrong))[:most]
        found[name] = [
            _mistake(stored, places[guess.groups[i]], said[:, i], int(guess.labels[i]), manifest)
            for i in worst
            if wrong[i] > 0
        ]
    return results.mistakes(found, _MOST)


def _mistake(stored: Split, place: int, said: np.ndarray, label: int, manifest: Manifest) -> Mistake:
    rgb, xyza = stored.stored(place)
    told = f"{(said != label).sum()} of {len(said)} seeds"
    taken_for = np.bincount(said[said != label]).argmax()
    return Mistake(
        picture=_brightened(tensors.as_picture(rgb)),
        depth=lidar.depth_picture(xyza),
        caption="\n".join(
            [_shortened(manifest.classes[label]), f"as {_shortened(manifest.classes[taken_for])}", told]
        ),
    )


def _brightened(picture: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """A dark picture with more light, that people see what there is to see."""
    gain = min(_MOST_GAIN, 255 / max(int(picture.max()), 1))
    return (picture * gain).astype(np.uint8)


def _shortened(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:10]}..."
