"""Runs `python -m scripts.explore`."""

from __future__ import annotations

from scripts import explore
from stages.lib.core import console

if __name__ == "__main__":
    console.run(explore.main)
