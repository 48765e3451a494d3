"""Command lines: errors in one line, a clean stop at Ctrl-C, progress as a bar on a terminal and as lines elsewhere.

Every stage imports this module first, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import errno
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from stages.lib.core import processes
from stages.lib.core.errors import UserError, printable_lines

# Errors of the operating system for a full disk, an exhausted quota and a file that is too large.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a stage's `main` with the command line's arguments; a UserError prints one line and exits with code 1."""
    processes.exit_with_dvc()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {printable_lines(error)}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = error.strerror or "is full"
        print(f"error: {error.filename or 'disk'}: {reason.lower()}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # The interpreter now waits for its worker processes; a second Ctrl-C ends it at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_interactive() -> bool:
    """Whether a progress bar can be shown: the output is a terminal."""
    return sys.stderr.isatty()


def report_line(text: str) -> None:
    """Prints one line of progress."""
    print(text, file=sys.stderr, flush=True)


def no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError if there are arguments."""
    if arguments:
        raise UserError(f"expected no arguments, not {' '.join(arguments)}")


def single_argument(arguments: Sequence[str], meaning: str) -> str:
    """The only argument of a command line; raises UserError if there is none, or more than one."""
    if len(arguments) != 1:
        raise UserError(f"expected one argument: {meaning}")
    return arguments[0]


def require_choice(name: str, choices: list[str], what: str) -> None:
    """Raises UserError, which lists the choices, unless the name is one of them."""
    if name not in choices:
        raise UserError(f"unknown {what} '{name}'; params.yaml lists {', '.join(choices)}")


T = TypeVar("T")

LINE_EVERY_S = 20  # seconds between two lines of progress of one seed, where the output is not a terminal


@contextmanager
def timed(label: str) -> Iterator[None]:
    """Prints at the end how many seconds a step took; for steps whose progress is unknown."""
    start_s = time.perf_counter()
    yield
    report_line(f"{label}: {time.perf_counter() - start_s:.1f} s")


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "item") -> Iterable[T]:
    """Iterates with a progress bar, or prints one line at the end where the output is not a terminal."""
    interactive = is_interactive()
    start_s = time.perf_counter()
    bar = tqdm(items, desc=label, total=total, unit=f" {unit}s", disable=not interactive)
    count = 0
    for item in bar:
        yield item
        count += 1
    if not interactive:
        units = unit if count == 1 else f"{unit}s"
        report_line(f"{label}: {count:,} {units} in {time.perf_counter() - start_s:.1f} s")
