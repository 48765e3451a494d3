"""Errors and warnings about a dataset: collected during the whole export and shown together."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from stages.lib.core import errors
from stages.lib.core.errors import UserError

_EXAMPLES = 3  # groups that a warning or error names
_MOST_CAUSES = 20  # lines shown for one kind of error
_FEW_TRAINING_GROUPS, _FEW_TEST_SCENES = 200, 30  # smaller sets get a warning
_DOMINANT_SHARE = 0.8  # of the training groups; a class with at least this share gets a warning


# What was found in some groups: its name in the singular, and more about it.
WARNINGS = {
    "empty": ("scan", "without any return"),
    "constant": ("image", "of a single colour"),
    "out_of_range": ("scan", "with returns farther away than dataset.lidar.max_range_m"),
    "at_origin": (
        "scan",
        "with returns at x = y = z = 0 (channel a has to be 0 where there is no return)",
    ),
    "repeated": ("group", "with the image or scan of another group of the same split"),
}

# What differs between faults of one cause: paths, numbers and quoted names.
_DETAILS = re.compile(r"\S*/\S*|\d[\d,.]*|'[^']*'")


@dataclass(frozen=True)
class _Fault:
    """An error of one group."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.place else self.reason


def _one_line(faults: list[_Fault]) -> str:
    """The first fault of one cause, and how many others there are."""
    first, *others = faults
    if not others:
        return str(first)
    names = [fault.place or fault.reason for fault in others if fault.place != first.place]
    some = f", such as {', '.join(names[: _EXAMPLES - 1])}" if names else ""
    return f"{first} (and {len(others):,} more like this{some})"


class DataChecks:
    """Collects the errors and warnings about a dataset."""

    def __init__(self, source: str, on_error: str) -> None:
        """`on_error`: "stop" makes errors end the export, "skip" leaves faulty groups out and counts them."""
        self._source = source
        self._on_error = on_error
        self._errors: dict[str, dict[str, list[_Fault]]] = defaultdict(lambda: defaultdict(list))
        self._affected: dict[str, list[str]] = defaultdict(list)
        self._notes: list[str] = []
        self._contents: dict[str, tuple[str, str, str]] = {}

    def error(self, kind: str, place: str, reason: str) -> None:
        """Notes an error of one group; the caller leaves the group out.

        Args:
            place: the group or its file; empty where the reason names it.
        """
        fault = _Fault(errors.printable(place), errors.printable(reason))
        self._errors[kind][_DETAILS.sub("", fault.reason)].append(fault)

    def warn(self, kind: str, group: str) -> None:
        """Notes a warning about one group; `kind` is a key of WARNINGS."""
        self._affected[kind].append(errors.printable(group))

    def note(self, sentence: str) -> None:
        """Notes a warning about the dataset as a whole."""
        self._notes.append(sentence)

    def admit_content(self, hashes: dict[str, str], *, group: str, split: str, label: str) -> bool:
        """Compares a group's image and scan with those of all earlier groups; False when it must be left out.

        If the same content is in two splits, a model is tested on data that it was trained on. If the same content
        has two labels, one of them is wrong. Call this for the test split first: then the copy in the training split
        is left out.

        Args:
            hashes: digests by kind of content, "image" and "scan".
        """
        others = {what: self._contents.get(digest) for what, digest in hashes.items()}
        for what, other in others.items():
            if other is None:
                continue
            other_group, other_split, other_label = other
            if other_split != split:
                self.error(
                    f"same {what} in two splits",
                    self._source,
                    f"{group} ({split}) and {other_group} ({other_split}) have the same {what}",
                )
                return False
            if other_label != label:
                self.error(
                    f"same {what} with two labels",
                    self._source,
                    f"{group} ('{label}') and {other_group} ('{other_label}') have the same {what}",
                )
                return False
        if any(others.values()):
            self.warn("repeated", group)
        for digest in hashes.values():
            self._contents.setdefault(digest, (group, split, label))
        return True

    def raise_errors(self) -> None:
        """Raises all errors together, unless `on_error` is "skip".

        Raises:
            UserError: with one line for each error.
        """
        if self._on_error == "skip" or not self._errors:
            return
        lines = []
        for kind, causes in self._errors.items():
            lines += [_one_line(faults) for faults in list(causes.values())[:_MOST_CAUSES]]
            if len(causes) > _MOST_CAUSES:
                lines.append(
                    f"{self._source}: {len(causes) - _MOST_CAUSES:,} more causes of this kind: {kind}"
                )
        count = sum(self.skipped().values())
        if count > 1:
            lines.append(
                f"{self._source}: {count:,} errors in all; correct the dataset, or leave these groups out with "
                "export.on_error: skip"
            )
        raise UserError("\n".join(lines))

    def skipped(self) -> dict[str, int]:
        """Number of groups with errors, by kind of error."""
        return {kind: sum(map(len, causes.values())) for kind, causes in self._errors.items()}

    def warnings(self) -> list[str]:
        """All warnings as sentences without a full stop."""
        sentences = []
        for kind, causes in self._errors.items():
            some = "; ".join(str(faults[0]) for faults in list(causes.values())[:_EXAMPLES])
            sentences.append(f"left out {self.skipped()[kind]:,}: {kind} (first: {some})")
        for kind, (noun, text) in WARNINGS.items():
            groups = self._affected[kind]
            if groups:
                some = ", ".join(groups[:_EXAMPLES]) + (", ..." if len(groups) > _EXAMPLES else "")
                sentences.append(f"{len(groups):,} {noun}{'s' if len(groups) > 1 else ''} {text} ({some})")
        return [*self._notes, *sentences]


def imbalance(counts: dict[str, int]) -> str | None:
    """A warning when one class dominates the training split."""
    total = sum(counts.values())
    name, most = max(counts.items(), key=lambda item: item[1])
    if most / total < _DOMINANT_SHARE:
        return None
    return (
        f"{most / total:.0%} of the training groups are '{name}': to predict the class frequencies for every group "
        f"gives an accuracy of {most / total:.3f} and a loss of {prior_loss(counts):.3f}; read balanced accuracy"
    )


def small_sets(num_training_groups: int, num_test_scenes: int) -> list[str]:
    """Warnings about sets that are too small for what the report is asked."""
    found = []
    if num_training_groups < _FEW_TRAINING_GROUPS:
        found.append(
            f"only {num_training_groups:,} training groups (fewer than {_FEW_TRAINING_GROUPS}): networks learn "
            "little more than the class frequencies from so few, so do not expect one fusion to stand out; more data "
            "helps"
        )
    if num_test_scenes < _FEW_TEST_SCENES:
        found.append(
            f"only {num_test_scenes:,} test scenes (fewer than {_FEW_TEST_SCENES}): intervals will be wide, so do "
            "not expect small differences to be significant; more data helps, or a larger dataset.test_fraction "
            "where no group has the test tag"
        )
    return found


def similar_names(classes: list[str]) -> str | None:
    """A warning when two classes differ only in capitals or white space."""
    found: dict[str, str] = {}
    for name in classes:
        other = found.setdefault(" ".join(name.lower().split()), name)
        if other != name:
            return (
                f"classes '{other}' and '{name}' differ only in capitals or spaces, but count as two classes"
            )
    return None


def prior_loss(counts: dict[str, int]) -> float:
    """Cross-entropy in nats of a constant prediction: the class frequencies of the data itself."""
    shares = np.array([count for count in counts.values() if count]) / sum(counts.values())
    return float(-(shares * np.log(shares)).sum())
