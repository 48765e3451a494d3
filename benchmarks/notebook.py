"""The notebook's training as a plain program: the reference of the benchmarks.

    python benchmarks/notebook.py DATASET [--epochs 2] [--threads 2]

Loads a FiftyOneDataset folder, trains the notebook's six models one after another and prints its table. It
works as the notebook does: it opens images with PIL each time they are needed; a DataLoader in the main process
makes batches of 32; tensors are contiguous float32; Adam is PyTorch's default; deterministic algorithms fill
new memory; late fusion runs both frozen networks in every epoch; validation keeps gradients and averages batch
means. The notebook's errors that change numbers but not times are left out: seeds are set before models are
built.

B = batch;  S = side in pixels
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/notebook.py` works as well
    sys.path.insert(0, str(ROOT))

from stages.lib.datasets import database

MODELS = ("rgb", "lidar", "concatenation", "addition", "hadamard", "late")
_SEED = 51
_BATCH_SIZE = 32
_LEARNING_RATE = 1e-4
_IMAGE_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    started = time.perf_counter()
    configure_torch(given.threads)
    train, validation = (load(given.dataset, tag) for tag in ("train", "validation"))
    rows = []
    nets: dict[str, nn.Module] = {}
    for name in MODELS:
        set_seeds(_SEED)
        nets[name] = build(name, nets)
        result = train_model(nets[name], train, validation, given.epochs)
        count = sum(weight.numel() for weight in nets[name].parameters()) / 1e6
        rows.append([name, min(result.valid_losses), count, np.mean(result.epoch_s)])
    print(tabulate(rows, ["Model", "Validation loss", "Parameters (M)", "Time / epoch (s)"], "github"))
    print(f"{time.perf_counter() - started:.1f} s in all")


def configure_torch(threads: int) -> None:
    """The notebook's settings of PyTorch."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # PyTorch's default


def set_seeds(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Samples(Dataset):
    """Images by path, rasters in memory."""

    def __init__(self, samples: list[tuple[str, np.ndarray, int]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "4 S S"], Float[Tensor, "4 S S"], Tensor]:
        path, raster, label = self._samples[index]
        image = Image.open(path).resize((_IMAGE_SIZE, _IMAGE_SIZE))
        rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255
        return rgb, torch.from_numpy(raster).float(), torch.tensor(label, dtype=torch.float32)


def load(folder: Path, tag: str) -> Samples:
    """The groups of a FiftyOneDataset that carry a tag."""
    fo = database.connect()
    dataset = fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset)
    view = dataset.match_tags(tag)
    classes = sorted(dataset.distinct("ground_truth.label"))
    samples = [
        (
            group["rgb"].filepath,
            group["lidar_img"].xyza.copy(),
            classes.index(group["rgb"].ground_truth.label),
        )
        for group in view.iter_groups()
    ]
    dataset.delete()
    return Samples(samples)


def encoder(channels: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((4, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def head(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(features, 1000),
        nn.ReLU(),
        nn.Linear(1000, 100),
        nn.ReLU(),
        nn.Linear(100, 1),
    )


class Unimodal(nn.Module):
    """One sensor's encoder and head."""

    def __init__(self, sensor: int) -> None:
        super().__init__()
        self.sensor = sensor
        self.layers = nn.Sequential(encoder((50, 100, 200)), head(200 * 8 * 8))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layers(inputs[self.sensor])


class Intermediate(nn.Module):
    """Two encoders, an operation that fuses their maps, and one head."""

    def __init__(self, fuse: Callable[[Tensor, Tensor], Tensor], channels: int) -> None:
        super().__init__()
        self.fuse = fuse
        self.rgb, self.lidar = encoder((25, 50, 100)), encoder((25, 50, 100))
        self.head = head(channels * 8 * 8)

    def forward(self, rgb: Tensor, lidar: Tensor) -> Tensor:
        return self.head(self.fuse(self.rgb(rgb), self.lidar(lidar)))


class Late(nn.Module):
    """Two trained nets, frozen, and a small head over their outputs."""

    def __init__(self, rgb: nn.Module, lidar: nn.Module) -> None:
        super().__init__()
        self.rgb, self.lidar = rgb.requires_grad_(False), lidar.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 1))

    def forward(self, rgb: Tensor, lidar: Tensor) -> Tensor:
        return self.head(torch.cat([self.rgb(rgb, lidar), self.lidar(rgb, lidar)], dim=1))


def build(name: str, trained: dict[str, nn.Module]) -> nn.Module:
    """A model of the notebook; late fusion needs the trained networks."""
    if name == "late":
        return Late(trained["rgb"], trained["lidar"])
    if name in ("rgb", "lidar"):
        return Unimodal(("rgb", "lidar").index(name))
    fuse, channels = {
        "concatenation": (lambda rgb, lidar: torch.cat([rgb, lidar], dim=1), 200),
        "addition": (torch.add, 100),
        "hadamard": (torch.mul, 100),
    }[name]
    return Intermediate(fuse, channels)


@dataclass(frozen=True)
class Result:
    """Validation loss and time of each epoch."""

    valid_losses: list[float]
    epoch_s: list[float]


def train_model(net: nn.Module, train: Samples, validation: Samples, epochs: int) -> Result:
    """The notebook's loop."""
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(
        [weight for weight in net.parameters() if weight.requires_grad], lr=_LEARNING_RATE
    )
    generator = torch.Generator().manual_seed(_SEED)
    train_loader = DataLoader(train, _BATCH_SIZE, shuffle=True, generator=generator)
    valid_loader = DataLoader(validation, _BATCH_SIZE)
    result = Result([], [])
    for _ in range(epochs):
        started = time.perf_counter()
        net.train()
        for rgb, lidar, label in train_loader:
            optimizer.zero_grad()
            loss = loss_function(net(rgb, lidar)[:, 0], label)
            loss.backward()
            optimizer.step()
        net.eval()
        valid_loss = 0.0
        for rgb, lidar, label in valid_loader:
            valid_loss += loss_function(net(rgb, lidar)[:, 0], label).item()
        result.valid_losses.append(valid_loss / len(valid_loader))
        result.epoch_s.append(time.perf_counter() - started)
    return result


if __name__ == "__main__":
    main()
