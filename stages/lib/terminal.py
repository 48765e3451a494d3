"""How a stage meets its user: one-line errors, an orderly stop, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class UserError(Exception):
    """Something that the user can mend; its text names the thing, its place and the right choices."""


def run(main: Callable[[], None]) -> None:
    """Runs a stage's `main`; a user's error ends it with one line and exit code 1."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """Iterates with a progress bar; where the output is no terminal, one line at the end."""
    interactive = sys.stderr.isatty()
    bar = tqdm(items, desc=label, total=total, unit=f" {unit}", disable=not interactive)
    count = 0
    for item in bar:
        yield item
        count += 1
    if not interactive:
        print(f"{label}: {count:,} {unit}", file=sys.stderr)


def report_line(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def single_argument(arguments: list[str], meaning: str) -> str:
    """The one argument of a command line; raises UserError when there is none or more."""
    if len(arguments) != 2:
        raise UserError(f"expected one argument: {meaning}")
    return arguments[1]
