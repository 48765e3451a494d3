"""The training loop: exact repetition, the best epoch, per-sample losses."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.inputs import RandomInputs
from support.manifest import made_up_manifest
from support.project import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.models import devices, inference, networks
from stages.lib.models.architecture import Architecture
from stages.lib.tensors.groups import CachedGroup
from stages.lib.training import augmentation, loop, parallel, subsample
from stages.lib.training.augmentation import Augmentation
from stages.lib.training.inputs import CachedLogits
from stages.lib.training.losses import TrainingLoss, class_weights, losses
from stages.lib.training.resume import Scratch
from stages.lib.training.schedule import learning_rate_at
from stages.lib.training.settings import TrainConfig
from stages.lib.training.state import TrainState
from stages.lib.training.subsample import Subsample

CPU = torch.device("cpu")
SIZES = Architecture(4, 4, 16, 1, (4, 4, 4), (4, 4, 4), (8, 4), 10)
CONFIG = TrainConfig(
    epochs=3,
    min_steps=0,
    batch_size=4,
    learning_rate=0.01,
    schedule="one-cycle",
    weight_decay=0.0,
    clip_norm=None,
    patience=None,
    subsample=1.0,
    class_weights="none",
    label_smoothing=0.0,
    augment=Augmentation("none", 0, 0.0),
    precision="float32",
)


def trained(
    seed: int,
    config: TrainConfig = CONFIG,
    name: str = "addition",
    *,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    state: TrainState | None = None,
) -> TrainState:
    devices.prepare_process(threads=1)
    network = loop.seeded_build(lambda: networks.build(name, SIZES), seed)
    return loop.fit(
        network,
        RandomInputs(1),
        RandomInputs(2),
        config=config,
        seed=seed,
        device=CPU,
        on_epoch=on_epoch,
        state=state,
    )


def assert_same(first: TrainState, second: TrainState) -> None:
    assert first.history == second.history and first.best_epoch == second.best_epoch
    assert first.best.keys() == second.best.keys()
    for name, weight in first.best.items():
        assert torch.equal(weight, second.best[name]), name


@pytest.mark.parametrize("seed", [0, 51])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_same_bits(seed: int, precision: str) -> None:
    config = replace(CONFIG, precision=precision)
    assert_same(trained(seed, config), trained(seed, config))


def test_another_seed_changes_weights_and_order() -> None:
    first, second = trained(0), trained(1)
    assert any(not torch.equal(first.best[name], second.best[name]) for name in first.best)
    orders = []
    for seed in (0, 1):
        inputs = RandomInputs(1)
        network = loop.seeded_build(lambda: networks.build("rgb", SIZES), 5)
        loop.fit(
            network,
            inputs,
            RandomInputs(2),
            config=CONFIG,
            seed=seed,
            device=CPU,
            on_epoch=lambda state: None,
        )
        orders.append(inputs.batches[:3])
    assert orders[0] != orders[1]
    assert sorted(index for indices in orders[0] for index in indices) == list(range(10)), (
        "an epoch is every sample once"
    )


def test_initial_weights_pair_by_seed() -> None:
    """Every fusion starts from the same encoders under the same seed."""
    nets = [
        loop.seeded_build(lambda name=name: networks.build(name, SIZES), 7)
        for name in ("addition", "hadamard")
    ]
    for left, right in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(left, right)


def test_best_epoch_is_kept() -> None:
    state = trained(3, replace(CONFIG, epochs=8, learning_rate=0.05))
    losses = [epoch.valid_loss for epoch in state.history]
    assert state.best_epoch == losses.index(min(losses)) + 1
    network = networks.build("addition", SIZES)
    network.load_state_dict(state.best)
    inputs = RandomInputs(2)
    logits = inference.predict(network.to(memory_format=torch.channels_last), inputs, 4, CPU)
    assert mean_loss(logits, inputs.labels) == pytest.approx(min(losses), abs=1e-6)


def test_losses_are_means_per_sample() -> None:
    """A mean of batch means would give the last, short batch too much weight."""
    inputs = CachedLogits(
        torch.zeros(5, 1),
        torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0]]),
        torch.zeros(5, dtype=int),
        (torch.zeros(1), torch.zeros(1)),
    )

    class Second(nn.Module):
        def forward(self, rgb: Tensor, lidar: Tensor) -> Tensor:
            return lidar

    logits = inference.predict(Second(), inputs, batch_size=4, device=CPU)
    expected = (4 * math.log(2) + math.log1p(math.exp(5))) / 5
    assert mean_loss(logits, inputs.labels) == pytest.approx(expected)


def test_losses_equal_torchs() -> None:
    binary = torch.tensor([[0.5], [-1.0]])
    labels = torch.tensor([1, 0])
    expected = nn.BCEWithLogitsLoss()(binary[:, 0], labels.float())
    assert torch.equal(losses(binary, labels).mean(), expected)
    three = torch.randn(2, 3)
    torch.testing.assert_close(losses(three, labels).mean(), nn.CrossEntropyLoss()(three, labels))


def mean_loss(logits: Tensor, labels: Tensor) -> float:
    return float(losses(logits, labels).mean())


def test_schedules() -> None:
    one_cycle = [learning_rate_at(step, 100, CONFIG) for step in range(100)]
    assert max(one_cycle) == pytest.approx(0.01, rel=0.05)
    assert one_cycle.index(max(one_cycle)) == 30
    assert one_cycle[0] < 0.001 and one_cycle[-1] < 0.0001
    cosine = [learning_rate_at(step, 100, replace(CONFIG, schedule="cosine")) for step in range(100)]
    assert cosine[0] == 0.01 and cosine[50] == pytest.approx(0.005) and cosine[-1] < 0.0001
    constant = replace(CONFIG, schedule="constant")
    assert {learning_rate_at(step, 100, constant) for step in range(100)} == {0.01}


def test_frozen_nets_stay_frozen() -> None:
    late = networks.build("late", SIZES)
    assert {name.split(".")[0] for name, weight in late.named_parameters() if weight.requires_grad} == {
        "fusion"
    }


def test_divergence_is_an_error() -> None:
    with pytest.raises(loop.Diverged, match=r"^epoch 1, batch \d of 3: the training loss is (nan|inf)"):
        trained(0, replace(CONFIG, learning_rate=1e30, schedule="constant"))
    with pytest.raises(loop.Diverged, match=r"^epoch \d, batch \d of 3: the training loss explodes"):
        trained(0, replace(CONFIG, learning_rate=10.0, schedule="constant", epochs=20))


def test_no_memory_is_an_error() -> None:
    class TooLarge(RandomInputs):
        def batch(self, indices: list[int] | range) -> tuple[Tensor, Tensor]:
            torch.empty(2**60)
            return super().batch(indices)

    with pytest.raises(loop.OutOfMemory, match=r"^epoch 1, batch 1 of 3$"):
        loop.fit(
            networks.build("rgb", SIZES),
            TooLarge(1),
            RandomInputs(2),
            config=CONFIG,
            seed=0,
            device=CPU,
            on_epoch=lambda state: None,
        )


ALL_OPTIONS = replace(
    CONFIG,
    epochs=5,
    weight_decay=0.1,
    clip_norm=0.5,
    class_weights="balanced",
    augment=Augmentation("both", 3, 0.3),
)


@pytest.mark.parametrize("config", [replace(CONFIG, epochs=5), ALL_OPTIONS], ids=["plain", "all options"])
@pytest.mark.parametrize("name", ["addition", "lidar", "mmtm", "late_finetuned"])
def test_interrupted_training_ends_the_same(name: str, config: TrainConfig, tmp_path: Path) -> None:
    """Training that is stopped after every epoch and resumed in another network."""
    expected = trained(3, config, name)
    scratch = Scratch(tmp_path)
    for epoch in range(1, config.epochs):

        def stop(state: TrainState, epoch: int = epoch) -> None:
            scratch.save(3, state)
            if len(state.history) == epoch:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(3, config, name, on_epoch=stop, state=scratch.load(3))
        assert len(scratch.load(3).history) == epoch
    last = trained(3, config, name, state=scratch.load(3))
    assert_same(last, expected)


def test_each_part_of_the_config_matters() -> None:
    plain = trained(3).history
    for change in (
        {"weight_decay": 0.5},
        {"clip_norm": 0.001},
        {"label_smoothing": 0.2},
        {"schedule": "cosine"},
        {"augment": Augmentation("horizontal", 0, 0.0)},
        {"augment": Augmentation("none", 2, 0.0)},
        {"augment": Augmentation("none", 0, 0.5)},
    ):
        assert trained(3, replace(CONFIG, **change)).history != plain, change


def test_without_decay_it_is_adam() -> None:
    """The same bits as with the notebook's optimizer."""
    config = replace(CONFIG, epochs=1, schedule="constant")
    devices.prepare_process(threads=1)
    network = loop.seeded_build(lambda: networks.build("addition", SIZES), 3)
    network.to(memory_format=torch.channels_last)
    inputs, optimizer = RandomInputs(1), torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    for indices in torch.randperm(10, generator=torch.Generator().manual_seed(3)).split(4):
        rgb, lidar = (x.to(memory_format=torch.channels_last) for x in inputs.batch(indices.tolist()))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(
            network(rgb, lidar)[:, 0], inputs.labels[indices].float()
        ).backward()
        optimizer.step()
    state = trained(3, config)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, state.best[name]), name


def test_a_small_split_gets_more_epochs() -> None:
    """10 samples are 3 steps: 20 steps take 7 epochs, and the schedule covers them all."""
    config = replace(CONFIG, min_steps=20)
    state = trained(3, config)
    assert len(state.history) == 7
    assert state.history[0].learning_rate > state.history[-1].learning_rate > 0
    assert_same(state, trained(3, replace(CONFIG, epochs=7)))
    assert [config.num_epochs(samples) for samples in (10, 26, 27, 1000)] == [7, 3, 3, 3]


@pytest.mark.parametrize("num_logits", [1, 2, 3])
def test_label_smoothing(num_logits: int) -> None:
    """On balanced classes equal to PyTorch's, which takes one logit per class."""
    labels = torch.tensor([1, 0, 2, 1, 0, 2])[torch.arange(6) % 3 < max(2, num_logits)]
    logits = 3 * torch.randn(len(labels), num_logits, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.zeros_like(logits), logits], dim=1) if num_logits == 1 else logits
    loss = TrainingLoss(labels, 0.2, "none")
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(both, labels, label_smoothing=0.2))
    assert torch.equal(TrainingLoss(labels, 0.0, "none")(logits, labels), losses(logits, labels).mean())


def test_smoothing_does_not_prefer_rare_classes() -> None:
    """Where p(class) / share decides, a smoothed network without knowledge prefers no class, and no absent one."""
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    logits = torch.zeros(1, 4, requires_grad=True)
    loss, optimizer = TrainingLoss(labels, 0.3, "none"), torch.optim.Adam([logits], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        loss(logits.expand(100, 4), labels).backward()
        optimizer.step()
    assert logits.softmax(dim=1)[0].tolist() == pytest.approx([0.9, 0.09, 0.01, 0.0], abs=0.002)


def test_the_recorded_losses_are_not_smoothed() -> None:
    """One step: the loss is computed before the weights change, so it is that of training without smoothing."""
    config = replace(CONFIG, epochs=1, batch_size=10)
    plain, smoothed = trained(3, config), trained(3, replace(config, label_smoothing=0.3))
    assert plain.history[0].train_loss == smoothed.history[0].train_loss
    assert plain.history[0].valid_loss != smoothed.history[0].valid_loss


def test_classes_without_training_samples_do_not_choose_the_epoch() -> None:
    """Their loss only says how sure the network is of the classes that it knows."""
    three = replace(SIZES, num_logits=3)
    train, validation = RandomInputs(1), RandomInputs(2)
    validation.labels = torch.tensor([2, 2, 2, 2, 2, 0, 1, 0, 1, 0])
    network = loop.seeded_build(lambda: networks.build("rgb", three), 3)
    state = loop.fit(
        network, train, validation, config=CONFIG, seed=3, device=CPU, on_epoch=lambda state: None
    )
    logits = inference.predict(network, validation, 4, CPU)
    assert state.history[-1].valid_loss == pytest.approx(
        mean_loss(logits[5:], validation.labels[5:]), abs=1e-6
    )


def test_subsample() -> None:
    """Whole scenes, the same share of each stratum of classes, nested, by the seed alone."""
    scenes = [("twins", 0), ("twins", 1), ("single", 0)]
    groups = [
        CachedGroup("train", f"{kind}-{number}-{label}", f"{kind}-{number}", label, 9, 20.0)
        for number in range(20)
        for kind, label in scenes
    ]
    whole, half, quarter = (subsample.draw(groups, share, seed=51) for share in (1.0, 0.5, 0.25))
    assert whole == list(range(60))
    assert set(quarter) < set(half) and (len(half), len(quarter)) == (30, 15)
    drawn = [groups[position].scene for position in half]
    assert all(drawn.count(scene) == (2 if scene.startswith("twins") else 1) for scene in drawn)
    assert subsample.draw(groups, 0.5, seed=51) == half != subsample.draw(groups, 0.5, seed=52)
    assert len({groups[position].label for position in subsample.draw(groups, 0.001, seed=51)}) == 2


def test_training_on_a_subsample() -> None:
    """It sees these samples and no others, in the order of its seed."""
    inputs = RandomInputs(1)
    part = Subsample(inputs, [1, 4, 6, 7])
    assert part.labels.tolist() == [1, 0, 0, 1] and len(part) == 4
    network = loop.seeded_build(lambda: networks.build("rgb", SIZES), 3)
    loop.fit(network, part, RandomInputs(2), config=CONFIG, seed=3, device=CPU, on_epoch=lambda state: None)
    assert {index for batch in inputs.batches for index in batch} == {1, 4, 6, 7}
    assert sum(map(len, inputs.batches)) == CONFIG.epochs * 4


def test_dropping_a_sensor_from_cached_logits() -> None:
    """A dropped sample gets the logits of the missing sensor; flips and shifts do not apply."""
    absent = (torch.tensor([7.0]), torch.tensor([-7.0]))
    logits = CachedLogits(torch.ones(64, 1), torch.full((64, 1), 2.0), torch.zeros(64, dtype=int), absent)
    draws = augmentation.draw(Augmentation("none", 0, 0.5), 64, torch.Generator().manual_seed(0))
    rgb, lidar = augmentation.apply(logits.batch(range(64)), draws, logits.absent())
    assert torch.equal(rgb[:, 0] == 7, draws.drop_rgb) and torch.equal(lidar[:, 0] == -7, draws.drop_lidar)
    assert (rgb[~draws.drop_rgb] == 1).all() and (lidar[~draws.drop_lidar] == 2).all()
    assert 10 < int((draws.drop_rgb | draws.drop_lidar).sum()) < 54


def test_patience() -> None:
    config = replace(CONFIG, epochs=50, learning_rate=0.1, schedule="constant", patience=2)
    state = trained(3, config)
    losses = [epoch.valid_loss for epoch in state.history]
    assert len(losses) < 50 and len(losses) == state.best_epoch + 2
    assert losses[state.best_epoch - 1] == min(losses)


def test_class_weights() -> None:
    labels = torch.tensor([0, 0, 0, 2])
    assert class_weights(labels, 3, "none").tolist() == [1, 1, 1]
    weights = class_weights(labels, 3, "balanced")
    assert weights.tolist() == pytest.approx([2 / 3, 0, 2])
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_slow_bfloat16_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, from a measurement; training continues."""
    started_s = time.monotonic()
    assert devices.bfloat16_ratio() > 0
    # Less than a second on an idle machine; but tests run in parallel.
    assert time.monotonic() - started_s < 10
    for ratio, lines in ((3.4, 1), (0.6, 0)):
        monkeypatch.setattr(devices, "bfloat16_ratio", lambda ratio=ratio: ratio)
        devices.warn_if_slow("bfloat16", CPU)
        output = capsys.readouterr().err.splitlines()
        assert len(output) == lines
    devices.warn_if_slow("float32", CPU)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(devices, "bfloat16_ratio", lambda: 3.4)
    devices.warn_if_slow("bfloat16", CPU)
    output = capsys.readouterr().err
    assert "train.precision is bfloat16" in output and "3.4 times" in output


def test_workers() -> None:
    train = params.load(ROOT / "params.yaml").train
    manifest = made_up_manifest((), {}, {})

    def count(setting: int | str, num_seeds: int, device: str = "cpu") -> int:
        changed = replace(train, workers=setting)
        return parallel.choose_workers(changed, num_seeds, torch.device(device), manifest).count

    assert count("auto", 1) == 1
    assert count("auto", 1000) == len(os.sched_getaffinity(0))
    assert count(3, 8) == count(3, 8, "cuda") == 3
    assert count(8, 2) == 2
    with pytest.raises(UserError, match=r"train\.scheduler"):
        parallel.choose_workers(replace(train, backend="dask"), 1, CPU, manifest)


@pytest.mark.parametrize(
    ("free", "data", "seeds"),
    [
        (140, 0.1, 4),
        (12.4, 0.1, 4),
        (12.3, 0.1, 3),
        (7, 0.1, 2),
        (24, 9, 2),
        (5, 0.1, 1),
        (1, 9, 1),
        (0, 0, 1),
    ],
)
def test_seeds_at_once_on_a_gpu(free: float, data: float, seeds: int) -> None:
    """Free memory and data in GiB."""
    assert parallel.seeds_on_cuda(int(free * 2**30), int(data * 2**30)) == seeds
