"""Errors that a user can mend, and how their texts are cut to one line."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can mend; its text names the thing, its place and the right choices."""


def printable(text: object) -> str:
    """Text from a dataset in one line, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def shortened(text: object, limit: int = 80) -> str:
    """Text from a dataset, fit for one line of a message."""
    flat = printable(text)
    return flat if len(flat) <= limit else f"{flat[:limit]}..."


def first_line(error: Exception) -> str:
    """A library's exception, in one line of bearable length."""
    lines = str(error).splitlines() or [type(error).__name__]
    return shortened(lines[0], 200)


def require_short(texts: Iterable[str], what: str, limit: int = 1000) -> None:
    """Raises UserError when a label, scene or path is absurdly long."""
    for text in texts:
        if len(text) > limit:
            raise UserError(f"{what} of {len(text):,} characters: {shortened(text)}")
