"""The worst errors of each fusion, and the labels that may be wrong, as images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from stages.lib.comparison.results import LabelError
from stages.lib.evaluation import predictions
from stages.lib.lidar import depth_image
from stages.lib.plots import errors
from stages.lib.plots.errors import ErrorSample
from stages.lib.plots.style import Figure
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

_MOST = 8  # errors of each model
_MOST_IN_ALL = 48  # keeps the figure of many models small
_MOST_GAIN = 8.0  # of a dark image's brightness


def draw(names: list[str], split: str, manifest: Manifest) -> Figure:
    """The samples of each model that most of its seeds get wrong, the most confident errors first."""
    places = _places(split)
    most = min(_MOST, max(1, _MOST_IN_ALL // len(names)))
    found = {}
    for name in names:
        model = predictions.read(name, split)
        decided = model.decisions(manifest.class_shares)
        wrong = (decided != model.labels).mean(axis=0)
        loss = model.losses().mean(axis=0)
        worst = np.lexsort((-loss, -wrong))[:most]
        found[name] = [
            _error_sample(
                samples.read(manifests.FOLDER, manifest, split, places[model.groups[i]]),
                decided[:, i],
                int(model.labels[i]),
                manifest,
            )
            for i in worst
            if wrong[i] > 0
        ]
    return errors.error_samples(found, most)


def draw_label_errors(found: list[LabelError], manifest: Manifest) -> Figure | None:
    """The likeliest label errors of each split; None if there are none."""
    by_split: dict[str, list[ErrorSample]] = {}
    for split in dict.fromkeys(error.split for error in found):
        places = _places(split)
        by_split[split] = [
            _captioned(
                samples.read(manifests.FOLDER, manifest, split, places[error.group]),
                [
                    _shortened(error.label),
                    f"or {_shortened(error.suggested)}?",
                    f"{error.agree} of {error.nets} nets",
                ],
            )
            for error in [one for one in found if one.split == split][:_MOST]
        ]
    return errors.error_samples(by_split, _MOST) if by_split else None


def _places(split: str) -> dict[str, int]:
    return {group.group: place for place, group in enumerate(stored_groups.read(manifests.FOLDER, split))}


def _error_sample(
    pair: tuple[UInt8[np.ndarray, "C S S"], Float[np.ndarray, "4 S S"]],
    decided: Int[np.ndarray, "seeds"],
    label: int,
    manifest: Manifest,
) -> ErrorSample:
    count = f"{(decided != label).sum()} of {len(decided)} seeds"
    decided_for = np.bincount(decided[decided != label]).argmax()
    classes = manifest.classes
    return _captioned(pair, [_shortened(classes[label]), f"as {_shortened(classes[decided_for])}", count])


def _captioned(
    pair: tuple[UInt8[np.ndarray, "C S S"], Float[np.ndarray, "4 S S"]], lines: list[str]
) -> ErrorSample:
    rgb, raster = pair
    return ErrorSample(
        image=_brightened(samples.for_display(rgb)),
        depth_image=depth_image.from_raster(raster),
        caption="\n".join(lines),
    )


def _brightened(image: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """A dark image with more brightness, so that people see what it shows."""
    gain = min(_MOST_GAIN, 255 / max(int(image.max()), 1))
    return (image * gain).astype(np.uint8)


def _shortened(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:10]}..."
