"""Runs `python -m scripts.ingest`."""

from __future__ import annotations

from scripts import ingest
from stages.lib.core import console

if __name__ == "__main__":
    console.run(ingest.main)
