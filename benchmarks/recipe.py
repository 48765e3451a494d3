"""How soon the recipe of params.yaml is as good as the notebook's ever gets.

    python benchmarks/recipe.py [--json FILE] [--epochs 20] [--seeds 51 52]

Both recipes train the same networks with the same engine on the built-in dataset. The notebook's is Adam at
1e-4 on raw inputs, for 20 epochs; the least validation loss of each seed is the mark, and the time in which
the default recipe reaches it is set against the notebook's 20 epochs. Takes about a quarter of an hour.
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

from scripts import preset_runs
from stages import export, synthesize
from stages import train as train_stage
from stages.lib import params
from stages.lib.datasets import synthetic
from stages.lib.models import checkpoints, devices, networks
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests
from stages.lib.training import late, parallel
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import compute_config, train_config
from stages.lib.training.state import TrainState


@dataclass(frozen=True)
class Course:
    """A recipe's way through the epochs, by model and seed."""

    runs: dict[str, dict[int, TrainState]]

    def best(self, name: str, seed: int) -> float:
        return min(epoch.valid_loss for epoch in self.runs[name][seed].history)

    def seconds(self, name: str, seed: int) -> float:
        return sum(self.runs[name][seed].epoch_s)

    def seconds_to(self, name: str, seed: int, mark: float) -> float | None:
        """Seconds of training and validation until a loss is reached; None if it never is."""
        run = self.runs[name][seed]
        for number, epoch in enumerate(run.history, start=1):
            if epoch.valid_loss <= mark:
                return sum(run.epoch_s[:number])
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--epochs", type=int, default=20, help="of the notebook's recipe")
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
        courses = {}
        settings = replace(settings, dataset=replace(settings.dataset, path=str(dataset)))
        for recipe, chosen in {"notebook": plain, "default": settings}.items():
            # A recipe is how to train, not what, nor what on.
            chosen = replace(settings, train=chosen.train, export=chosen.export, network=chosen.network)
            courses[recipe] = follow(Path(folder) / recipe, chosen, given.seeds)
    figures = {
        name: compare(name, courses["notebook"], courses["default"], given.seeds)
        for name in settings.model_names()
    }
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def notebook_settings(*overrides: str) -> Params:
    """Those of `make notebook`, with these in their place."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(ROOT / "params.yaml", folder)
        preset_runs.apply([*preset_runs.NOTEBOOK, *overrides], Path(folder))
        return params.load(Path(folder) / "params.yaml")


def follow(folder: Path, settings: Params, chosen: list[int]) -> Course:
    """Trains all models by one recipe."""
    manifests.FOLDER = folder / "tensors"
    train = settings.train
    manifest = export.export(settings.dataset, settings.export)
    sizes = checkpoints.architecture(manifest, settings.network)
    device = devices.choose(train.device)
    workers = parallel.chosen(train, len(chosen), device)
    done: dict[str, dict[int, TrainState]] = {}
    for name in settings.model_names():
        files = Scratch(folder / "models" / name)
        how = {"setting": compute_config(train, device), "files": files}
        if name in settings.late:
            recipe = late.late_config(name, train)
            nets = late.TrainedNets(name, sizes, manifest, manifests.FOLDER, folder / "models")
            job = partial(late.train_late_seed, nets, recipe=recipe, **how)
        else:
            recipe = train_config(train, sensors=1 if name in settings.unimodal else 2)
            build, load = (
                partial(networks.build, name, sizes),
                partial(train_stage.load_splits, manifests.FOLDER, manifest),
            )
            job = partial(train_seed, build, load, recipe=recipe, **how)
        done[name] = parallel.train(name, job, chosen, workers)
    return Course(done)


def compare(name: str, plain: Course, default: Course, chosen: list[int]) -> dict[str, object]:
    """The figures of one model; a share of None means that some seed never got there."""
    shares = []
    for seed in chosen:
        reached_s = default.seconds_to(name, seed, plain.best(name, seed))
        shares.append(reached_s and reached_s / plain.seconds(name, seed))
    return {
        "notebook_best": [plain.best(name, seed) for seed in chosen],
        "default_best": [default.best(name, seed) for seed in chosen],
        "notebook_s": float(np.mean([plain.seconds(name, seed) for seed in chosen])),
        "default_s": float(np.mean([default.seconds(name, seed) for seed in chosen])),
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
