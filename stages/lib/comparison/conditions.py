"""The models by condition, such as the weather: their accuracy, and where fusions gain.

S = seeds;  N = samples of the split;  n = those with one value of a condition;  D = draws
G = scenes
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.lib.comparison.resampled import ResampledSplit
from stages.lib.comparison.results import ConditionValue
from stages.lib.core.errors import UserError
from stages.lib.evaluation import metrics
from stages.lib.params import Report
from stages.lib.statistics import bootstrap, intervals, significance, two_way
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies
from stages.lib.statistics.results import Contrast, Interval
from stages.lib.tensors.manifest import Manifest

_LEAST_GROUPS = 20  # that a claim takes
_LEAST_SCENES = 5  # of each class
_DRAWS = 2000  # of all; enough for the three digits that the report shows


def compare(
    judged: ResampledSplit, manifest: Manifest, names: list[str], pairs: list[tuple[str, str]], report: Report
) -> list[ConditionValue]:
    """Every value of every condition that occurs in the split.

    Args:
        judged: predictions on the split.
        names: of the models.
        pairs: each fusion, and the better single sensor. Their differences in all values that have enough data are
            one family of claims.

    Raises:
        UserError: when the predictions lack a condition.
    """
    decisions = {name: judged.predictions[name].decisions(judged.shares) for name in names}
    untrained = {name for name in names if judged.failed_seeds(name)}
    of_groups = judged.predictions[names[0]].conditions
    found: list[ConditionValue] = []
    values: dict[str, Float[np.ndarray, "S G"]] = {}  # by place in `found` and model
    keys: list[tuple[str, str]] = []
    for condition in manifest.conditions:
        if condition.name not in of_groups:
            raise UserError(f"reports/predictions: no condition '{condition.name}'; run `dvc repro`")
        column = np.array(of_groups[condition.name], dtype=object)
        for value in condition.values:
            members = column == value
            if not members.any():
                continue
            labels, scenes = judged.labels[members], _renumbered(judged.scenes[members])
            absent = np.setdiff1d(judged.labels, labels)
            withheld = _why_withheld(labels, scenes, absent, manifest.classes)
            # The bootstrap has no good interval for a handful of samples.
            confidence = report.confidence if withheld is None else None
            if withheld is None:
                for name in dict.fromkeys(itertools.chain.from_iterable(pairs)):
                    decided = decisions[name][:, members]
                    values[f"{len(found)} {name}"] = two_way.scene_accuracies(decided, labels, scenes)
                keys += [(f"{len(found)} {name}", f"{len(found)} {other}") for name, other in pairs]
            found.append(
                ConditionValue(
                    condition=condition.name,
                    value=value,
                    num_groups=len(labels),
                    num_scenes=int(scenes.max()) + 1,
                    withheld=withheld,
                    accuracies={} if len(absent) else _accuracies(judged, decisions, members, confidence),
                    gains={},
                )
            )
    failed = [key for key in values if key.split()[1] in untrained]
    gains: list[dict[str, Contrast]] = [{} for _ in found]
    for contrast in significance.family(values, keys, report.confidence, report.margin, failed):
        place, name = contrast.model.split()
        gains[int(place)][name] = replace(contrast, model=name, against=contrast.against.split()[1])
    return [replace(part, gains=own) for part, own in zip(found, gains, strict=True)]


def _why_withheld(
    labels: Int[np.ndarray, "n"],
    scenes: Int[np.ndarray, "n"],
    absent: Int[np.ndarray, "_"],
    classes: list[str],
) -> str | None:
    """Why these samples are too few for a claim, in words; None where they are enough."""
    if len(absent):
        return f"no {classes[absent[0]]}"
    if len(labels) < _LEAST_GROUPS:
        return f"fewer than {_LEAST_GROUPS} groups"
    for label in np.unique(labels):
        if len(np.unique(scenes[labels == label])) < _LEAST_SCENES:
            return f"fewer than {_LEAST_SCENES} scenes with {classes[label]}"
    return None


def _accuracies(
    judged: ResampledSplit,
    decisions: dict[str, Int[np.ndarray, "S N"]],
    members: Bool[np.ndarray, "N"],
    confidence: float | None,
) -> dict[str, Interval]:
    """Balanced accuracy of each model on some of the samples, mean over seeds, with other seeds and scenes.

    Args:
        confidence: None for no bounds.
    """
    labels, scenes = judged.labels[members], _renumbered(judged.scenes[members])
    # The draws of the whole split: how many of these scenes a draw holds is random, too.
    drawn = judged.draws.scenes[:_DRAWS, np.unique(judged.scenes[members])]
    draws = BootstrapDraws(judged.draws.seeds[:_DRAWS], drawn)
    rows = np.concatenate([decided[:, members] for decided in decisions.values()])
    resampled = np.split(bootstrap.accuracies(rows == labels, labels, scenes, drawn), len(decisions), axis=1)
    num_classes = len(judged.shares)
    found = {}
    for (name, decided), own in zip(decisions.items(), resampled, strict=True):
        counts = [metrics.confusion_of(row, labels, num_classes) for row in decided[:, members]]
        recalls = np.stack([metrics.recalls(count) for count in counts])
        accuracies = Accuracies(np.nanmean(recalls, axis=1), own, recalls)
        if confidence is None:
            found[name] = Interval(float(accuracies.measured.mean()), None, None)
        else:
            found[name] = intervals.interval_of_accuracy(accuracies, labels, scenes, draws, confidence)
    return found


def _renumbered(scenes: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Indices of scenes without gaps."""
    return np.unique(scenes, return_inverse=True)[1]
