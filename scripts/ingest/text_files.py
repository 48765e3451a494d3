"""Reads small text files."""

from __future__ import annotations

from pathlib import Path

from stages.lib.core.errors import UserError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        UserError: when it is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise UserError(f"{path}: unreadable file ({reason})") from None
