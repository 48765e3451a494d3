"""The error class for mistakes that a user can correct, and functions that cut texts to one line."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct; its text names the thing, its place and the right choices."""


def printable(text: object) -> str:
    """Text from a dataset in one line, without the control characters that a terminal would execute."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def printable_lines(text: object) -> str:
    """As `printable`, but lines stay lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


def shortened(text: object, limit: int = 80) -> str:
    """Text from a dataset, cut so that it fits into one line of a message."""
    flat = printable(text)
    return flat if len(flat) <= limit else f"{flat[:limit]}..."


def first_line(error: Exception) -> str:
    """The first line of a library's exception, cut to 200 characters."""
    lines = str(error).splitlines() or [type(error).__name__]
    return shortened(lines[0], 200)


def require_short(texts: Iterable[str], what: str, limit: int = 1000) -> None:
    """Raises UserError when a label, scene or path is longer than the limit."""
    for text in texts:
        if len(text) > limit:
            raise UserError(
                f"{what} of {len(text):,} characters, at most {limit:,} are allowed: {shortened(text)}"
            )
