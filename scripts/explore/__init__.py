"""Opens the FiftyOne App on the user's dataset with the results of all models.

    python -m scripts.explore [--port N] [--address A] [--no-launch] [--save FOLDER]

Reads the dataset's folder, data/tensors, reports/predictions and models/. Writes .fiftyone/app/: a copy of the
dataset in a database of this folder, pictures and point clouds. The user's files and FiftyOne's own database do not
change. If nothing has changed since the last start, it opens the copy as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from scripts.explore import fingerprint, server
from scripts.ingest import output
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.datasets import database
from stages.lib.tensors import manifest as manifests

FOLDER = Path(".fiftyone/app")
NAME = "fusion-comparison"
PORT = 5151


def main(arguments: Sequence[str] = ()) -> None:
    options = parse_arguments(arguments)
    settings = params.load()
    manifest = manifests.load(manifests.FOLDER)
    current = fingerprint.of_inputs(settings)
    if options.save is not None:
        output.require_new(options.save)
    with only_one_open():
        if options.launch:
            server.require_free(options.address, options.port)
        name = dataset_name()
        database.keep_data(FOLDER / "database")
        dataset = up_to_date(name, current)
        if dataset is None:
            from scripts.explore import build  # imports PyTorch, which a second start does not need

            dataset = build.build(name, settings, manifest, current, FOLDER / "media" / manifest.digest[:16])
        if options.save is not None:
            save(dataset, options.save)
        if options.launch:
            launch(options.address, options.port, name)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(
            f"{message}; usage: python -m scripts.explore [--port N] [--address A] [--no-launch] [--save FOLDER]"
        )


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line.

    Raises:
        UserError: when one is unknown, or has a wrong value.
    """
    parser = _Parser(prog="python -m scripts.explore", description="Opens the FiftyOne App on all results.")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the App, {PORT} by default")
    parser.add_argument(
        "--address", default="127.0.0.1", help="of the App; 0.0.0.0 opens it to other machines"
    )
    parser.add_argument("--no-launch", dest="launch", action="store_false", help="builds the dataset only")
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="also exports it as a FiftyOneDataset folder"
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.port <= 65535:
        raise UserError(f"--port {options.port}: a port is a number from 1 to 65535")
    return options


@contextmanager
def only_one_open() -> Iterator[None]:
    """Holds the lock of this folder's App.

    Raises:
        UserError: when another process holds it.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "open").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(f"the App is open already: {lock.read().strip()}; close it first") from None
        note(f"process {os.getpid()}")
        yield


def note(text: str) -> None:
    """Writes what the next process will say if it finds the App open."""
    (FOLDER / "open").write_text(text)


def dataset_name() -> str:
    """The dataset's name; on a server that the user has named, it may not be that of another folder's dataset."""
    if not os.environ.get("FIFTYONE_DATABASE_URI"):
        return NAME
    return f"{NAME}-{hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8]}"


def up_to_date(name: str, current: str) -> Any | None:
    """The dataset, if it was built from the same inputs."""
    fo = database.connect()
    if not fo.dataset_exists(name):
        return None
    dataset = fo.load_dataset(name)
    return dataset if dataset.info.get(fingerprint.KEY) == current else None


def save(dataset: Any, folder: Path) -> None:
    """Exports the dataset as a FiftyOneDataset folder, whose name appears only when it is complete."""
    fo = database.connect()
    with output.new_folder(folder) as unfinished:
        dataset.export(export_dir=str(unfinished), dataset_type=fo.types.FiftyOneDataset, export_media=False)
    print(f"wrote {folder}")


def launch(address: str, port: int, name: str) -> None:
    """Starts the App and waits until the user ends it."""
    with server.started(address, port, name, FOLDER / "server.log") as running:
        note(f"{running.url}, process {os.getpid()}")
        print(f"the App is at {running.url} (Ctrl-C ends it)", flush=True)
        server.open_browser(running.url)
        server.wait_for_end(running)
