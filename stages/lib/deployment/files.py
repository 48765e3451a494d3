"""Files that appear only when they are complete: written beside their final place, and renamed at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.lib.core.errors import UserError


def require_place(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raises UserError unless a file can get this name."""
    if out.suffix not in suffixes:
        raise UserError(f"{out}: the file's name has to end with {' or '.join(suffixes)}")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """The file to write into. Only when the context ends without an error, it gets its final name `out`."""
    handle, name = tempfile.mkstemp(prefix=f".{out.name}-", suffix=out.suffix, dir=out.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o666 & ~_umask())  # as of a new file; a temporary one is private
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
