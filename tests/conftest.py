"""What tests share: a tiny run of the whole pipeline, made once and cloned by whoever needs it."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by libraries when they are imported: tests run side by side

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from stages import (
    baselines,
    check,
    compare,
    evaluate,
    export,
    headline,
    report,
    synthesize,
    train,
    train_late,
)
from stages.lib import params
from stages.lib.export import decode
from stages.lib.export.overview import Overview
from stages.lib.plots import style
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest

ROOT = Path(__file__).parent.parent
PANDASET = ROOT.parent / "shared" / "realdata" / "pandaset"

# Small enough for seconds, large enough for every stage to have something to do.
TINY = {
    "seeds": [0, 51],
    "synthetic.groups": 40,
    "export.image_size": 32,
    "network.unimodal_channels": [4, 4, 4],
    "network.intermediate_channels": [4, 4, 4],
    "network.hidden": [16, 8],
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.late.epochs": 3,
    # In one process: nothing so small is worth starting another. Tests of parallel workers ask for two.
    "train.workers": 1,
    "report.draws": 500,
}


def as_user(folder: Path) -> dict[str, Any]:
    """Options of a process as a user starts it who has activated this environment; its output is one text."""
    names = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Tests run side by side; a process with a thread for each core would only get in the others' way.
        "OMP_NUM_THREADS": "1",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.com",
    }
    # Python's own defaults, no database of this process, and no word of a `make` that has started these tests.
    own = ("FIFTYONE_", "PYTHONDONTWRITEBYTECODE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        "cwd": folder,
        "env": inherited | names,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


class Project:
    """A checkout of the project and the commands that a user would type in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project; its output comes back as text, stdout and stderr in one."""
        done = subprocess.run(command, timeout=timeout, **as_user(self.folder))
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}"
        return done

    def set(self, **values: object) -> None:
        """Sets keys of params.yaml; a dot in a key is written as two underscores."""
        set_params(self.folder, {key.replace("__", "."): value for key, value in values.items()})

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the last commit."""
        return self.run("git", "diff", "--name-only", "HEAD").stdout.split()

    def path(self, name: str) -> Path:
        return self.folder / name

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


def set_params(folder: Path, values: dict[str, object]) -> None:
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    for key, value in values.items():
        *groups, last = key.split(".")
        group = content
        for name in groups:
            group = group[name]
        assert last in group, f"params.yaml has no key {key}"
        group[last] = value
    yaml.dump(content, folder / "params.yaml")


def copy_working_tree(target: Path) -> None:
    """The project's files as they stand, without what it ignores and without its results."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if name == "dvc.lock" or name.startswith("reports/") or not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Ends what a test started and left running."""
    yield
    while _started:
        end(_started.pop())


def start(project: Project, command: list[str], **options: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, start_new_session=True, **(as_user(project.folder) | options))
    _started.append(process)
    return process


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[str]) -> None:
    """Kills a process and all below it."""
    for each in family(process):
        each.kill()
    if process.stdout and not process.stdout.closed:
        process.communicate()


def work_off_queue(project: Project, count: int) -> None:
    """Runs the queued experiments of a project, two at once, until so many are done."""
    # Its workers keep the output open that they inherit, and one of them may wait for more work for good.
    start(project, ["dvc", "queue", "start", "-j", "2"], stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 300
        while (status := project.run("dvc", "queue", "status").stdout).count("Success") < count:
            assert "Failed" not in status and time.monotonic() < deadline_s, status
            time.sleep(2)
    finally:
        for process in psutil.process_iter(["cmdline", "cwd"]):  # they are nobody's children
            command, folder = process.info["cmdline"] or [], process.info["cwd"]
            if "queue-worker" in command and folder == str(project.folder):
                process.kill()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The whole pipeline, run with tiny settings and committed. Clone it; don't change it.

    Parallel test processes share one: the first makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    project = Project(shared / "tiny-run")
    with FileLock(shared / "tiny-run.lock"):
        if not (shared / "tiny-run.done").exists():
            shutil.rmtree(project.folder, ignore_errors=True)
            make_tiny_run(project)
            (shared / "tiny-run.done").touch()
    return project


def make_tiny_run(project: Project) -> None:
    project.folder.mkdir()
    copy_working_tree(project.folder)
    set_params(project.folder, TINY)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("python", "-m", "stages.check")
    project.run("dvc", "repro")
    project.commit("A tiny run")


@pytest.fixture
def clone(tiny_run: Project, tmp_path: Path) -> Project:
    """A copy of the tiny run with all its outputs."""
    return clone_of(tiny_run, tmp_path / "clone")


@pytest.fixture(scope="module")
def shared_clone(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy for tests that only read, or leave everything as they found it."""
    return clone_of(tiny_run, tmp_path_factory.mktemp("shared") / "clone")


def clone_of(project: Project, folder: Path) -> Project:
    """A copy of a project as it stands, with a cache of its own, but without what training left for going on.

    DVC puts new files in the place of cached ones, so these may be links; all other files are copies.
    """
    left_out = shutil.ignore_patterns(".scratch", ".fiftyone", "tmp", "cache")
    shutil.copytree(project.folder, folder, symlinks=True, ignore=left_out)
    shutil.copytree(project.path(".dvc/cache"), folder / ".dvc" / "cache", copy_function=os.link)
    return Project(folder)


@pytest.fixture
def run_in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
    """All stages in their order without DVC, for tests whose subject is results; in a folder of its own.

    Values are those of the tiny run, but for those given; a dot in a key is written as two underscores. Only tests
    that look at figures have them drawn.
    """

    def run(*, figures: bool = False, **values: object) -> Project:
        if not figures:
            monkeypatch.setattr(style, "save", leave_empty)
        project = Project(tmp_path / "in-process")
        project.folder.mkdir()
        shutil.copy(ROOT / "params.yaml", project.folder)
        set_params(project.folder, TINY)
        project.set(**values)
        monkeypatch.chdir(project.folder)
        settings = params.load()
        check.main()
        if settings.dataset.path == check.SYNTHETIC.as_posix():
            synthesize.main()
        export.main()
        for name in [*settings.unimodal, *settings.intermediate]:
            train.main([name])
        for name in settings.late:
            train_late.main([name])
        baselines.main()
        for name in settings.model_names():
            evaluate.main([name])
        compare.main()
        headline.main()
        report.main()
        return project

    return run


def leave_empty(figure: Figure, path: Path) -> None:
    style.plt.close(figure)
    path.touch()


def committed(name: str) -> str:
    """A file of the last commit: what stands in the folder may be another machine's results by now."""
    done = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{name} is not committed here, so there is nothing to compare with")
    return done.stdout


@pytest.fixture(scope="session")
def pandaset() -> Path:
    """Real labelled RGB + LiDAR views, where they are at hand."""
    if not PANDASET.is_dir():
        pytest.skip(f"real data not found at {PANDASET.relative_to(ROOT.parent)} beside the project")
    return PANDASET


@pytest.fixture
def edit_params(tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of params.yaml with other values; a dot in a key is written as two underscores."""

    def edited(**values: object) -> Path:
        shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
        set_params(tmp_path, {key.replace("__", "."): value for key, value in values.items()})
        return tmp_path / "params.yaml"

    return edited


@pytest.fixture(scope="session")
def decoding_process() -> Iterator[decode.Pool]:
    """One process that decodes for all exports, which would start their own otherwise."""
    with decode.started(1) as pool:
        yield pool


@pytest.fixture
def run_export(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit_params: Callable[..., Path],
    decoding_process: decode.Pool,
) -> Callable[..., Manifest]:
    """Exports a dataset folder into tmp_path/tensors, with changes to params.yaml.

    Figures take as long as all the rest, so only tests that look at them have them drawn.
    """
    monkeypatch.setattr(manifests, "FOLDER", tmp_path / "tensors")
    monkeypatch.setattr(decode, "started", lambda setting: nullcontext(decoding_process))

    def exported(folder: Path, *, figures: bool = False, **values: object) -> Manifest:
        if not figures:
            monkeypatch.setattr(Overview, "draw", lambda *arguments: None)
        defaults = {
            "dataset__lidar__orientation": "as-is",
            "export__image_size": 24,
            "dataset__scene_field": None,
        }
        settings = params.load(edit_params(dataset__path=str(folder), **(defaults | values)))
        return export.export(settings.dataset, settings.export)

    return exported


# What needs the tiny run, longest first. The first of them makes it, while the other processes work on files that
# do without; so these come second.
NEED_THE_TINY_RUN = [
    "test_pipeline",
    "test_resume",
    "test_own_data",
    "test_bad_input",
    "test_readme",
    "test_sensor_use",
    "test_synthesize",
    "test_ingest",
    "test_overview",
    "test_database",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the sweeps unless they are asked for, and puts files in the order in which they are begun."""
    first, *later = NEED_THE_TINY_RUN
    places = {first: -1} | {name: place for place, name in enumerate(later, 1)}
    items.sort(key=lambda item: places.get(item.path.stem, 0))
    if not config.getoption("--sweeps"):
        sweeps = [item for item in items if item.get_closest_marker("sweep")]
        config.hook.pytest_deselected(items=sweeps)
        items[:] = [item for item in items if item not in sweeps]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sweeps", action="store_true", help="also the tests that show the same at length")
