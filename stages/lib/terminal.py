"""How a stage meets its user: one-line errors, an orderly stop, progress."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


def is_interactive() -> bool:
    """Whether somebody sees a progress bar."""
    return sys.stderr.isatty()


@contextmanager
def timed(label: str) -> Iterator[None]:
    """Tells at the end how long a step took that has no progress to show."""
    start_s = time.perf_counter()
    yield
    report_line(f"{label}: {time.perf_counter() - start_s:.1f} s")


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """Iterates with a progress bar; where the output is no terminal, one line at the end."""
    interactive = is_interactive()
    start_s = time.perf_counter()
    bar = tqdm(items, desc=label, total=total, unit=f" {unit}", disable=not interactive)
    count = 0
    for item in bar:
        yield item
        count += 1
    if not interactive:
        report_line(f"{label}: {count:,} {unit} in {time.perf_counter() - start_s:.1f} s")


class EpochProgress:
    """Progress of several training runs at once: one bar with the latest losses.

    Runs in other processes tell each finished epoch through `tell`, which can be pickled; a thread of
    this process draws. Where the output is no terminal, each epoch is a line.
    """

    def __init__(self, label: str, total_epochs: int) -> None:
        self._label = label
        self._interactive = is_interactive()
        self._bar = tqdm(desc=label, total=total_epochs, unit=" epochs", disable=not self._interactive)
        self._manager = multiprocessing.Manager()
        self._queue = self._manager.Queue()
        self._drawer = threading.Thread(target=self._draw, daemon=True)

    @property
    def tell(self) -> Callable[[str], None]:
        """Takes a text on each epoch that is done."""
        return self._queue.put

    def __enter__(self) -> EpochProgress:
        self._drawer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._drawer.join()
        self._bar.close()
        self._manager.shutdown()

    def _draw(self) -> None:
        while (text := self._queue.get()) is not None:
            if self._interactive:
                self._bar.update()
                self._bar.set_postfix_str(text)
            else:
                report_line(f"{self._label}: {text}")


def report_line(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def single_argument(arguments: list[str], meaning: str) -> str:
    """The one argument of a command line; raises UserError when there is none or more."""
    if len(arguments) != 2:
        raise UserError(f"expected one argument: {meaning}")
    return arguments[1]


def require_choice(name: str, choices: list[str], what: str) -> None:
    """Raises UserError, with the choices, unless the name is one of them."""
    if name not in choices:
        raise UserError(f"unknown {what} '{name}'; params.yaml lists {', '.join(choices)}")
