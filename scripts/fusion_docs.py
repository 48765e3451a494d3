"""Writes docs/fusions.md, the page about all fusions, from their docstrings and the report of `make zoo`.

python -m scripts.fusion_docs
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
ZOO_REPORT = Path("reports/zoo/report.md")
# The notebook's sizes, so that the page does not depend on params.yaml.
NOTEBOOK = Architecture(
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
    description: Description
    parameters: int  # of the whole network


def entries(sizes: Architecture) -> list[Entry]:
    """An entry for every fusion, by kind."""
    return [
        Entry(name, kind, fusions.describe(name), networks.count_parameters(networks.sketch(name, sizes)))
        for kind in fusions.KINDS
        for name in fusions.names(kind)
    ]


def listing(network: Network) -> str:
    """A table for the terminal, with the sizes of networks of these widths for the notebook's inputs."""
    sizes = replace(NOTEBOOK, **vars(network))
    rows = [
        [
            entry.name,
            entry.kind,
            f"{entry.parameters:,}",
            entry.description.parameters,
            entry.description.formula,
        ]
        for entry in entries(sizes)
    ]
    headers = ["name", "kind", "parameters", "its own", "formula"]
    widths = [None, None, None, 30, 60]
    return tabulate(rows, headers, "plain", maxcolwidths=widths, colalign=("left", "left", "right"))


def page(zoo_report: str) -> str:
    """The page in markdown.

    Args:
        zoo_report: the text of the report, whose first answer the page quotes.
    """
    listed = entries(NOTEBOOK)
    rows = [
        [
            f"[{entry.name}](#{entry.name})",
            entry.kind,
            f"`{entry.description.parameters}`",
            f"{entry.parameters:,}",
        ]
        for entry in listed
    ]
    table = tabulate(
        rows, ["Fusion", "Kind", "Its own parameters", "Network"], "github", disable_numparse=True
    )
    parts = [
        "# The fusions",
        "`python -m scripts.fusion_docs` writes this page from the docstrings in `stages/lib/fusions/`, and quotes "
        "the report of `make zoo`. To train a fusion, list its name in params.yaml: under `late` if it is of that "
        "kind, otherwise under `intermediate`.",
        table,
        "Formulas describe one sample. Their letters:",
        "- C: channels of one sensor's feature maps where they are fused (100 in the notebook's networks)\n"
        "- H, W: height and width of these maps\n"
        "- blocks: the channels after each block, up to the place of the fusion\n"
        "- K: logits, one for two classes\n"
        "- h: `network.late_hidden`\n"
        "- [a, b]: a and b, concatenated\n"
        "- other letters with sizes in brackets: learned weights; letters side by side: matrix product",
        "The column Network counts the parameters of the notebook's networks: two sensors of 4 channels, 64 x 64, "
        "two classes. Those of a late fusion include both unimodal nets.",
        "`make zoo` compares all of them on the built-in dataset. [Its report](../reports/zoo/report.md) says:",
        _quoted_answer(zoo_report),
        "![Balanced accuracy of every fusion, with 95% intervals over seeds and scenes]"
        "(../reports/zoo/figures/balanced_accuracy.png)",
    ]
    return "\n\n".join([*parts, *map(_section, listed)]) + "\n"


def _quoted_answer(report: str) -> str:
    """What the report says first: the reference, and how each other fusion compares with it."""
    answer = report.split("\n## The answer\n")[1]
    first = next(line for line in answer.splitlines() if line.startswith("- "))
    return f"> {first.removeprefix('- ')}"


def _section(entry: Entry) -> str:
    description = entry.description
    facts = [
        f"Formula: `{description.formula}`",
        f"Strength: {description.strength}",
        f"Limitation: {description.limitation}",
        f"Source: {description.source}",
    ]
    lines = "\n".join(f"- {fact}" for fact in facts)
    return "\n\n".join([f"## {entry.name}", *description.paragraphs, lines])


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(ZOO_REPORT.read_text()))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    console.run(main)
