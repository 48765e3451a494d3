"""The training loop: exact repetition, the best epoch, per-sample losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stages.lib import networks, runs, training
from stages.lib.networks import Architecture
from stages.lib.training import CachedLogits, Recipe

CPU = torch.device("cpu")
SIZES = Architecture(4, 4, 16, 1, (4, 4, 4), (4, 4, 4), (8, 4), 10)
RECIPE = Recipe(epochs=3, batch_size=4, learning_rate=0.01, schedule="one-cycle", precision="float32")


class RandomInputs:
    """Pictures and rasters without meaning; 10 samples, so that the last batch of 4 is short."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._rgb = torch.rand(10, 4, 16, 16, generator=generator)
        self._lidar = torch.rand(10, 4, 16, 16, generator=generator)
        self.labels = torch.arange(10) % 2
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return 10

    def batch(self, indices: list[int] | range) -> tuple[Tensor, Tensor]:
        self.asked.append(list(indices))
        return self._rgb[list(indices)], self._lidar[list(indices)]


def trained(seed: int, recipe: Recipe = RECIPE, name: str = "addition") -> training.Outcome:
    training.prepare_process(threads=1)
    network = training.seeded_build(lambda: networks.build(name, SIZES), seed)
    return training.fit(
        network,
        RandomInputs(1),
        RandomInputs(2),
        recipe=recipe,
        seed=seed,
        device=CPU,
        on_epoch=lambda epoch: None,
    )


@pytest.mark.parametrize("seed", [0, 51])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_same_bits(seed: int, precision: str) -> None:
    recipe = Recipe(**(vars(RECIPE) | {"precision": precision}))
    first, second = trained(seed, recipe), trained(seed, recipe)
    assert first.history == second.history
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name])


def test_another_seed_changes_weights_and_order() -> None:
    first, second = trained(0), trained(1)
    assert any(not torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    orders = []
    for seed in (0, 1):
        inputs = RandomInputs(1)
        network = training.seeded_build(lambda: networks.build("rgb", SIZES), 5)
        training.fit(
            network, inputs, RandomInputs(2), recipe=RECIPE, seed=seed, device=CPU, on_epoch=lambda e: None
        )
        orders.append(inputs.asked[:3])
    assert orders[0] != orders[1]
    assert sorted(index for indices in orders[0] for index in indices) == list(range(10)), (
        "an epoch is every sample once"
    )


def test_initial_weights_pair_by_seed() -> None:
    """Every strategy starts from the same encoders under the same seed."""
    nets = [
        training.seeded_build(lambda name=name: networks.build(name, SIZES), 7)
        for name in ("addition", "hadamard")
    ]
    for left, right in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(left, right)


def test_best_epoch_is_kept() -> None:
    outcome = trained(3, Recipe(**(vars(RECIPE) | {"epochs": 8, "learning_rate": 0.05})))
    losses = [epoch.valid_loss for epoch in outcome.history]
    assert outcome.best_epoch == losses.index(min(losses)) + 1
    network = networks.build("addition", SIZES)
    network.load_state_dict(outcome.weights)
    inputs = RandomInputs(2)
    logits = training.predict(network.to(memory_format=torch.channels_last), inputs, 4, CPU)
    assert float(training.loss(logits, inputs.labels)) == pytest.approx(min(losses), abs=1e-6)


def test_losses_are_means_per_sample() -> None:
    """A mean of batch means would weigh the last, short batch double."""
    inputs = CachedLogits(
        torch.zeros(5, 1), torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0]]), torch.zeros(5, dtype=int)
    )

    class Second(nn.Module):
        def forward(self, rgb: Tensor, lidar: Tensor) -> Tensor:
            return lidar

    logits = training.predict(Second(), inputs, batch_size=4, device=CPU)
    expected = (4 * math.log(2) + math.log1p(math.exp(5))) / 5
    assert float(training.loss(logits, inputs.labels)) == pytest.approx(expected)


def test_losses_equal_torchs() -> None:
    binary = torch.tensor([[0.5], [-1.0]])
    labels = torch.tensor([1, 0])
    assert torch.equal(training.loss(binary, labels), nn.BCEWithLogitsLoss()(binary[:, 0], labels.float()))
    three = torch.randn(2, 3)
    assert torch.equal(training.loss(three, labels), nn.CrossEntropyLoss()(three, labels))


def test_schedules() -> None:
    one_cycle = [training.learning_rate_at(step, 100, RECIPE) for step in range(100)]
    assert max(one_cycle) == pytest.approx(0.01, rel=0.05)
    assert one_cycle.index(max(one_cycle)) == 30
    assert one_cycle[0] < 0.001 and one_cycle[-1] < 0.0001
    constant = Recipe(**(vars(RECIPE) | {"schedule": "constant"}))
    assert {training.learning_rate_at(step, 100, constant) for step in range(100)} == {0.01}


def test_frozen_nets_stay_frozen() -> None:
    late = networks.build("late", SIZES)
    assert {name.split(".")[0] for name, weight in late.named_parameters() if weight.requires_grad} == {
        "fusion"
    }


def test_divergence_is_an_error() -> None:
    with pytest.raises(training.Diverged, match="in epoch 1"):
        trained(0, Recipe(**(vars(RECIPE) | {"learning_rate": 1e30, "schedule": "constant"})))


def test_workers() -> None:
    assert runs.num_workers("auto", 1, CPU) == 1
    assert runs.num_workers(3, 8, CPU) == 3
    assert runs.num_workers(8, 2, CPU) == 2
    assert runs.num_workers("auto", 8, torch.device("cuda")) == 1
