"""Files that survive a killed training stage: finished seeds, and the last saved epoch of unfinished ones.

.scratch/NAME/KEY/seed-51.safetensors     weights of a finished seed's best epoch
.scratch/NAME/KEY/seed-51.json            its losses and times; written last, so it means finished
.scratch/NAME/KEY/seed-51.run.safetensors the state from which an unfinished seed resumes
.scratch/NAME/KEY/complete.json           the seeds of the last run that finished them all, and whether DVC ran it

Finished seeds are kept for runs that were interrupted and for runs that add seeds. Once DVC has recorded a
complete run in dvc.lock, it starts the same run again only when it is forced to (`dvc repro -f`), or when the
results are lost: then all of its seeds are trained anew. The same holds for a complete run that was started by hand.

KEY is a fingerprint of everything that determines the results, so no run resumes from the files of another
configuration. DVC empties a stage's outputs before it runs, so these files are outside of them. They belong to this
machine and are not committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stages.lib.models import checkpoints
from stages.lib.training.settings import ComputeConfig, TrainConfig
from stages.lib.training.state import Epoch, TrainState

FOLDER = Path(".scratch")
LOCK = Path("dvc.lock")

_KEPT = 2  # configurations of a model; users often return to the previous one
_PARTS = ("best", "weights", "moments", "generators")


@dataclass(frozen=True)
class Scratch:
    """The scratch files of one model under one configuration."""

    folder: Path
    # By seed, a digest of its inputs other than the configuration. They are no part of KEY, so seeds can be added.
    inputs: Mapping[int, str] = field(default_factory=dict)

    def weights_path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.safetensors"

    def load_finished(self, seed: int) -> TrainState | None:
        """A finished seed's state, without its weights; None when the seed is not finished."""
        path = self.folder / f"seed-{seed}.json"
        if not (path.is_file() and self.weights_path(seed).is_file()):
            return None
        return self._state_from(path.read_text(), seed)

    def finish(self, seed: int, state: TrainState) -> None:
        """Keeps a finished seed's metadata and best weights, and removes its unfinished state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.weights_path(seed), lambda path: checkpoints.save_weights(state.best, path))
        metadata = self._metadata(state, seed)
        _replace(self.folder / f"seed-{seed}.json", lambda path: path.write_text(metadata))
        self._state_path(seed).unlink(missing_ok=True)

    def save(self, seed: int, state: TrainState) -> None:
        """Saves an unfinished seed's last epoch in place of an earlier one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        is_best = state.best_epoch == len(state.history)
        parts = {part: getattr(state, part) for part in _PARTS if not (part == "best" and is_best)}
        tensors = {
            f"{part}/{name}": tensor.detach().contiguous()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        metadata = {"metadata": self._metadata(state, seed)}
        _replace(self._state_path(seed), lambda path: checkpoints.save_weights(tensors, path, metadata))

    def load(self, seed: int) -> TrainState | None:
        """The saved state of an unfinished seed; None when there is no usable one."""
        path = self._state_path(seed)
        try:
            with safe_open(path, framework="pt") as file:
                state = self._state_from(file.metadata()["metadata"], seed)
                if state is None:
                    return None
                for name in file.keys():  # noqa: SIM118 (no dict)
                    part, _, rest = name.partition("/")
                    getattr(state, part)[rest] = file.get_tensor(name)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # missing, or damaged by a crash of the machine: the seed starts from the beginning
        if state.best_epoch == len(state.history):
            state.best = {name: tensor.clone() for name, tensor in state.weights.items()}
        return state

    def complete(self, seeds: list[int]) -> None:
        """Records that all of a run's seeds are finished and all of its files are written."""
        content = json.dumps({"seeds": seeds, "by_dvc": "DVC_STAGE" in os.environ})
        _replace(self._complete_path, lambda path: path.write_text(content))

    def forget_recorded(self, seeds: list[int]) -> None:
        """Removes these seeds' metadata, so that they train anew, if a complete run has trained them all.

        Not if DVC ran it and was killed before it recorded the run: then the run is newer than dvc.lock.
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

    def _state_path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.run.safetensors"

    def _metadata(self, state: TrainState, seed: int) -> str:
        content = {
            "history": [asdict(epoch) for epoch in state.history],
            "best_epoch": state.best_epoch,
            "epoch_s": state.epoch_s,
            "peak_memory_mib": state.peak_memory_mib,
        }
        return json.dumps({"inputs": self.inputs.get(seed), "state": content})

    def _state_from(self, metadata: str, seed: int) -> TrainState | None:
        """A state without its tensors; None when the seed was trained on other inputs."""
        content = json.loads(metadata)
        if content["inputs"] != self.inputs.get(seed):
            return None
        history = [Epoch(**epoch) for epoch in content["state"]["history"]]
        return TrainState(**(content["state"] | {"history": history}))


def open_scratch(
    name: str,
    seeds: list[int],
    config: TrainConfig,
    compute: ComputeConfig,
    *facts: object,
    inputs: Mapping[int, str] | None = None,
) -> Scratch:
    """The scratch files of a model; removes those of older configurations.

    Args:
        seeds: those that the run trains.
        facts: all other values and classes that determine the results.
        inputs: by seed, a digest of its training inputs other than the tensor cache.
    """
    machine = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability())
    computing = (compute.device.type, compute.threads, compute.tf32, compute.compile)
    folder = FOLDER / name / _fingerprint(config, computing, machine, *facts)
    scratch = Scratch(folder.absolute(), inputs or {})
    scratch.folder.mkdir(parents=True, exist_ok=True)
    scratch.folder.touch()  # its time is that of the last use
    by_age = sorted(scratch.folder.parent.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for old in by_age[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    for path in scratch.folder.glob("*.tmp"):
        path.unlink(missing_ok=True)  # of a process that was killed while it wrote
    scratch.forget_recorded(seeds)
    return scratch


def _fingerprint(*facts: object) -> str:
    """A hash of these facts and of the source of all imported modules of the project.

    A class among the facts has been imported, so its module is one of them.
    """
    digest = hashlib.sha256(repr(facts).encode())
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    root = Path(__file__).parents[3] / "stages"
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({Path(file) for file in loaded if file and Path(file).is_relative_to(root)})


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file so that a killed process leaves either the old or the new one.

    The temporary name is unique, since an orphaned process of a killed run may still be writing.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
