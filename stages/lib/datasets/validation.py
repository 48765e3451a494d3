"""What can be wrong with a dataset: collected over the whole export and told at once."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from stages.lib.core import errors
from stages.lib.core.errors import UserError

_EXAMPLES = 3  # groups named in a warning
_MOST_ERRORS = 20  # lines shown of one kind of error
_COMMON_CLASS_SHARE = 0.8  # from here on a class is called dominant


WARNINGS = {
    "empty": "scans without any return",
    "constant": "pictures of one single colour",
    "out_of_range": "scans with returns farther away than dataset.lidar.max_range_m",
    "repeated": "groups that repeat a picture or scan of the same split",
}


class DataChecks:
    """Collects errors and warnings about a dataset, group by group."""

    def __init__(self, source: str, on_error: str) -> None:
        """`on_error`: "stop" ends the export at its end, "skip" leaves faulty groups out and counts them."""
        self._source = source
        self._on_error = on_error
        self._errors: dict[str, list[str]] = defaultdict(list)
        self._affected: dict[str, list[str]] = defaultdict(list)
        self._notes: list[str] = []
        self._contents: dict[str, tuple[str, str, str]] = {}

    def error(self, kind: str, message: str) -> None:
        """A fault of one group, which then has to be left out."""
        self._errors[kind].append(errors.printable(message))

    def warn(self, kind: str, group: str) -> None:
        """An oddity of one group, of a kind in WARNINGS."""
        self._affected[kind].append(errors.printable(group))

    def note(self, sentence: str) -> None:
        """A warning about the dataset as a whole."""
        self._notes.append(sentence)

    def admit_content(self, hashes: dict[str, str], *, group: str, split: str, label: str) -> bool:
        """Compares a group's picture and scan with all before it; False when it must be left out.

        The same content in two splits lets a model be tested on what it was trained on; the same
        content under two labels makes one of them wrong. Call it for the test split first, so that it
        is the training split that loses the copy.

        Args:
            hashes: of the group's contents, by what they are: "picture", "scan".
        """
        others = {what: self._contents.get(digest) for what, digest in hashes.items()}
        for what, other in others.items():
            if other is None:
                continue
            other_group, other_split, other_label = other
            if other_split != split:
                self.error(
                    f"same {what} in two splits",
                    f"{self._source}: {group} ({split}) and {other_group} ({other_split}) hold the same {what}",
                )
                return False
            if other_label != label:
                self.error(
                    f"same {what} with two labels",
                    f"{self._source}: {group} ('{label}') and {other_group} ('{other_label}') hold the same "
                    f"{what}",
                )
                return False
        if any(others.values()):
            self.warn("repeated", group)
        for digest in hashes.values():
            self._contents.setdefault(digest, (group, split, label))
        return True

    def raise_errors(self) -> None:
        """Raises all errors at once, unless faulty groups are to be skipped.

        Raises:
            UserError: with one line per error.
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
                f"{self._source}: {count:,} errors in all; mend the dataset, or leave the groups concerned "
                "out with export.on_error: skip"
            )
        raise UserError("\n".join(lines))

    def skipped(self) -> dict[str, int]:
        """How many groups were left out, by kind of error."""
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
    """A sentence when one class dominates the training split."""
    total = sum(counts.values())
    name, most = max(counts.items(), key=lambda item: item[1])
    if most / total < _COMMON_CLASS_SHARE:
        return None
    return (
        f"{most / total:.0%} of the training groups are '{name}': always guessing the class frequencies "
        f"gives an accuracy of {most / total:.3f} and a loss of {prior_loss(counts):.3f}; read balanced accuracy"
    )


def prior_loss(counts: dict[str, int]) -> float:
    """Cross-entropy in nats of always guessing these frequencies, on data that has them."""
    shares = np.array([count for count in counts.values() if count]) / sum(counts.values())
    return float(-(shares * np.log(shares)).sum())
