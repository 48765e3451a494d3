"""Training: all seeds of a model, and the files that this leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from stages.lib.fusions import ModelSpec
from stages.lib.models import architecture, devices
from stages.lib.models.architecture import Architecture
from stages.lib.params import Params
from stages.lib.tensors import groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.training import live, outputs, parallel, resume, subsample
from stages.lib.training.settings import compute_config, train_config
from stages.lib.training.state import TrainState


def run(
    spec: ModelSpec,
    job: Callable[..., TrainState],
    settings: Params,
    sizes: Architecture,
    manifest: Manifest,
    inputs: Mapping[int, str] | None = None,
) -> None:
    """Trains a model once per seed and writes its weights, their metadata, its history and its timing.

    Args:
        job: trains one seed; called with `config`, `compute`, `scratch`, `seed`, `on_progress` and, where seeds
            see a part of the training split, `positions`; see `seed.train_seed`.
        inputs: by seed, a digest of the training inputs other than the tensor cache.

    Raises:
        UserError: when seeds failed, once the others have finished.
    """
    device = devices.choose(settings.train.device)
    config, compute = train_config(settings.train, spec), compute_config(settings.train, device)
    facts = architecture.facts(spec.name, sizes)
    scratch = resume.open_scratch(
        spec.name, settings.seeds, config, compute, spec.operator, facts, manifest, inputs=inputs
    )
    workers = parallel.choose_workers(settings.train, len(settings.seeds), device, manifest)
    job = partial(job, config=config, compute=compute, scratch=scratch)
    if config.subsample < 1:
        train_groups = groups.read(manifests.FOLDER, "train")
        job = partial(job, positions=partial(subsample.draw, train_groups, config.subsample))
    metadata = outputs.metadata(spec, config, sizes, manifest)
    with live.opened(spec.name, metadata, settings.track) as on_epochs:
        states = parallel.train(spec.name, job, settings.seeds, workers, on_epochs)
        outputs.write(
            spec.name,
            states,
            scratch.weights_path,
            metadata=metadata,
            environment=outputs.environment(device, workers.count, workers.threads, workers.backend),
        )
        scratch.complete(settings.seeds)
