"""Training on a CUDA device: exact repetition, resuming, the same numbers as on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.inputs import RandomInputs
from support.project import ROOT
from torch import Tensor

from stages.lib import fusions, params
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.training import loop, parallel
from stages.lib.training.augmentation import Augmentation
from stages.lib.training.resume import Scratch
from stages.lib.training.seed import train_seed
from stages.lib.training.settings import TrainConfig, compute_config, train_config
from stages.lib.training.state import TrainState

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

CUDA = torch.device("cuda")
SIZES = Architecture(4, 4, 32, 1, (8, 16, 16), (8, 16, 16), (32, 16), 10)
SETTINGS = params.load(ROOT / "params.yaml").train
JOINT = fusions.names(*fusions.JOINT)
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "all options": {
        "weight_decay": 0.1,
        "clip_norm": 0.5,
        "class_weights": "balanced",
        "label_smoothing": 0.1,
        "augment": Augmentation("both", 3, 0.3),
    },
}


def config(name: str, **changes: object) -> TrainConfig:
    plain = train_config(SETTINGS, fusions.spec(name))
    return replace(plain, **({"epochs": 3, "min_steps": 0, "batch_size": 16} | changes))


def inputs(kind: type[RandomInputs] = RandomInputs) -> tuple[RandomInputs, RandomInputs]:
    """For training and validation, 40 samples each, so that the last batch of 16 is short."""
    return kind(1, 40, 32), RandomInputs(2, 40, 32)


def trained(
    name: str,
    config: TrainConfig,
    device: torch.device = CUDA,
    *,
    tf32: bool = False,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    state: TrainState | None = None,
    kind: type[RandomInputs] = RandomInputs,
) -> TrainState:
    devices.prepare_process(threads=1, tf32=tf32)
    network = loop.seeded_build(partial(networks.build, name, SIZES), 3)
    return loop.fit(
        network, *inputs(kind), config=config, seed=3, device=device, on_epoch=on_epoch, state=state
    )


def assert_same(first: TrainState, second: TrainState) -> None:
    assert first.history == second.history and first.best.keys() == second.best.keys()
    for name, weight in first.best.items():
        assert torch.equal(weight, second.best[name]), name


@pytest.mark.parametrize("tf32", [False, True], ids=["float32", "tf32"])
@pytest.mark.parametrize("name", ["rgb", "lidar", *JOINT])
def test_same_seed_same_bits(name: str, tf32: bool) -> None:
    """No network needs an operation that has no deterministic form on CUDA."""
    once = config(name)
    assert_same(trained(name, once, tf32=tf32), trained(name, once, tf32=tf32))


@pytest.mark.parametrize("name", ["rgb", *JOINT])
def test_bfloat16_with_all_options(name: str) -> None:
    once = config(name, precision="bfloat16", **OPTIONS["all options"])
    assert_same(trained(name, once), trained(name, once))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["rgb", "concatenation", "mmtm", "late_finetuned"])
def test_the_same_losses_as_on_the_cpu(name: str, options: str) -> None:
    """Float32 on both; they differ by the order of sums, which three epochs multiply."""
    once = config(name, **OPTIONS[options])
    on_gpu, on_cpu = (trained(name, once, device).history for device in (CUDA, torch.device("cpu")))
    for left, right in zip(on_gpu, on_cpu, strict=True):
        assert left.train_loss == pytest.approx(right.train_loss, rel=2e-3)
        assert left.valid_loss == pytest.approx(right.valid_loss, rel=2e-3)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["concatenation", "late_finetuned"])
def test_interrupted_training_ends_the_same(name: str, options: str, tmp_path: Path) -> None:
    once, scratch = config(name, **OPTIONS[options]), Scratch(tmp_path)
    for epoch in (1, 2):

        def stop(state: TrainState, epoch: int = epoch) -> None:
            scratch.save(3, state)
            if len(state.history) == epoch:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(name, once, on_epoch=stop, state=scratch.load(3))
    assert_same(trained(name, once, state=scratch.load(3)), trained(name, once))


def test_seeds_at_once_give_the_same_weights(tmp_path: Path) -> None:
    """Two processes share the device."""
    digests = []
    for count in (1, 2):
        scratch = Scratch(tmp_path / str(count))
        job = partial(
            train_seed,
            partial(networks.build, "concatenation", SIZES),
            inputs,
            config=config("concatenation"),
            compute=compute_config(SETTINGS, CUDA),
            scratch=scratch,
        )
        workers = parallel.Workers(backend="loky", scheduler=None, count=count, threads=1)
        parallel.train("concatenation", job, [1, 2], workers)
        digests.append([scratch.weights_path(seed).read_bytes() for seed in (1, 2)])
    assert digests[0] == digests[1]


def test_too_large_a_batch_is_one_line() -> None:
    class TooLarge(RandomInputs):
        def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            torch.empty(2**42, dtype=torch.uint8, device=CUDA)  # bytes, more than any device has
            return super().batch(indices)

    with pytest.raises(loop.OutOfMemory, match="epoch 1, batch 1 of 3"):
        trained("concatenation", config("concatenation"), kind=TooLarge)
