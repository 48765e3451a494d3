"""Command lines with options, whose errors have one line."""

from __future__ import annotations

import argparse

from stages.lib.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError, where the library's own prints the usage and exits."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; {self.prog} --help lists the options")
