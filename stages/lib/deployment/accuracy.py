"""How accurate a deployed model is on labelled groups: every metric, with intervals over seeds and scenes.

N = samples;  Z = seeds;  K = logits: 1 for two classes, else one per class;  L = classes
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from stages.lib.comparison.resampled import ResampledSplit
from stages.lib.comparison.results import Summary
from stages.lib.deployment.model import DeployedModel
from stages.lib.evaluation import metrics
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.params import Report
from stages.lib.statistics import bootstrap

_CALIBRATED = ("loss", "brier", "ece")  # metrics of probabilities, which are those of the calibrated ones
_LEAST = 1e-12  # probability whose logarithm is taken in place of that of 0


def of_each_seed(
    model: DeployedModel, found: SplitPredictions, shares: Float[np.ndarray, "L"], report: Report
) -> dict[str, Summary]:
    """Means over seeds: what one seed's network reaches. Intervals are over seeds and scenes.

    Decisions weigh classes by their shares, as in the report; loss, Brier score and calibration error are those of
    calibrated probabilities.

    Args:
        found: with the logits of the model's seeds, not calibrated.
        shares: of each class in the training split.
    """
    temperatures = model.temperatures.numpy()[:, None, None]
    return _summaries(found, found.logits, found.logits / temperatures, shares, report)


def of_all_together(
    model: DeployedModel, found: SplitPredictions, report: Report
) -> dict[str, Summary] | None:
    """The mean probabilities of all seeds; intervals are over scenes. None with one seed.

    Args:
        found: as of `of_each_seed`.
    """
    if len(found.seeds) < 2:
        return None
    logits = torch.from_numpy(found.logits).double()
    scores = _as_logits(model.scores(logits).numpy())
    probabilities = _as_logits(model.probabilities(logits).mean(dim=0).numpy())
    # The scores weigh classes already.
    alike = np.full(max(2, found.num_logits), 1.0)
    return _summaries(found, scores, probabilities, alike, report)


def _as_logits(probabilities: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "1 N K"]:
    logs = np.log(np.maximum(probabilities, _LEAST))
    return (logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs)[None]


def _summaries(
    found: SplitPredictions,
    decided: Float[np.ndarray, "Z N K"],
    calibrated: Float[np.ndarray, "Z N K"],
    shares: Float[np.ndarray, "L"],
    report: Report,
) -> dict[str, Summary]:
    labels: Int[np.ndarray, "N"] = found.labels
    _, scenes = np.unique(found.scenes, return_inverse=True)
    draws = bootstrap.draw(len(decided), int(scenes.max()) + 1, report.draws)
    measured, resampled = [], {}
    for raw, scaled in zip(decided, calibrated, strict=True):
        of_scaled = metrics.measure(scaled, labels, shares)
        values = {name: getattr(of_scaled, name) for name in _CALIBRATED}
        measured.append(replace(metrics.measure(raw, labels, shares), **values))
    resampled = bootstrap.resample(decided, labels, scenes, draws, shares)
    of_probabilities = bootstrap.resample(calibrated, labels, scenes, draws, shares, with_ranks=False)
    resampled |= {name: of_probabilities[name] for name in _CALIBRATED}
    name = "deployed"
    part = replace(found, seeds=list(range(len(decided))), logits=decided)
    split = ResampledSplit({name: part}, scenes, shares, draws, {name: measured}, {name: resampled})
    return split.summaries(name, report.confidence)
