"""Runs `python -m scripts.studies`."""

from __future__ import annotations

from scripts.studies import command
from stages.lib.core import console

if __name__ == "__main__":
    console.run(command.main)
