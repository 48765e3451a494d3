"""Predicts the groups of a dataset with a trained model, labelled or not.

    python -m scripts.predict MODEL DATASET OUT.parquet|.csv
        [--seeds 51 52] [--without rgb|lidar] [--tag NAME] [--field NAME]

Reads a FiftyOneDataset folder as the export does, by the settings `dataset` and `export` of params.yaml; what was
fitted on the training data comes from the model. Writes a table with the predicted class of each group and calibrated
probabilities; with labels also OUT.metrics.json, every metric with intervals. docs/predict.md has more.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from scripts.command_line import Parser
from stages.lib import params
from stages.lib.comparison.results import Summary
from stages.lib.core import console, errors
from stages.lib.core.errors import UserError, shortened
from stages.lib.core.names import SENSORS, TITLES
from stages.lib.datasets import database, prediction_groups
from stages.lib.datasets.reader import DatasetGroup
from stages.lib.datasets.validation import DataChecks
from stages.lib.deployment import accuracy, decoding, files, loading, prediction
from stages.lib.deployment.loading import Deployable
from stages.lib.deployment.prediction import Predicted, Predictor
from stages.lib.deployment.table_file import SUFFIXES, PredictionFile
from stages.lib.evaluation import robustness
from stages.lib.evaluation.decisions import BOTH
from stages.lib.evaluation.predictions import SplitPredictions
from stages.lib.export import decode, plan
from stages.lib.models import devices
from stages.lib.params import Dataset, Params, Report
from stages.lib.report import format
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests

_SHOWN = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "f1": "F1 (macro)",
    "auroc": "AUROC",
    "ece": "calibration error",
    "loss": "log loss",
}


def main(arguments: Sequence[str]) -> None:
    given = parse(arguments)
    files.require_place(given.out, SUFFIXES)
    settings = params.load()
    deployed = loading.load(given.model, given.seeds)
    sensors = wanted_sensors(deployed, given.without)
    dataset = dataset_settings(settings.dataset, given, sensors)
    database.require_answer()
    checks = DataChecks(dataset.path, settings.export.on_error)
    metrics_path = given.out.with_suffix(".metrics.json")
    with files.replaced(given.out) as path:
        parts = predict(deployed, dataset, settings, checks, given, sensors, path)
        labelled = joined(deployed, parts)
        columns = measure(deployed, labelled, settings.report) if labelled else {}
        if labelled:
            with files.replaced(metrics_path) as scratch:
                scratch.write_text(json.dumps(content(deployed, labelled, columns, settings.report, given)))
    if not labelled:
        metrics_path.unlink(missing_ok=True)  # of an earlier file of this name
    for warning in [*checks.warnings(), *training_groups(deployed, parts, given)]:
        console.report_line(errors.printable(f"warning: {dataset.path}: {warning}"))
    count = sum(len(part.groups) for part in parts)
    seeds = ", ".join(map(str, deployed.seeds))
    print(f"wrote {given.out}: {count:,} groups, by {deployed.name}, seeds {seeds}")
    for line in missing_sensors(deployed, parts):
        print(line)
    if labelled:
        print(f"{len(labelled.groups):,} groups have a label; {metrics_path} has every metric:\n")
        print(table(columns, settings.report))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m scripts.predict", description="Predicts the groups of a dataset.")
    parser.add_argument("model", metavar="MODEL", help="a trained model, such as late")
    parser.add_argument("dataset", metavar="DATASET", help="a FiftyOneDataset folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the table to write: .parquet or .csv")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="seeds of the model; by default all trained ones"
    )
    parser.add_argument(
        "--without", choices=SENSORS, help="predict as if this sensor were missing everywhere"
    )
    parser.add_argument("--tag", metavar="NAME", help="only groups with this tag, such as test")
    parser.add_argument(
        "--field",
        metavar="NAME",
        help="field with the labels; by default dataset.label_field, if there is one",
    )
    return parser.parse_args(arguments)


def wanted_sensors(deployed: Deployable, without: str | None) -> tuple[str, ...]:
    """The sensors to read; raises UserError when none is left."""
    sensors = tuple(sensor for sensor in deployed.spec.sensors if sensor != without)
    if not sensors:
        raise UserError(f"{deployed.name} sees no other sensor than {without}; name another model")
    return sensors


def dataset_settings(dataset: Dataset, given: argparse.Namespace, sensors: tuple[str, ...]) -> Dataset:
    """The settings of params.yaml for the dataset that is given."""
    # mypy does not see that the groups of params are dataclasses.
    lidar = replace(dataset.lidar, field=None)  # type: ignore[type-var]
    return replace(  # type: ignore[type-var]
        dataset,
        path=given.dataset,
        label_field=given.field or dataset.label_field,
        lidar=dataset.lidar if "lidar" in sensors else lidar,
    )


def predict(
    deployed: Deployable,
    dataset: Dataset,
    settings: Params,
    checks: DataChecks,
    given: argparse.Namespace,
    sensors: tuple[str, ...],
    path: Path,
) -> list[Predicted]:
    """Writes the table; returns the predictions of all batches."""
    device = devices.choose(settings.train.device)
    devices.prepare_process(torch.get_num_threads())
    reading = prediction_groups.opened(
        dataset, checks, sensors=sensors, tag=given.tag, needs_labels=given.field is not None
    )
    with decode.started(settings.export.workers) as workers, reading as reader:
        groups = reader.groups
        require_known_labels(groups, deployed, dataset)
        decoding_settings, warnings = decoding.settings_of(
            deployed.manifest,
            dataset,
            settings.export,
            sensors,
            plan.sample_jobs(reader, groups, dataset, settings.export.max_pixels),
            [group.image_path for group in groups],
            workers,
        )
        for warning in warnings:
            checks.note(warning)
        has_labels = any(group.label for group in groups)
        has_scenes = any(group.scene != group.key for group in groups)
        found = prediction.decoded(reader, dataset, decoding_settings, workers)
        evaluate = settings.evaluate
        parts = []
        with (
            robustness.thread_pool(device) as pool,
            PredictionFile(
                path, deployed.manifest.classes, has_scenes=has_scenes, has_labels=has_labels
            ) as table,
        ):
            predictor = Predictor(deployed, device, evaluate.missing, evaluate.batch_size, pool)
            tracked = console.track(found, "predicting", len(groups), "group")
            for part in predictor.batches(tracked, checks):
                logits = torch.from_numpy(part.logits).double()
                decisions = deployed.model.scores(logits).argmax(dim=1).numpy()
                table.add(part, decisions, deployed.model.probabilities(logits).numpy())
                parts.append(part)
    checks.raise_errors()
    if not parts:
        raise UserError(f"{dataset.path}: no group is readable")
    return parts


def require_known_labels(groups: list[DatasetGroup], deployed: Deployable, dataset: Dataset) -> None:
    """Raises UserError when a group has a label that the model does not know."""
    classes = deployed.manifest.classes
    unknown = sorted({group.label for group in groups if group.label} - set(classes))
    if unknown:
        some = ", ".join(f"'{shortened(label)}'" for label in unknown[:5])
        raise UserError(
            f"{dataset.path}: labels that {deployed.name} does not know: {some}{', ...' if unknown[5:] else ''} "
            f"(field '{dataset.label_field}'); its classes are {', '.join(map(shortened, classes))}"
        )


def joined(deployed: Deployable, parts: list[Predicted]) -> SplitPredictions | None:
    """The predictions of all labelled groups; None if there are none."""
    groups = [group for part in parts for group in part.groups]
    rows = [row for row, group in enumerate(groups) if group.label]
    if not rows:
        return None
    classes = {name: label for label, name in enumerate(deployed.manifest.classes)}
    labelled = [groups[row] for row in rows]
    return SplitPredictions(
        seeds=deployed.seeds,
        groups=[group.key for group in labelled],
        scenes=[group.scene for group in labelled],
        labels=np.array([classes[group.label] for group in labelled]),
        logits=np.concatenate([part.logits for part in parts], axis=1)[:, rows],
    )


def measure(
    deployed: Deployable, labelled: SplitPredictions, report: Report
) -> dict[str, dict[str, Summary]]:
    """Every metric: of each seed on its own and, with several seeds, of all together."""
    shares = deployed.manifest.class_shares
    together = accuracy.of_all_together(deployed.model, labelled, report)
    columns = {"each_seed": accuracy.of_each_seed(deployed.model, labelled, shares, report)}
    return columns | ({"all_seeds_together": together} if together else {})


def content(
    deployed: Deployable,
    labelled: SplitPredictions,
    columns: dict[str, dict[str, Summary]],
    report: Report,
    given: argparse.Namespace,
) -> dict[str, object]:
    """The content of OUT.metrics.json."""
    return {
        "model": deployed.name,
        "seeds": deployed.seeds,
        "data_digest": deployed.manifest.digest,
        "dataset": given.dataset,
        "tag": given.tag,
        "without": given.without,
        "groups": len(labelled.groups),
        "scenes": len(set(labelled.scenes)),
        "confidence": report.confidence,
        "metrics": {
            column: {name: asdict(summary) for name, summary in summaries.items()}
            for column, summaries in columns.items()
        },
    }


def training_groups(deployed: Deployable, parts: list[Predicted], given: argparse.Namespace) -> list[str]:
    """A warning when groups are predicted that the model was trained on."""
    if os.path.realpath(given.dataset) != os.path.realpath(deployed.manifest.source):
        return []
    trained = {group.group for group in stored_groups.read(manifests.FOLDER, "train")}
    count = sum(group.key in trained for part in parts for group in part.groups)
    if not count:
        return []
    return [
        f"{deployed.name} was trained on {count:,} of these groups, so metrics are too optimistic; --tag leaves out "
        "the groups of other splits"
    ]


def missing_sensors(deployed: Deployable, parts: list[Predicted]) -> list[str]:
    """How many groups lack a sensor, and what the model reached without it."""
    sensors = deployed.spec.sensors
    split = "test" if deployed.manifest.has_test_split else "validation"
    counts = Counter[tuple[str, ...]]()
    for part in parts:
        rows = zip(*(part.missing[sensor].tolist() for sensor in sensors), strict=True)
        counts.update(tuple(s for s, gone in zip(sensors, row, strict=True) if gone) for row in rows)
    lines = []
    for missing, count in sorted(counts.items()):
        if not missing:
            continue
        state = missing[0] if len(missing) == 1 else BOTH
        probes = [deployed.evaluation.probes[seed] for seed in deployed.seeds]
        without, clean = (
            float(np.mean(values))
            for values in ([probe.missing[state] for probe in probes], [probe.clean for probe in probes])
        )
        names = " and ".join(TITLES[sensor] for sensor in missing)
        lines.append(
            f"{format.plural(count, 'group')} without {names}: so the balanced accuracy of {deployed.name} is "
            f"{without:.3f} on its own {split} split (with all its sensors {clean:.3f})"
        )
    return lines


def table(columns: dict[str, dict[str, Summary]], report: Report) -> str:
    """The most important metrics with their intervals."""
    rows = [
        [text, *(format.with_interval(summaries[name]) for summaries in columns.values())]
        for name, text in _SHOWN.items()
    ]
    heads = [f"{report.confidence:.0%} interval", *(column.replace("_", " ") for column in columns)]
    return tabulate(rows, heads, disable_numparse=True)


if __name__ == "__main__":
    console.run(main)
