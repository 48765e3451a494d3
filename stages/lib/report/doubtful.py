"""What is doubtful about the data: near copies across splits, and labels that may be wrong."""

from __future__ import annotations

from stages.lib.comparison.results import Comparison, LabelError
from stages.lib.report import format
from stages.lib.report.tables import Column, markdown
from stages.lib.tensors.manifest import Manifest, NearCopy

MOST_PAIRS = 20  # in the table of near copies


def near_copies_table(manifest: Manifest) -> str:
    """The closest near copies; empty if there are none."""
    if not manifest.near_copies:
        return ""
    columns: list[Column[NearCopy]] = [
        Column("Group", lambda pair: format.escaped(pair.group)),
        Column("Split", lambda pair: pair.split),
        Column("Near copy", lambda pair: format.escaped(pair.other_group)),
        Column("Its split", lambda pair: pair.other_split),
        Column("Distance of the pictures", lambda pair: format.number(pair.picture_distance, 3)),
        Column("Of the scans", lambda pair: format.number(pair.raster_distance, 3)),
    ]
    return markdown(manifest.near_copies[:MOST_PAIRS], columns)


def near_copy_counts(manifest: Manifest) -> str:
    """How many groups have a near copy, and where."""
    return "; ".join(
        f"{format.plural(count, f'{split} group')} with a near copy in the {other} split"
        for split, others in manifest.near_copy_counts.items()
        for other, count in others.items()
    )


def labels_table(compared: Comparison) -> str:
    """The likeliest label errors; empty if there are none."""
    if not compared.label_errors:
        return ""
    columns: list[Column[LabelError]] = [
        Column("Group", lambda error: format.escaped(error.group)),
        Column("Split", lambda error: error.split),
        Column("Label", lambda error: format.escaped(error.label)),
        Column("The nets' class", lambda error: format.escaped(error.suggested)),
        Column("Mistakenness", lambda error: format.number(error.mistakenness, 3)),
        Column("Nets that agree", lambda error: f"{error.agree} of {error.nets}"),
    ]
    return markdown(compared.label_errors, columns)


def label_checks(compared: Comparison) -> list[str]:
    """For each split, which nets judged its labels, and how many labels may be wrong."""
    told = []
    for split, checked in compared.label_checks.items():
        if checked.nets:
            judges = f"{checked.nets} of {checked.trained} nets are right often enough to judge"
            found = format.plural(checked.found, "label") if checked.found else "no label"
            told.append(f"{split}: {judges}; they doubt {found}")
        else:
            told.append(
                f"{split}: no label was judged, because none of {checked.trained} nets is right often enough"
            )
    return told


def num_doubtful_labels(compared: Comparison) -> int:
    return sum(checked.found for checked in compared.label_checks.values())
