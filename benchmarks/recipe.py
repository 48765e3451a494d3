"""How soon the default settings reach the best loss of the notebook's settings.

    python benchmarks/recipe.py [--json FILE] [--epochs 20] [--seeds 51 52]

Trains the same networks with the same code on the built-in dataset, with the notebook's preset (Adam at 1e-4 on
raw inputs, for 20 epochs) and with params.yaml. The target is the lowest validation loss of each seed in the
notebook's preset. The result is the time in which the default settings reach it, divided by the time of the
notebook's 20 epochs. Takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/recipe.py` works as well
    sys.path.insert(0, str(ROOT))

from scripts.studies import notebook, parameters
from stages import export, synthesize
from stages import train as train_stage
from stages.lib import fusions, params
from stages.lib.datasets import synthetic
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests
from stages.lib.training import late, parallel
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import compute_config, train_config
from stages.lib.training.state import TrainState


@dataclass(frozen=True)
class LearningCurves:
    """The training of all models with one preset, by model and seed."""

    states: dict[str, dict[int, TrainState]]

    def best(self, name: str, seed: int) -> float:
        return min(epoch.valid_loss for epoch in self.states[name][seed].history)

    def seconds(self, name: str, seed: int) -> float:
        return sum(self.states[name][seed].epoch_s)

    def seconds_to(self, name: str, seed: int, target: float) -> float | None:
        """Seconds of training and validation until a loss is reached; None if it is not reached."""
        state = self.states[name][seed]
        for number, epoch in enumerate(state.history, start=1):
            if epoch.valid_loss <= target:
                return sum(state.epoch_s[:number])
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--epochs", type=int, default=20, help="of the notebook's preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[51, 52])
    given = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    plain = notebook_settings(
        f"train.epochs={given.epochs}",
        f"train.late.epochs={given.epochs}",
        f"train.threads={settings.train.threads}",
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        dataset = Path(folder) / "synthetic"
        synthetic.FOLDER = dataset
        synthesize.synthesize(settings.synthetic)
        settings = replace(settings, dataset=replace(settings.dataset, path=str(dataset)))
        curves = {}
        for preset, chosen in {"notebook": plain, "default": settings}.items():
            # A preset's models and data are not compared here, only how it trains.
            chosen = replace(settings, train=chosen.train, export=chosen.export, network=chosen.network)
            curves[preset] = train_all(Path(folder) / preset, chosen, given.seeds)
    figures = {
        name: compare(name, curves["notebook"], curves["default"], given.seeds)
        for name in settings.model_names()
    }
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def notebook_settings(*overrides: str) -> Params:
    """The settings of `make notebook`, with these overrides."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(ROOT / "params.yaml", folder)
        parameters.apply([*notebook.SETTINGS, *overrides], Path(folder))
        return params.load(Path(folder) / "params.yaml")


def train_all(folder: Path, settings: Params, seeds: list[int]) -> LearningCurves:
    """Trains all models with these settings."""
    manifests.FOLDER = folder / "tensors"
    train = settings.train
    manifest = export.export(settings.dataset, settings.export)
    sizes = Architecture.from_settings(manifest, settings.network)
    device = devices.choose(train.device)
    workers = parallel.choose_workers(train, len(seeds), device, manifest)
    states: dict[str, dict[int, TrainState]] = {}
    for name in settings.model_names():
        spec = fusions.spec(name)
        if spec.kind == "late":
            nets = late.TrainedNets(spec, sizes, manifest, manifests.FOLDER, folder / "models")
            job = partial(late.train_late_seed, nets)
        else:
            build = partial(networks.build, name, sizes)
            job = partial(train_seed, build, partial(train_stage.load_splits, manifests.FOLDER, manifest))
        job = partial(
            job,
            config=train_config(train, spec),
            compute=compute_config(train, device),
            scratch=Scratch(folder / "models" / name),
        )
        states[name] = parallel.train(name, job, seeds, workers)
    return LearningCurves(states)


def compare(name: str, plain: LearningCurves, default: LearningCurves, seeds: list[int]) -> dict[str, object]:
    """The figures of one model; a share of None means that some seed did not reach the target."""
    shares = []
    for seed in seeds:
        reached_s = default.seconds_to(name, seed, plain.best(name, seed))
        shares.append(reached_s and reached_s / plain.seconds(name, seed))
    return {
        "notebook_best": [plain.best(name, seed) for seed in seeds],
        "default_best": [default.best(name, seed) for seed in seeds],
        "notebook_s": float(np.mean([plain.seconds(name, seed) for seed in seeds])),
        "default_s": float(np.mean([default.seconds(name, seed) for seed in seeds])),
        "share": None if None in shares else max(shares),
    }


def table(figures: dict[str, dict[str, object]]) -> str:
    rows = [
        [
            name,
            " ".join(f"{loss:.3f}" for loss in row["notebook_best"]),
            f"{row['notebook_s']:.1f}",
            " ".join(f"{loss:.3f}" for loss in row["default_best"]),
            f"{row['default_s']:.1f}",
            "never" if row["share"] is None else f"{row['share']:.3f}",
        ]
        for name, row in figures.items()
    ]
    headers = [
        "Model",
        "Notebook's best",
        "in (s)",
        "Default's best",
        "in (s)",
        "Share of the time to the notebook's best (worst seed)",
    ]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
