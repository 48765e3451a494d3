"""Installs a MongoDB server for FiftyOne if there is none; `make setup` runs it.

python -m scripts.install_mongodb
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.lib.core import console
from stages.lib.datasets import database


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    database.install_server()


if __name__ == "__main__":
    console.run(main)
