"""A trained model that takes measurements: an image and a raster in, probabilities out.

It contains everything that training fitted or fixed: normalisation, orientation, the networks of one or several
seeds, and the temperature of each.

B = batch;  C = colour channels;  S = side in pixels;  c = channels of one sensor;  Z = seeds
K = logits: 1 for two classes, else one per class;  L = classes
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from stages.lib.core.names import SENSORS
from stages.lib.lidar import geometry
from stages.lib.tensors import split
from stages.lib.tensors.manifest import Manifest

# In place of the logarithm of a class share of zero: larger than any logit.
_NEVER = 1e9


class DeployedModel(nn.Module):
    """The networks of one or several seeds with their normalisation and calibration; probabilities are means.

    Args:
        networks: of each seed, in evaluation mode.
        manifest: of the data that the networks were trained on.
        temperatures: of each seed; logits are divided by it.
    """

    rgb_mean: Float[Tensor, "C"]
    rgb_std: Float[Tensor, "C"]
    lidar_mean: Float[Tensor, "4"]
    lidar_std: Float[Tensor, "4"]
    temperatures: Float[Tensor, "Z"]
    log_shares: Float[Tensor, "K"]

    def __init__(
        self, networks: Sequence[nn.Module], manifest: Manifest, temperatures: Sequence[float]
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._normalized = manifest.normalized
        self._turn = turn_of(manifest.orientation)
        for sensor in SENSORS:
            values = manifest.statistics[sensor]
            self.register_buffer(f"{sensor}_mean", torch.tensor(values.mean))
            self.register_buffer(f"{sensor}_std", torch.tensor(values.std))
        # In 64 bits, in which the evaluation decides, too.
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float64))
        self.register_buffer("log_shares", _log_shares(manifest))

    def forward(
        self, rgb: UInt8[Tensor, "B C S S"], xyza: Float[Tensor, "B 4 S S"]
    ) -> tuple[Float[Tensor, "B L"], Int[Tensor, "B"]]:
        """Calibrated probabilities, and the class decided for.

        Args:
            rgb: images.
            xyza: rasters as the dataset has them, before the turn onto the image: x, y, z in metres, a > 0 at
                returns.
        """
        logits = self.logits(rgb, xyza)
        return self.probabilities(logits).mean(dim=0), self.scores(logits).argmax(dim=1)

    def logits(self, rgb: UInt8[Tensor, "B C S S"], xyza: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "Z B K"]:
        """Logits by seed, not calibrated; the arguments are those of `forward`."""
        inputs = (self.network_input("rgb", rgb), self.network_input("lidar", self.turned(xyza)))
        return torch.stack([network(*inputs) for network in self.networks])

    def turned(self, xyza: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B 4 S S"]:
        """The raster as it covers its image; cells without return are zero, whatever they held."""
        returned = xyza[:, 3:] > 0
        raster = torch.cat([torch.where(returned, xyza[:, :3], 0.0), returned.to(xyza.dtype)], dim=1)
        is_transposed, flipped = self._turn
        if is_transposed:
            raster = raster.transpose(-2, -1)
        return raster.flip(flipped) if flipped else raster

    def network_input(self, sensor: str, measured: Tensor) -> Float[Tensor, "B c S S"]:
        """What the networks see of images of 8 bits, or of rasters in metres that cover their images."""
        data = measured.float() / 255 if sensor == "rgb" else measured
        if not self._normalized:
            return data
        if sensor == "lidar":
            data = split.centered(data)
        return split.standardized(data, getattr(self, f"{sensor}_mean"), getattr(self, f"{sensor}_std"))

    def probabilities(self, logits: Float[Tensor, "Z B K"]) -> Float[Tensor, "Z B L"]:
        """Calibrated probabilities by seed."""
        return _softmax(self._scaled(logits))

    def scores(self, logits: Float[Tensor, "Z B K"]) -> Float[Tensor, "B L"]:
        """Probabilities for classes that are all equally frequent, mean over seeds.

        The highest one is the decision. With one seed it is that of the evaluation, whose balanced accuracy weighs
        all classes alike: a temperature does not change which class is the most probable one.
        """
        return _softmax(self._scaled(logits - self.log_shares.to(logits.dtype))).mean(dim=0)

    def _scaled(self, logits: Float[Tensor, "Z B K"]) -> Float[Tensor, "Z B K"]:
        return logits / self.temperatures.to(logits.dtype).view(-1, 1, 1)


def turn_of(orientation: str) -> tuple[bool, list[int]]:
    """The turn as a transposition, or none, and then flips of these axes (-2: rows, -1: columns)."""
    probe = torch.arange(4).reshape(2, 2)
    wanted = geometry.ORIENTATIONS[orientation](probe.numpy())
    for is_transposed, flips in itertools.product((False, True), ([], [-2], [-1], [-2, -1])):
        if np.array_equal((probe.T if is_transposed else probe).flip(flips).numpy(), wanted):
            return is_transposed, flips
    raise AssertionError(f"{orientation} is no turn of a raster")


def turned_back(rasters: Float[Tensor, "B 4 S S"], orientation: str) -> Float[Tensor, "B 4 S S"]:
    """Rasters of the cache as the dataset has them."""
    is_transposed, flips = turn_of(orientation)
    rasters = rasters.flip(flips) if flips else rasters
    return rasters.transpose(-2, -1).contiguous() if is_transposed else rasters


def _log_shares(manifest: Manifest) -> Float[Tensor, "K"]:
    """What decisions subtract from logits: the logarithm of each class's share of the training split."""
    shares = torch.from_numpy(manifest.class_shares)
    log_shares = torch.where(shares > 0, shares.clamp(min=1e-300).log(), _NEVER)
    return log_shares[1:] - log_shares[:1] if manifest.num_logits == 1 else log_shares


def _softmax(logits: Float[Tensor, "Z B K"]) -> Float[Tensor, "Z B L"]:
    if logits.shape[-1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=-1)
    return logits.softmax(dim=-1)
