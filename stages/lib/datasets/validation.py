"""Errors and warnings about a dataset: collected during the whole export and shown together."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from stages.lib.core import errors
from stages.lib.core.errors import UserError

_EXAMPLES = 3  # groups that a warning names
_MOST_ERRORS = 20  # lines shown for one kind of error
_DOMINANT_SHARE = 0.8  # of the training groups; a class with at least this share gets a warning


WARNINGS = {
    "empty": "scans without any return",
    "constant": "images of a single colour",
    "out_of_range": "scans with returns farther away than dataset.lidar.max_range_m",
    "repeated": "groups that repeat an image or scan of the same split",
}


class DataChecks:
    """Collects the errors and warnings about a dataset."""

    def __init__(self, source: str, on_error: str) -> None:
        """`on_error`: "stop" makes errors end the export, "skip" leaves faulty groups out and counts them."""
        self._source = source
        self._on_error = on_error
        self._errors: dict[str, list[str]] = defaultdict(list)
        self._affected: dict[str, list[str]] = defaultdict(list)
        self._notes: list[str] = []
        self._contents: dict[str, tuple[str, str, str]] = {}

    def error(self, kind: str, message: str) -> None:
        """Notes an error of one group; the caller leaves the group out."""
        self._errors[kind].append(errors.printable(message))

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
                    f"{self._source}: {group} ({split}) and {other_group} ({other_split}) have the same {what}",
                )
                return False
            if other_label != label:
                self.error(
                    f"same {what} with two labels",
                    f"{self._source}: {group} ('{label}') and {other_group} ('{other_label}') have the same "
                    f"{what}",
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
        for kind, messages in self._errors.items():
            lines += messages[:_MOST_ERRORS]
            if len(messages) > _MOST_ERRORS:
                lines.append(f"{self._source}: {len(messages) - _MOST_ERRORS:,} more of this kind: {kind}")
        if len(lines) > 1:
            count = sum(map(len, self._errors.values()))
            lines.append(
                f"{self._source}: {count:,} errors in all; correct the dataset, or leave these groups out with "
                "export.on_error: skip"
            )
        raise UserError("\n".join(lines))

    def skipped(self) -> dict[str, int]:
        """Number of groups with errors, by kind of error."""
        return {kind: len(messages) for kind, messages in self._errors.items()}

    def warnings(self) -> list[str]:
        """All warnings as sentences without a full stop."""
        sentences = [
            f"left out {len(messages):,}: {kind} (first: {messages[0]})"
            for kind, messages in self._errors.items()
        ]
        for kind, text in WARNINGS.items():
            groups = self._affected[kind]
            if groups:
                some = ", ".join(groups[:_EXAMPLES]) + (", ..." if len(groups) > _EXAMPLES else "")
                sentences.append(f"{len(groups):,} {text} ({some})")
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


def prior_loss(counts: dict[str, int]) -> float:
    """Cross-entropy in nats of a constant prediction: the class frequencies of the data itself."""
    shares = np.array([count for count in counts.values() if count]) / sum(counts.values())
    return float(-(shares * np.log(shares)).sum())
