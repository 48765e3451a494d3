"""What tests share: a tiny run of the whole pipeline, made once and cloned by whoever needs it."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by libraries when they are imported: tests run side by side

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from filelock import FileLock
from support import pipeline, processes
from support.project import PANDASET, ROOT, TINY, Project, clone_of, set_params

from stages import export
from stages.lib import params
from stages.lib.export import decode
from stages.lib.export.overview import Overview
from stages.lib.plots import style
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Ends what a test started and left running."""
    yield
    while processes.STARTED:
        processes.end(processes.STARTED.pop())


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
            pipeline.make_tiny_run(project)
            (shared / "tiny-run.done").touch()
    return project


@pytest.fixture
def clone(tiny_run: Project, tmp_path: Path) -> Project:
    """A copy of the tiny run with all its outputs."""
    return clone_of(tiny_run, tmp_path / "clone")


@pytest.fixture(scope="module")
def shared_clone(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy for tests that only read, or leave everything as they found it."""
    return clone_of(tiny_run, tmp_path_factory.mktemp("shared") / "clone")


@pytest.fixture
def run_in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
    """All stages in their order without DVC, for tests whose subject is results; in a folder of its own.

    Values are those of the tiny run, but for those given; a dot in a key is written as two underscores. Only tests
    that look at figures have them drawn.
    """

    def run(*, figures: bool = False, **values: object) -> Project:
        if not figures:
            monkeypatch.setattr(style, "save", pipeline.leave_empty)
        project = Project(tmp_path / "in-process")
        project.folder.mkdir()
        shutil.copy(ROOT / "params.yaml", project.folder)
        set_params(project.folder, TINY)
        project.set(**values)
        monkeypatch.chdir(project.folder)
        pipeline.run_stages()
        return project

    return run


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
    "test_tracking",
    "test_own_data",
    "test_studies",
    "test_bad_input",
    "test_learning_curve_run",
    "test_pages",
    "test_sensor_use",
    "test_benchmarks",
    "test_explore",
    "test_app",
    "test_synthesize",
    "test_ingest",
    "test_overview",
    "test_database",
    "test_predict",
    "test_onnx_file",
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
