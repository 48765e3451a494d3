"""Folders of runs that nobody has made: predictions of known accuracy, with the statistics that belong to them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.comparison import resampled, results
from stages.lib.comparison.results import Comparison
from stages.lib.evaluation import predictions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.models import records
from stages.lib.statistics import significance
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.groups import FILE, CachedGroup
from support.comparisons import comparison, model_result
from support.manifest import made_up_manifest

KINDS = {
    "rgb": "unimodal",
    "lidar": "unimodal",
    "concatenation": "intermediate",
    "addition": "intermediate",
    "hadamard": "intermediate",
    "late": "late",
    "prior": "baseline",
    "return_count": "baseline",
}
MODELS = [name for name, kind in KINDS.items() if kind != "baseline"]
CLASSES = ("cubes", "spheres", "cones")
TRAIN_SCENES, TEST_SCENES = 80, 250


def made_up_groups(split: str, scenes: int, labels: Collection[int]) -> list[CachedGroup]:
    """Every scene has a group of each of these classes."""
    return [
        CachedGroup(split, f"{split}-{scene}-{label}", f"{split}-{scene}", label, 50, 20.0)
        for scene in range(scenes)
        for label in labels
    ]


def write_run(
    folder: Path,
    accuracies: dict[str, float],
    *,
    seeds: tuple[int, ...] = (51, 52, 53, 54),
    test_labels: Collection[int] = (0, 1, 2),
    noise: float = 0.005,
    test_scenes: int = TEST_SCENES,
    run: int = 0,
    digest: str = "0123456789abcdef",
) -> Path:
    """Writes what a learning curve reads of a run.

    A sample has the same difficulty for all models and runs. A seed is right about samples that are easier than its
    model's accuracy, and wrong about a few at random.

    Args:
        accuracies: of every model; the most accurate fusion and the most accurate sensor are the references.
        test_labels: classes of the test groups.
        noise: share of the samples on which a seed's answer is turned around.
        run: runs of the same number turn around the same samples.
    """
    (folder / "reports").mkdir(parents=True)
    groups = {
        "train": made_up_groups("train", TRAIN_SCENES, (0, 1, 2)),
        "test": made_up_groups("test", test_scenes, test_labels),
    }
    with contextlib.chdir(folder):
        _write_cache(groups, digest)
        easiness = np.random.default_rng(0).permutation(len(groups["test"])) / len(groups["test"])
        for number, (name, accuracy) in enumerate(
            {**accuracies, "prior": 1 / 3, "return_count": 0.4}.items()
        ):
            own_seeds = (seeds[0],) if KINDS[name] == "baseline" else seeds
            predictions.write(
                name,
                [
                    Predictions(
                        seed,
                        "test",
                        groups["test"],
                        _logits(groups["test"], easiness, accuracy, noise, (run, number, seed), name),
                    )
                    for seed in own_seeds
                ],
            )
        records.write_history(
            MODELS[0],
            [
                {"epoch": epoch, "seed": seed, "learning_rate": 0.1, "train_loss": 0.1, "valid_loss": 0.2}
                for seed in seeds
                for epoch in (1, 2)
            ],
        )
        versions = {"python": "3.11.7", "torch": "2.13.0"}
        timing = {"revision": "abc", "gpu": None, "cpu_cores": 2, "versions": versions, "platform": "Linux"}
        records.write_timing(f"train-{MODELS[0]}", timing)
        results.write(_compared(accuracies, list(seeds)))
    return folder


def _write_cache(groups: dict[str, list[CachedGroup]], digest: str) -> None:
    """Manifest and table of the groups."""
    manifests.FOLDER.mkdir(parents=True)
    counts = {
        split: {name: sum(group.label == label for group in members) for label, name in enumerate(CLASSES)}
        for split, members in {"train": groups["train"], "validation": [], "test": groups["test"]}.items()
    }
    scenes = {split: len({group.scene for group in members}) for split, members in groups.items()}
    manifest = made_up_manifest(CLASSES, counts, {"validation": 0, **scenes})
    manifests.save(manifest.__class__(**{**vars(manifest), "digest": digest}), manifests.FOLDER)
    rows = [
        {key: value for key, value in vars(group).items() if key != "conditions"}
        for members in groups.values()
        for group in members
    ]
    pq.write_table(pa.Table.from_pylist(rows), manifests.FOLDER / FILE)


def _logits(
    groups: list[CachedGroup],
    easiness: np.ndarray,
    accuracy: float,
    noise: float,
    draw: tuple[int, int, int],
    name: str,
) -> np.ndarray:
    if name == "prior":
        return np.zeros((len(groups), len(CLASSES)))
    rng = np.random.default_rng(draw)
    right = (easiness < accuracy) ^ (rng.random(len(groups)) < noise)
    labels = np.array([group.label for group in groups])
    answers = np.where(right, labels, (labels + 1) % len(CLASSES))
    return 3.0 * np.eye(len(CLASSES))[answers]


def _compared(accuracies: dict[str, float], seeds: list[int]) -> Comparison:
    """What `compare` finds in these predictions, as far as a learning curve reads it."""
    shares = np.full(len(CLASSES), 1 / len(CLASSES))
    judged = resampled.read(MODELS, "test", seeds, 100, shares, with_ranks=False)
    fusions = [name for name in MODELS if KINDS[name] != "unimodal"]
    reference = max(reversed(fusions), key=lambda name: accuracies[name])
    single = max(("rgb", "lidar"), key=lambda name: accuracies[name])
    values = {name: judged.scene_accuracies(name) for name in MODELS}
    failed = {name: judged.failed_seeds(name) for name in MODELS}

    def family(pairs: list[tuple[str, str]]) -> dict[str, results.Contrast]:
        untrained = [name for name in MODELS if failed[name]]
        return {claim.model: claim for claim in significance.family(values, pairs, 0.95, 0.03, untrained)}

    against_reference = family([(name, reference) for name in fusions if name != reference])
    against_single = family([(name, single) for name in fusions])
    return comparison(
        reference=reference,
        single=single,
        seeds=seeds,
        num_scenes=judged.draws.scenes.shape[1],
        classes=list(CLASSES),
        rarest_class=CLASSES[0],
        models={
            name: model_result(
                kind=kind,
                metrics={"test": judged.summaries(name, 0.95)},
                beats_prior=None if name == "prior" else judged.beats_prior(name),
                contrast=against_reference.get(name),
                single=against_single.get(name),
                failed_seeds=failed.get(name, []),
            )
            for name, kind in KINDS.items()
        },
    )
