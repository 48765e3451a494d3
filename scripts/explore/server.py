"""The App's server: starts it on a free port, waits until it answers, and ends it with this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import quote

from stages.lib.core.errors import UserError, shortened
from stages.lib.datasets import database

_STARTS_WITHIN_S = 120.0
_LOOKS_EVERY_S = 0.5


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str  # of the dataset
    process: subprocess.Popen[bytes]


def require_free(address: str, port: int) -> None:
    """Raises UserError when something listens on the port, or this machine does not have the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or not _is_own(address):
                raise UserError(f"--address {address}: no address of this machine") from None
            raise UserError(
                f"port {port} of {address} is in use or not allowed ({(error.strerror or '').lower()}); "
                f"name another one with --port"
            ) from None


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


@contextmanager
def started(address: str, port: int, dataset: str, log: Path) -> Iterator[Server]:
    """Starts the server, and yields it once it answers. It ends with the context.

    Raises:
        UserError: when the server ends, or does not answer in time.
    """
    shown = "localhost" if address in ("0.0.0.0", "127.0.0.1", "::") else address
    root = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fiftyone.server.main", "--address", address, "--port", str(port)],
            env=os.environ | {"FIFTYONE_SERVER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches this process alone
            preexec_fn=database.end_with_parent,
        )
    try:
        _wait_until_answers(process, root, log)
        yield Server(f"{root}/datasets/{quote(dataset)}", process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_answers(process: subprocess.Popen[bytes], root: str, log: Path) -> None:
    deadline_s = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(root, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    last = log.read_text(errors="replace").splitlines()[-1:]
    raise UserError(
        f"the App's server did not start: {shortened(''.join(last), 300)}; {log} has its messages"
    )


def open_browser(url: str) -> None:
    """Opens a browser where there is a display, and otherwise only says where the App is."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
    else:
        print("no display here; open the address in a browser", flush=True)


def wait_for_end(server: Server) -> None:
    """Returns when the user presses Ctrl-C or the process is asked to end.

    Raises:
        UserError: when the server ends before.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        while server.process.poll() is None:
            time.sleep(_LOOKS_EVERY_S)
        raise UserError("the App's server has ended; start the App again")
    except KeyboardInterrupt:
        print("the App has ended", flush=True)
