"""Training: every seed of a model, and what that leaves on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.params import Params
from stages.lib.tensors.manifest import Manifest
from stages.lib.training import outputs, parallel, resume
from stages.lib.training.settings import TrainConfig, compute_config
from stages.lib.training.state import TrainState


def run(
    name: str,
    job: Callable[..., TrainState],
    config: TrainConfig,
    settings: Params,
    sizes: Architecture,
    manifest: Manifest,
    inputs: Mapping[int, str] | None = None,
) -> None:
    """Trains a model once per seed and writes its weights, their metadata, its history and its timing.

    Args:
        job: trains one seed; called with `recipe`, `setting`, `files`, `seed` and `tell`, see `seed.train_seed`.
        inputs: by seed, a digest of what it learns from beside the data.

    Raises:
        UserError: when seeds failed, once the others are done.
    """
    device = devices.choose(settings.train.device)
    compute = compute_config(settings.train, device)
    facts = networks.facts(name, sizes)
    files = resume.open_scratch(name, settings.seeds, config, compute, facts, manifest, inputs=inputs)
    workers = parallel.chosen(settings.train, len(settings.seeds), device)
    job = partial(job, recipe=config, setting=compute, files=files)
    outcomes = parallel.train(name, job, settings.seeds, workers)
    outputs.write(
        name,
        outcomes,
        files.weights_path,
        metadata=outputs.metadata(name, config, sizes, manifest),
        environment=outputs.environment(device, workers.count, workers.threads, workers.backend),
    )
    files.complete(settings.seeds)
