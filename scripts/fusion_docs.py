"""All fusions, from their docstrings: as the page docs/fusions.md, or as a list.

python -m scripts.fusion_docs    writes the page anew
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from stages.lib import fusions
from stages.lib.core import console
from stages.lib.fusions import Description
from stages.lib.models import networks
from stages.lib.models.architecture import Architecture
from stages.lib.params import Network

PAGE = Path("docs/fusions.md")
# So that the page does not change with params.yaml.
_NOTEBOOK = Architecture(
    rgb_channels=4,
    lidar_channels=4,
    image_size=64,
    num_logits=1,
    unimodal_channels=(50, 100, 200),
    intermediate_channels=(25, 50, 100),
    hidden=(1000, 100),
    late_hidden=10,
)


@dataclass(frozen=True)
class Entry:
    """A fusion, and the size of its network."""

    name: str
    kind: str
    told: Description
    parameters: int  # of the whole network


def entries(sizes: Architecture) -> list[Entry]:
    """Every file of the folder, by kind."""
    return [
        Entry(name, kind, fusions.describe(name), networks.count_parameters(networks.sketch(name, sizes)))
        for kind in fusions.KINDS
        for name in fusions.names(kind)
    ]


def listing(network: Network) -> str:
    """A table for the terminal; networks for the notebook's inputs and these widths."""
    sizes = replace(_NOTEBOOK, **vars(network))
    rows = [
        [entry.name, entry.kind, f"{entry.parameters:,}", entry.told.parameters, entry.told.formula]
        for entry in entries(sizes)
    ]
    headers = ["name", "kind", "parameters", "its own", "formula"]
    widths = [None, None, None, 30, 60]
    return tabulate(rows, headers, "plain", maxcolwidths=widths, colalign=("left", "left", "right"))


def page() -> str:
    """The page in markdown."""
    listed = entries(_NOTEBOOK)
    rows = [
        [f"[{entry.name}](#{entry.name})", entry.kind, f"`{entry.told.parameters}`", f"{entry.parameters:,}"]
        for entry in listed
    ]
    table = tabulate(
        rows, ["Fusion", "Kind", "Its own parameters", "Network"], "github", disable_numparse=True
    )
    parts = [
        "# The fusions",
        "Written by `python -m scripts.fusion_docs` from the docstrings in `stages/lib/fusions/`; a name is used by "
        "listing it in params.yaml, under `late` if it is of that kind, else under `intermediate`.",
        table,
        "In formulas, of one sample: C: channels of one sensor's maps where they meet (100 in the notebook's "
        "networks); H, W: height and width of the maps at hand; blocks: the channels after each block up to there; "
        "K: logits, one for two classes; h: `network.late_hidden`; [a, b]: one after the other; other letters with "
        "sizes in brackets: learned weights, multiplied as matrices where two stand side by side. The networks are "
        "the notebook's: two sensors of 4 channels, 64 x 64, two classes; a late fusion's parameters include both "
        "unimodal nets.",
    ]
    return "\n\n".join([*parts, *map(_section, listed)]) + "\n"


def _section(entry: Entry) -> str:
    told = entry.told
    facts = [
        f"Formula: `{told.formula}`",
        f"Strength: {told.strength}",
        f"Limitation: {told.limitation}",
        f"Source: {told.source}",
    ]
    lines = "\n".join(f"- {fact}" for fact in facts)
    return "\n\n".join([f"## {entry.name}", *told.paragraphs, lines])


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    console.run(main)
