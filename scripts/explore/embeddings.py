"""The features before a fusion's last layer, for the App's embeddings panel.

N = samples;  D = features
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scripts.explore.dataset_copy import Copy
from stages.lib.core import console
from stages.lib.models import checkpoints, devices, inference
from stages.lib.models.networks import FusionNet, LateNet
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest
from stages.lib.tensors.split import Split

_BATCH = 32  # samples that a CPU encodes at a time
MOST = 2000  # groups in the panel: more points hide each other, and each takes milliseconds


def chosen_groups(count: int) -> list[int]:
    """The groups that the panel shows, evenly spaced over all of them if there are too many."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int)).tolist()


def features(
    settings: Params, manifest: Manifest, splits: list[str], groups: list[int]
) -> Float[np.ndarray, "N D"]:
    """The features of the chosen fusion's first seed.

    Args:
        groups: their places in these splits, one split after the other.

    Raises:
        UserError: when there are no weights of that fusion.
    """
    name, seed = settings.fusion, settings.seeds[0]
    device = devices.choose(settings.train.device)
    devices.prepare_process(torch.get_num_threads())
    sizes = checkpoints.trained_architecture(name, seed)
    network = devices.place(checkpoints.load_network(name, seed, sizes), device)
    found, start = [], 0
    with console.timed(f"features of {name}, {len(groups):,} groups"):
        for split in splits:
            tensors = Split(manifests.FOLDER, manifest, split)
            rows = [group - start for group in groups if start <= group < start + len(tensors)]
            if rows:
                found.append(_penultimate(network, tensors, rows, device))
            start += len(tensors)
    return np.concatenate(found)


@torch.no_grad()
def _penultimate(
    network: FusionNet, split: Split, rows: list[int], device: torch.device
) -> Float[np.ndarray, "N D"]:
    """What enters the last layer; of a late fusion, what enters the last layers of its two networks.

    A late fusion itself sees only logits, which would show little more than the classes.
    """
    nets = [network.rgb_net, network.lidar_net] if isinstance(network, LateNet) else [network]
    kept: list[list[Tensor]] = [[] for _ in nets]

    def keep(place: int) -> Any:
        return lambda layer, inputs: kept[place].append(inputs[0].float().cpu())

    hooks = [net.head[-1].register_forward_pre_hook(keep(place)) for place, net in enumerate(nets)]
    for start in range(0, len(rows), _BATCH):
        rgb, lidar = (part.to(device) for part in split.batch(rows[start : start + _BATCH]))
        inference.forward(network, rgb, lidar, device, "float32")
    for hook in hooks:
        hook.remove()
    return torch.cat([torch.cat(batches) for batches in kept], dim=1).numpy()


def add_panel(copied: Copy, keys: list[str], vectors: Float[np.ndarray, "N D"], fusion: str) -> None:
    """Adds a map of the groups for the embeddings panel: UMAP where umap-learn is installed, otherwise PCA.

    Args:
        keys: of the groups.
        vectors: a row for each of them.
    """
    fob = importlib.import_module("fiftyone.brain")  # takes a second

    method = "umap" if importlib.util.find_spec("umap") else "pca"
    places = {copied.ids[key]: place for place, key in enumerate(keys)}
    dataset = copied.dataset
    group = dataset.group_field
    documents = dataset._sample_collection.find({f"{group}.name": copied.image_slice}, {group: 1})
    samples = {document["_id"]: places.get(document[group]["_id"]) for document in documents}
    chosen = {str(sample): place for sample, place in samples.items() if place is not None}
    view = dataset.select_group_slices(copied.image_slice).select(list(chosen), ordered=True)
    fob.compute_visualization(
        view,
        embeddings=vectors[list(chosen.values())],
        method=method,
        brain_key=f"{fusion}_features",
        num_dims=2,
        seed=51,
        verbose=False,
    )
