"""The models by condition, such as the weather: their accuracy, and where fusions gain.

S = seeds;  N = samples of the split;  n = those with one value of a condition;  D = draws
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from stages.lib.comparison.resampled import ResampledSplit
from stages.lib.comparison.results import ConditionValue
from stages.lib.evaluation import metrics
from stages.lib.params import Report
from stages.lib.statistics import bootstrap, intervals, significance, two_way
from stages.lib.statistics.bootstrap import BootstrapDraws
from stages.lib.statistics.intervals import Accuracies
from stages.lib.statistics.results import Contrast, Interval
from stages.lib.tensors.manifest import Manifest

LEAST_GROUPS, LEAST_SCENES = 20, 5  # that a claim takes
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
    """
    decisions = {name: judged.predictions[name].decisions(judged.shares) for name in names}
    untrained = {name for name in names if judged.failed_seeds(name)}
    of_groups = judged.predictions[names[0]].conditions
    found, differences, keys = [], {}, []
    for condition in manifest.conditions:
        column = np.array(of_groups[condition.name], dtype=object)
        for value in condition.values:
            members = column == value
            if not members.any():
                continue
            part = _describe(condition.name, value, judged, manifest, members)
            if not part.absent:
                accuracies = _accuracies(judged, decisions, members, report.confidence)
                part = replace(part, accuracies=accuracies)
            if has_enough(part):
                labels, scenes = judged.labels[members], _renumbered(judged.scenes[members])
                place = len(found)
                for name in {name for pair in pairs for name in pair}:
                    own = two_way.scene_accuracies(decisions[name][:, members], labels, scenes)
                    differences[f"{place} {name}"] = own
                keys += [(f"{place} {name}", f"{place} {other}") for name, other in pairs]
            found.append(part)
    failed = [key for key in differences if key.split()[1] in untrained]
    family = significance.family(differences, keys, report.confidence, report.margin, failed)
    gains: list[dict[str, Contrast]] = [{} for _ in found]
    for contrast in family:
        place, name = contrast.model.split()
        gains[int(place)][name] = replace(contrast, model=name, against=contrast.against.split()[1])
    return [replace(part, gains=own) for part, own in zip(found, gains, strict=True)]


def has_enough(part: ConditionValue) -> bool:
    """Whether the data with this value are enough for a claim."""
    return not part.absent and part.num_groups >= LEAST_GROUPS and part.num_scenes >= LEAST_SCENES


def _describe(
    condition: str, value: str, judged: ResampledSplit, manifest: Manifest, members: Bool[np.ndarray, "N"]
) -> ConditionValue:
    """Counts alone."""
    absent = np.setdiff1d(judged.labels, judged.labels[members])
    return ConditionValue(
        condition=condition,
        value=value,
        num_groups=int(members.sum()),
        num_scenes=len(np.unique(judged.scenes[members])),
        absent=[manifest.classes[label] for label in absent],
        accuracies={},
        gains={},
    )


def _accuracies(
    judged: ResampledSplit,
    decisions: dict[str, Int[np.ndarray, "S N"]],
    members: Bool[np.ndarray, "N"],
    confidence: float,
) -> dict[str, Interval]:
    """Balanced accuracy of each model on some of the samples, mean over seeds, with other seeds and scenes."""
    labels, scenes = judged.labels[members], _renumbered(judged.scenes[members])
    # The draws of the whole split: how many of these scenes a draw holds is random, too.
    drawn = judged.draws.scenes[:_DRAWS, np.unique(judged.scenes[members])]
    draws = BootstrapDraws(judged.draws.seeds[:_DRAWS], drawn)
    rows = np.concatenate([decided[:, members] for decided in decisions.values()])
    resampled = np.split(bootstrap.accuracies(rows == labels, labels, scenes, drawn), len(decisions), axis=1)
    num_classes = len(judged.shares)
    found = {}
    for (name, decided), own in zip(decisions.items(), resampled, strict=True):
        counts = [metrics.confusion_of(row[members], labels, num_classes) for row in decided]
        recalls = np.stack([metrics.recalls(count) for count in counts])
        accuracies = Accuracies(np.nanmean(recalls, axis=1), own, recalls)
        found[name] = intervals.interval_of_accuracy(accuracies, labels, scenes, draws, confidence)
    return found


def _renumbered(scenes: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Indices of scenes without gaps."""
    return np.unique(scenes, return_inverse=True)[1]
