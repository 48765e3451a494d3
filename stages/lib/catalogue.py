"""All fusions as a list, and as the page docs/fusions.md, from their docstrings.

python -m stages.lib.catalogue    writes the page anew
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate

from stages.lib import fusions, networks, params, terminal
from stages.lib.fusions import Description
from stages.lib.networks import Architecture
from stages.lib.params import Network

PAGE = Path("docs/fusions.md")


@dataclass(frozen=True)
class Entry:
    """A fusion, and its network for the notebook's inputs and the widths of params.yaml."""

    name: str
    kind: str
    told: Description
    parameters: int  # of the whole network


def entries(network: Network) -> list[Entry]:
    """Every file of the folder, by kind."""
    sizes = Architecture(rgb_channels=4, lidar_channels=4, image_size=64, num_logits=1, **vars(network))
    with torch.device("meta"):
        return [
            Entry(
                name,
                kind,
                fusions.describe(name),
                networks.count_parameters(networks.build(name, sizes)),
            )
            for kind in fusions.KINDS
            for name in fusions.names(kind)
        ]


def listing(network: Network) -> str:
    """A table for the terminal."""
    rows = [
        [entry.name, entry.kind, f"{entry.parameters:,}", entry.told.parameters, entry.told.summary]
        for entry in entries(network)
    ]
    headers = ["name", "kind", "parameters", "its own", "computes"]
    widths = [None, None, None, 30, 60]
    return tabulate(rows, headers, "plain", maxcolwidths=widths, colalign=("left", "left", "right"))


def page(network: Network) -> str:
    """The page in markdown."""
    rows = [
        [f"[{entry.name}](#{entry.name})", entry.kind, f"`{entry.told.parameters}`", f"{entry.parameters:,}"]
        for entry in entries(network)
    ]
    table = tabulate(
        rows, ["Fusion", "Kind", "Its own parameters", "Network"], "github", disable_numparse=True
    )
    parts = [
        "# The fusions",
        "Written by `python -m stages.lib.catalogue` from the docstrings in `stages/lib/fusions/`; a name is used by "
        "listing it in params.yaml, under `late` if it is of that kind, else under `intermediate`.",
        table,
        "C: channels of one sensor's maps where they meet (100 in the notebook's networks); blocks: the channels "
        "after each block up to there; K: logits, one for two classes; h: `network.late_hidden`. The network's "
        "parameters are those for the notebook's inputs (two sensors of 4 channels, 64 x 64, two classes) and the "
        "widths of params.yaml; a late fusion's include both unimodal nets.",
    ]
    return "\n\n".join([*parts, *(_section(entry) for entry in entries(network))]) + "\n"


def _section(entry: Entry) -> str:
    told = entry.told
    facts = [f"Strength: {told.strength}", f"Limitation: {told.limitation}", f"Source: {told.source}"]
    lines = "\n".join(f"- {fact}" for fact in facts)
    return "\n\n".join([f"## {entry.name}", *told.paragraphs, lines])


def main() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(params.load().network))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    terminal.run(main)
