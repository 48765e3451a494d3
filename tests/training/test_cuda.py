"""Training on a CUDA device: exact repetition, resuming, the same numbers as on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.project import ROOT
from torch import Tensor

from stages.lib import fusions, params
from stages.lib.models import devices, networks
from stages.lib.models.architecture import Architecture
from stages.lib.params import Params
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
JOINT = fusions.names(*fusions.JOINT)
ALL_OPTIONS: dict[str, object] = {
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "class_weights": "balanced",
    "augment": Augmentation("both", 3, 0.3),
}


class Samples:
    """40 random samples, so that the last batch of 16 is short."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._rgb, self._lidar = torch.rand(2, 40, 4, 32, 32, generator=generator)
        self.labels = torch.arange(40) % 2

    def __len__(self) -> int:
        return 40

    def to(self, device: torch.device) -> Samples:
        moved = Samples.__new__(Samples)
        moved._rgb, moved._lidar, moved.labels = (
            tensor.to(device) for tensor in (self._rgb, self._lidar, self.labels)
        )
        return moved

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._rgb[list(indices)], self._lidar[list(indices)]

    def black(self) -> Tensor:
        return torch.zeros(4, device=self.labels.device)


def config(settings: Params, name: str, **changes: object) -> TrainConfig:
    plain = train_config(settings.train, fusions.spec(name))
    return replace(plain, **({"epochs": 3, "batch_size": 16} | changes))


@pytest.fixture(scope="module")
def settings() -> Params:
    return params.load(ROOT / "params.yaml")


def trained(
    name: str,
    config: TrainConfig,
    device: torch.device = CUDA,
    *,
    tf32: bool = False,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    state: TrainState | None = None,
) -> TrainState:
    devices.prepare_process(threads=1, tf32=tf32)
    network = loop.seeded_build(partial(networks.build, name, SIZES), 3)
    return loop.fit(
        network,
        Samples(1),
        Samples(2),
        config=config,
        seed=3,
        device=device,
        on_epoch=on_epoch,
        state=state,
    )


def assert_same(first: TrainState, second: TrainState) -> None:
    assert first.history == second.history and first.best.keys() == second.best.keys()
    for name, weight in first.best.items():
        assert torch.equal(weight, second.best[name]), name


@pytest.mark.parametrize("tf32", [False, True], ids=["float32", "tf32"])
@pytest.mark.parametrize("name", ["rgb", "lidar", *JOINT])
def test_same_seed_same_bits(settings: Params, name: str, tf32: bool) -> None:
    """No network needs an operation that has no deterministic form on CUDA."""
    once = config(settings, name)
    assert_same(trained(name, once, tf32=tf32), trained(name, once, tf32=tf32))


@pytest.mark.parametrize("name", ["rgb", *JOINT])
def test_bfloat16_with_all_options(settings: Params, name: str) -> None:
    once = config(settings, name, precision="bfloat16", **ALL_OPTIONS)
    assert_same(trained(name, once), trained(name, once))


@pytest.mark.parametrize("changes", [{}, ALL_OPTIONS], ids=["plain", "all options"])
@pytest.mark.parametrize("name", ["rgb", "concatenation", "mmtm", "late_finetuned"])
def test_the_same_losses_as_on_the_cpu(settings: Params, name: str, changes: dict[str, object]) -> None:
    """Float32 on both; they differ by the order of sums, which three epochs multiply."""
    once = config(settings, name, **changes)
    on_gpu, on_cpu = (trained(name, once, device).history for device in (CUDA, torch.device("cpu")))
    for left, right in zip(on_gpu, on_cpu, strict=True):
        assert left.train_loss == pytest.approx(right.train_loss, rel=2e-3)
        assert left.valid_loss == pytest.approx(right.valid_loss, rel=2e-3)


@pytest.mark.parametrize("changes", [{}, ALL_OPTIONS], ids=["plain", "all options"])
@pytest.mark.parametrize("name", ["concatenation", "late_finetuned"])
def test_interrupted_training_ends_the_same(
    settings: Params, name: str, changes: dict[str, object], tmp_path: Path
) -> None:
    once, scratch = config(settings, name, **changes), Scratch(tmp_path)
    for epoch in (1, 2):

        def stop(state: TrainState, epoch: int = epoch) -> None:
            scratch.save(3, state)
            if len(state.history) == epoch:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(name, once, on_epoch=stop, state=scratch.load(3))
    assert_same(trained(name, once, state=scratch.load(3)), trained(name, once))


def test_seeds_at_once_give_the_same_weights(settings: Params, tmp_path: Path) -> None:
    """Two processes share the device."""
    digests = []
    for count in (1, 2):
        scratch = Scratch(tmp_path / str(count))
        job = partial(
            train_seed,
            partial(networks.build, "concatenation", SIZES),
            inputs,
            config=config(settings, "concatenation"),
            compute=compute_config(settings.train, CUDA),
            scratch=scratch,
        )
        workers = parallel.Workers(backend="loky", scheduler=None, count=count, threads=1)
        parallel.train("concatenation", job, [1, 2], workers)
        digests.append([scratch.weights_path(seed).read_bytes() for seed in (1, 2)])
    assert digests[0] == digests[1]


def inputs() -> tuple[Samples, Samples]:
    return Samples(1), Samples(2)


def test_too_large_a_batch_is_one_line(settings: Params) -> None:
    """More than any device's memory."""

    class Endless(Samples):
        def to(self, device: torch.device) -> Endless:
            moved = Endless.__new__(Endless)
            moved.labels = self.labels.to(device)
            return moved

        def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            size = 2**42  # bytes
            return torch.empty(size, dtype=torch.uint8, device=CUDA), torch.zeros(1)

    devices.prepare_process(threads=1)
    network = loop.seeded_build(partial(networks.build, "concatenation", SIZES), 3)
    with pytest.raises(loop.OutOfMemory, match="epoch 1, batch 1 of 3"):
        loop.fit(
            network,
            Endless(1),
            Samples(2),
            config=config(settings, "concatenation"),
            seed=3,
            device=CUDA,
            on_epoch=lambda state: None,
        )
