"""The real App: its server over HTTP, a second start, an App that is open already, and a real browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from support import browser
from support.processes import end, family, start
from support.project import Project, as_user, clone_of

VIEWS = [
    "All fusions wrong",
    "Fusions disagree",
    "Only one fusion right",
    "Only RGB right",
    "Only LiDAR right",
    "Likely label errors",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class App:
    """A running App, started as a user starts it."""

    def __init__(self, project: Project, port: int) -> None:
        (project.folder / "home").mkdir(exist_ok=True)
        options = as_user(project.folder)
        # No display, and a home of its own, to see what the App leaves there.
        options["env"] = {name: value for name, value in options["env"].items() if "DISPLAY" not in name}
        options["env"]["HOME"] = str(project.folder / "home")
        command = ["python", "-m", "scripts.explore", "--port", str(port)]
        self.process = start(project, command, **options)
        self.lines: list[str] = []
        while not (found := re.match(r"the App is at (\S+) ", self.lines[-1] if self.lines else "")):
            line = self.process.stdout.readline()
            assert line, "".join(self.lines)
            self.lines.append(line)
        self.url = found[1]

    def end(self) -> None:
        """Ends it by Ctrl-C and waits until nothing of it runs any more."""
        members = family(self.process)
        commands = [" ".join(member.cmdline()) for member in members]
        for part in ("scripts.explore", "mongod", "fiftyone.server.main"):
            assert any(part in command for command in commands), commands
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0 and "Traceback" not in output, output
        _, alive = psutil.wait_procs(members, timeout=20)
        assert not alive


@pytest.fixture(scope="module")
def project(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return clone_of(tiny_run, tmp_path_factory.mktemp("app") / "clone")


@pytest.fixture
def app(project: Project) -> Iterator[App]:
    """An App on the tiny run; the first one builds the dataset, the others open it."""
    running = App(project, free_port())
    yield running
    running.end()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.status == 200
        return answer.read()


def ask(app: App, query: str) -> Any:
    """The answer of the App's server to a GraphQL query, as its page asks."""
    root = app.url.split("/datasets/")[0]
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{root}/graphql", body, {"Content-Type": "application/json"})
    answer = json.loads(get(request))
    assert not answer.get("errors"), answer
    return answer["data"]


def test_server_shows_the_dataset(app: App, project: Project) -> None:
    assert any(line.startswith("importing data/synthetic") for line in app.lines)
    assert app.process.stdout.readline() == "no display here; open the address in a browser\n"
    assert b"<title>FiftyOne</title>" in get(app.url)
    query = '{dataset(name: "fusion-comparison") {mediaType savedViews {name} evaluations {key} brainMethods {key}}}'
    found = ask(app, query)["dataset"]
    names = [view["name"] for view in found["savedViews"]]
    assert found["mediaType"] == "group" and names[: len(VIEWS)] == VIEWS
    assert all(name.startswith("Worst ") for name in names[len(VIEWS) :])
    assert "eval_late" in {run["key"] for run in found["evaluations"]}
    assert [run["key"] for run in found["brainMethods"]] == ["concatenation_features"]
    raster = next(project.path(".fiftyone/app/media").rglob("test-000000.raster.png"))
    root = app.url.split("/datasets/")[0]
    assert get(f"{root}/media?filepath={urllib.parse.quote(str(raster))}") == raster.read_bytes()
    # Nothing is left in the user's own folders; the App's settings and database are in this one.
    assert not [
        path for path in project.path("home").rglob("*") if path.is_file() and "fiftyone" in str(path)
    ]
    assert project.changed_files() == []


def test_second_start_imports_nothing_and_a_third_is_refused(app: App, project: Project) -> None:
    assert not any("importing" in line or "pictures" in line for line in app.lines), app.lines
    options = as_user(project.folder)
    command = ["python", "-m", "scripts.explore", "--port", str(free_port())]
    done = subprocess.run(command, timeout=120, **options)
    expected = f"error: the App is open already: {app.url}, process {app.process.pid}; close it first\n"
    assert (done.returncode, done.stdout) == (1, expected)


def test_a_killed_app_has_lost_nothing(project: Project) -> None:
    """Right after the dataset was built anew."""
    shutil.rmtree(project.path(".fiftyone/app/database"), ignore_errors=True)
    end(App(project, free_port()).process)
    running = App(project, free_port())
    assert not any("importing" in line for line in running.lines)
    found = ask(running, '{dataset(name: "fusion-comparison") {estimatedSampleCount}}')["dataset"]
    assert found["estimatedSampleCount"] == 40 * 4
    running.end()


def test_browser_shows_views_and_samples(app: App, tmp_path: Path) -> None:
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium on the PATH; Debian has it: apt-get install chromium")
    with browser.opened(app.url, tmp_path / "profile") as page:
        page.wait_for("!!document.querySelector('[data-cy=looker]')")
        assert "mistakenness" in page.text
        page.click_text("Dismiss")  # an advertisement, which takes the first click
        page.wait_for("!document.body.innerText.includes('Accelerate your workflow')")
        page.click("[data-cy=saved-views-selection]")
        for name in VIEWS:
            page.wait_for_text(name)
        page.click_text("Fusions disagree")
        page.wait_for_text("groups with slice")
        page.wait_for("!!document.querySelector('[data-cy=looker]')")
        picture = page.screenshot(tmp_path / "app.png")
        assert np.asarray(Image.open(picture).convert("L")).std() > 10, "an empty page"
