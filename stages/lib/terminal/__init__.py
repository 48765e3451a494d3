"""How a stage meets its user: one-line errors, an orderly stop; in progress.py, how far it is.

Every stage imports this one first, so it imports nothing that takes time.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Sequence

from stages.lib.terminal import orphans

# Errors of the operating system that only mean that no more can be written.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """Something that the user can mend; its text names the thing, its place and the right choices."""


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a stage's `main` on the command line's arguments; a user's error ends it with one line and exit code 1."""
    orphans.end_with_dvc()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = error.strerror or "can hold no more"
        print(f"error: {error.filename or 'disk'}: {reason.lower()}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # The interpreter now waits for its helpers; Ctrl-C ends that at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_interactive() -> bool:
    """Whether somebody sees a progress bar."""
    return sys.stderr.isatty()


def report_line(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError when a command line that takes no arguments has some."""
    if arguments:
        raise UserError(f"expected no arguments, not {' '.join(arguments)}")


def single_argument(arguments: Sequence[str], meaning: str) -> str:
    """The one argument of a command line; raises UserError when there is none or more."""
    if len(arguments) != 1:
        raise UserError(f"expected one argument: {meaning}")
    return arguments[0]


def require_choice(name: str, choices: list[str], what: str) -> None:
    """Raises UserError, with the choices, unless the name is one of them."""
    if name not in choices:
        raise UserError(f"unknown {what} '{name}'; params.yaml lists {', '.join(choices)}")
