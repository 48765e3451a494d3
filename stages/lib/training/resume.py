"""What survives a killed training stage: finished seeds, and the last saved epoch of unfinished ones.

.scratch/NAME/KEY/seed-51.safetensors     weights of a finished seed's best epoch
.scratch/NAME/KEY/seed-51.json            its losses and times; written last, so it means finished
.scratch/NAME/KEY/seed-51.run.safetensors all that an unfinished seed needs to go on
.scratch/NAME/KEY/complete.json           the seeds of the last run that finished them all, and whether DVC ran it

Finished seeds are kept for runs that were interrupted and for runs that add seeds. Once DVC has recorded a
complete run in dvc.lock, it starts the same run again only when it is forced to (`dvc repro -f`), or when the
results are lost: then all of its seeds are trained anew. So are those of a complete run that was started by hand.

KEY is a fingerprint of all that decides a result, so nothing is ever picked up by another
configuration. DVC empties a stage's outputs before it runs, so these files lie outside them; they
belong to this machine and to no commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.lib.training.settings import ComputeConfig, TrainConfig
from stages.lib.training.state import Epoch, TrainState

FOLDER = Path(".scratch")
LOCK = Path("dvc.lock")

_KEPT = 2  # configurations of a model; the one before is often come back to
_PARTS = ("best", "weights", "moments", "generators")


@dataclass(frozen=True)
class Scratch:
    """The scratch files of one model under one configuration."""

    folder: Path
    # By seed, what its result depends on beside the configuration; seeds may be added later.
    inputs: Mapping[int, str] = field(default_factory=dict)

    def weights_path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.safetensors"

    def load_finished(self, seed: int) -> TrainState | None:
        """A finished seed's story, without its weights; None when it is not finished."""
        path = self.folder / f"seed-{seed}.json"
        if not (path.is_file() and self.weights_path(seed).is_file()):
            return None
        return self._run_from(json.loads(path.read_text()), seed)

    def finish(self, seed: int, run: TrainState) -> None:
        """Keeps a finished seed's story and best weights instead of all the rest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.weights_path(seed), lambda path: _save_tensors(run.best, path))
        story = self._story(run, seed)
        _replace(self.folder / f"seed-{seed}.json", lambda path: path.write_text(story))
        self._run_path(seed).unlink(missing_ok=True)

    def save(self, seed: int, run: TrainState) -> None:
        """Keeps an unfinished seed's last epoch in place of an earlier one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        is_best = run.best_epoch == len(run.history)
        parts = {part: getattr(run, part) for part in _PARTS if not (part == "best" and is_best)}
        tensors = {
            f"{part}/{name}": tensor.detach().contiguous()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        story = {"story": self._story(run, seed)}
        _replace(self._run_path(seed), lambda path: _save_tensors(tensors, path, story))

    def load(self, seed: int) -> TrainState | None:
        """How far an unfinished seed has come; None when nothing usable is there."""
        path = self._run_path(seed)
        try:
            with safe_open(path, framework="pt") as file:
                run = self._run_from(json.loads(file.metadata()["story"]), seed)
                if run is None:
                    return None
                for name in file.keys():  # noqa: SIM118 (no dict)
                    part, _, rest = name.partition("/")
                    getattr(run, part)[rest] = file.get_tensor(name)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # missing, or broken by a crash of the machine: the seed starts over
        if run.best_epoch == len(run.history):
            run.best = {name: tensor.clone() for name, tensor in run.weights.items()}
        return run

    def complete(self, seeds: list[int]) -> None:
        """Notes that all of a run's seeds are finished and all of its files are written."""
        content = json.dumps({"seeds": seeds, "by_dvc": "DVC_STAGE" in os.environ})
        _replace(self._complete_path, lambda path: path.write_text(content))

    def forget_recorded(self, seeds: list[int]) -> None:
        """Forgets these seeds' weights where a complete run holds them all and nobody waits for its results.

        DVC does where it was killed over the run: then the run is newer than dvc.lock.
        """
        try:
            content = json.loads(self._complete_path.read_text())
            finished, by_dvc = set(content["seeds"]), content["by_dvc"]
            is_recorded = LOCK.is_file() and LOCK.stat().st_mtime_ns > self._complete_path.stat().st_mtime_ns
        except (OSError, ValueError, TypeError, KeyError):
            return
        if finished.issuperset(seeds) and (is_recorded or not by_dvc):
            for seed in seeds:
                (self.folder / f"seed-{seed}.json").unlink(missing_ok=True)
        self._complete_path.unlink(missing_ok=True)

    @property
    def _complete_path(self) -> Path:
        return self.folder / "complete.json"

    def _run_path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.run.safetensors"

    def _story(self, run: TrainState, seed: int) -> str:
        content = {
            "history": [asdict(epoch) for epoch in run.history],
            "best_epoch": run.best_epoch,
            "epoch_s": run.epoch_s,
            "peak_memory_mib": run.peak_memory_mib,
        }
        return json.dumps({"inputs": self.inputs.get(seed), "run": content})

    def _run_from(self, story: dict[str, Any], seed: int) -> TrainState | None:
        """A run without its tensors; None when it learned from other inputs."""
        if story["inputs"] != self.inputs.get(seed):
            return None
        return TrainState(
            **(story["run"] | {"history": [Epoch(**epoch) for epoch in story["run"]["history"]]})
        )


def opened(name: str, seeds: list[int], inputs: Mapping[int, str], *facts: object) -> Scratch:
    """The scratch files of a model; older configurations' are removed.

    Args:
        seeds: those that the run is to finish.
        inputs: by seed, what its result depends on beside the rest.
        facts: all that decides a result, beside that and the code.
    """
    scratch = Scratch((FOLDER / name / fingerprint(*facts)).absolute(), inputs)
    scratch.folder.mkdir(parents=True, exist_ok=True)
    scratch.folder.touch()  # its time says when it was used last
    by_age = sorted(scratch.folder.parent.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for folder in by_age[:-_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in scratch.folder.glob("*.tmp"):
        path.unlink(missing_ok=True)  # of a process that was killed while it wrote
    scratch.forget_recorded(seeds)
    return scratch


def fingerprint(*facts: object) -> str:
    """Of these facts and of the source of every module of the project that is imported."""
    digest = hashlib.sha256(repr(facts).encode())
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    root = Path(__file__).parents[3] / "stages"
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({Path(file) for file in loaded if file and Path(file).is_relative_to(root)})


def _save_tensors(tensors: dict[str, Tensor], path: Path, story: dict[str, str] | None = None) -> None:
    """Raises OSError, which its own error hides, when they can't be written."""
    try:
        safetensors.torch.save_file(tensors, path, story)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file that is either the old or the new one whenever the process dies.

    Its temporary name is its own, since an orphan of a killed run may still be writing.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def open_scratch(
    name: str,
    seeds: list[int],
    recipe: TrainConfig,
    setting: ComputeConfig,
    *facts: object,
    inputs: Mapping[int, str] | None = None,
) -> Scratch:
    """Scratch files of a model's seeds under all that decides their weights.

    Args:
        inputs: by seed, what it learns from beside the data.
    """
    machine = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability())
    computing = (setting.device.type, setting.threads, setting.tf32, setting.compile)
    return opened(name, seeds, inputs or {}, recipe, computing, machine, *facts)
