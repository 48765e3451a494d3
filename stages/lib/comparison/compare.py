"""From the results of all models to the comparison: every number and verdict of the report."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from stages.lib.comparison import (
    calibration,
    conditions,
    label_errors,
    resampled,
    robustness,
    sensor_failures,
    sensor_use,
)
from stages.lib.comparison.resampled import BASELINES
from stages.lib.comparison.results import Comparison, ModelResult
from stages.lib.comparison.robustness import JudgedGroups
from stages.lib.evaluation import metrics, results
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.models import records
from stages.lib.params import Params
from stages.lib.statistics import significance
from stages.lib.statistics.results import Contrast
from stages.lib.tensors.manifest import Manifest

BETTER_THAN_PRIOR = "better than the class prior"
NO_BETTER_THAN_PRIOR = "no better than the class prior"
UNDECIDED_ON_PRIOR = f"{NO_BETTER_THAN_PRIOR} (lower mean loss, not decided)"


def compare(settings: Params, manifest: Manifest) -> Comparison:
    """Reads the results of all models and of the baselines, and compares them.

    The reference is chosen on the validation split, never on the test split.

    Raises:
        UserError: when results are missing, or a model lacks a seed or a sample that others have.
    """
    names, fusion_names, report = settings.model_names(), settings.fusion_names(), settings.report
    evaluated = {name: results.read(name) for name in (*names, *BASELINES)}
    seeds = sorted(evaluated[names[0]].seeds)
    split = "test" if manifest.has_test_split else "validation"
    splits = {
        part: resampled.read(
            names, part, seeds, report.draws, manifest.class_shares, with_ranks=part == split
        )
        for part in manifest.splits()
        if part != "train"
    }
    judged, validation = splits[split], splits["validation"]
    reference = min(fusion_names, key=lambda name: validation.values(name, "loss").mean())
    # By the metric of the verdicts: by its loss, the less accurate sensor might be chosen, which is easier to beat.
    single = max(settings.unimodal, key=lambda name: validation.values(name, "balanced_accuracy").mean())
    values = {name: judged.scene_accuracies(name) for name in names}
    failed = {name: judged.failed_seeds(name) for name in names}

    def family(pairs: list[tuple[str, str]]) -> dict[str, Contrast]:
        untrained = [name for name in names if failed[name]]
        claims = significance.family(values, pairs, report.confidence, report.margin, untrained)
        return {claim.model: claim for claim in claims}

    against_reference = family([(name, reference) for name in fusion_names if name != reference])
    against_single = family([(name, single) for name in fusion_names])
    groups = JudgedGroups(judged.labels, judged.scenes, judged.draws, report.confidence)
    rates = settings.evaluate.failure_rates
    labels = {
        part: label_errors.check(
            part,
            {name: found.predictions[name] for name in names},
            validation.predictions,
            manifest.class_shares,
            manifest.classes,
        )
        for part, found in splits.items()
    }
    counts = np.array([manifest.counts[split][name] for name in manifest.classes])

    def result(name: str) -> ModelResult:
        evaluation = evaluated[name]
        probes = list(evaluation.probes.values())
        beats_prior = None if name == "prior" else judged.beats_prior(name)
        mean_below_prior = bool(judged.values(name, "loss").mean() < judged.values("prior", "loss").mean())
        decided = judged.decisions(name) if name in names else None
        curves, means = robustness.curves(decided, groups) if decided else ({}, {})
        contrasts = [against_reference.get(name), against_single.get(name)]
        return ModelResult(
            kind=evaluation.kind,
            **vars(evaluation.cost),
            metrics={part: splits[part].summaries(name, report.confidence) for part in splits},
            beats_prior=beats_prior,
            mean_below_prior=mean_below_prior,
            contrast=contrasts[0],
            single=contrasts[1],
            failed_seeds=failed.get(name, []),
            sensor_use=(
                sensor_use.uses(probes, report.confidence, report.margin) if name in fusion_names else None
            ),
            curves=curves,
            robustness=means,
            failures=sensor_failures.curves(decided, groups, rates) if decided else {},
            calibration=(
                calibration.calibrate(validation.predictions[name], judged.predictions[name])
                if name in names
                else None
            ),
            confusion=_confusion(judged.predictions[name], manifest.class_shares),
            verdict=verdict(beats_prior, mean_below_prior, name == reference, contrasts),
        )

    return Comparison(
        split=split,
        reference=reference,
        single=single,
        seeds=seeds,
        confidence=report.confidence,
        margin=report.margin,
        num_scenes=judged.draws.scenes.shape[1],
        classes=manifest.classes,
        rarest_class=manifest.classes[metrics.rarer_class(counts)],
        corrupted_groups=min(settings.evaluate.corrupted_groups, int(counts.sum())),
        sensor_dropout=settings.train.augment.sensor_dropout,
        last_epoch_best={
            name: _last_epoch_best(name) for name in names if evaluated[name].cost.trainable_parameters
        },
        models={name: result(name) for name in evaluated},
        pairs=[
            significance.difference(model, other, values[model] - values[other], report.confidence)
            for model, other in itertools.combinations(names, 2)
        ],
        label_checks={part: checked for part, (checked, _) in labels.items()},
        label_errors=[error for _, found in labels.values() for error in found],
        conditions=conditions.compare(
            judged, manifest, names, [(name, single) for name in fusion_names], report
        ),
    )


def verdict(
    beats_prior: bool | None,
    mean_below_prior: bool,
    is_reference: bool,
    contrasts: list[Contrast | None],
) -> str:
    """What may be said of a model, in words."""
    if beats_prior is None:
        return "the class prior"
    parts = [BETTER_THAN_PRIOR if beats_prior else NO_BETTER_THAN_PRIOR]
    if not beats_prior and mean_below_prior:
        parts = [UNDECIDED_ON_PRIOR]
    if is_reference:
        parts.append("least validation loss of all fusions")
    links = {"better": "than", "worse": "than", "tied": "with", "not decided": "against"}
    parts += [f"{part.outcome} {links[part.outcome]} {part.against}" for part in contrasts if part]
    return "; ".join(parts)


def _confusion(predictions: SplitPredictions, shares: Float[np.ndarray, "L"]) -> list[list[float | None]]:
    """Share of each true class (row) by predicted class, mean over seeds."""
    weighed = metrics.weighed(predictions.logits, shares)
    counts = np.mean([metrics.confusion(logits, predictions.labels) for logits in weighed], axis=0)
    return [(row / row.sum()).tolist() if row.any() else [None] * len(row) for row in counts]


def _last_epoch_best(name: str) -> int:
    """Number of seeds whose best epoch was the last one: more epochs might improve them.

    A seed that stopped early (`train.patience`) does not count.
    """
    losses = np.nan_to_num(records.read_history(name)["valid"], nan=np.inf)
    return int((losses.argmin(axis=1) == losses.shape[1] - 1).sum())
