"""Training that is killed in several ways and resumed; and other changes that must not change a single bit."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from support import trackers
from support.processes import family, start
from support.project import ROOT, Project, clone_of

from scripts import restore_lock
from stages import train
from stages.lib.core.errors import UserError
from stages.lib.training import parallel

STAGE = ["python", "-m", "stages.train", "addition"]
TARGET = "train_intermediate@addition"
DVC = ["dvc", "repro", TARGET]
COMMANDS = {"stage": STAGE, "dvc": DVC}
# DVC's error about a lock file that it was killed while writing, and the command that restores the file.
CUT_OFF = "dvc.lock' "
RESTORE = ["python", "-m", "scripts.restore_lock"]
KILLS = 20
EPOCHS = 20  # of the long run: two seconds


@pytest.fixture(scope="module")
def long_run(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run, with training long enough to be killed, and every epoch saved.

    With one worker, since each further one takes seconds to import PyTorch.
    """
    project = clone_of(tiny_run, tmp_path_factory.mktemp("long") / "clone")
    project.set(train__epochs=EPOCHS, train__save_every_s=0.0, seeds=[0, 51, 52])
    project.run(*DVC)
    project.commit("Longer")
    return project


def results(project: Project, name: str = "addition") -> dict[str, str]:
    """Hashes of all files that a training stage writes, without the measured times."""
    files = [*sorted(project.path(f"models/{name}").iterdir()), project.path(f"reports/history/{name}.csv")]
    return {str(f.relative_to(project.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def forget(project: Project) -> None:
    """Removes all results of training since the last commit."""
    project.run("rm", "-rf", ".scratch", "models/addition", "reports/history/addition.csv", ".dvc/cache/runs")
    project.run("git", "checkout", "--quiet", "dvc.lock")


def stage_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    """The training stage among a process and its descendants."""
    return next((p for p in family(process) if is_stage(p)), None)


def is_stage(process: psutil.Process) -> bool:
    try:
        return "stages.train" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def workers_of(stage: psutil.Process) -> list[psutil.Process]:
    try:
        return [p for p in stage.children() if any("LokyProcess" in word for word in p.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill_stage(process: subprocess.Popen[str]) -> bool:
    stage = stage_of(process)
    if stage:
        stage.kill()
    return stage is not None


def kill_worker(process: subprocess.Popen[str]) -> bool:
    stage = stage_of(process)
    workers = workers_of(stage) if stage else []
    for worker in workers[:1]:
        worker.kill()
    return bool(workers)


def interrupt_all(process: subprocess.Popen[str]) -> bool:
    """Sends a signal to every process of the terminal, as Ctrl-C does."""
    os.killpg(process.pid, signal.SIGINT)
    return True


def kill_first(process: subprocess.Popen[str]) -> bool:
    process.kill()
    return True


# The command, and the function that kills or interrupts it and returns whether there was a process.
KILL_METHODS: list[tuple[str, Callable[[subprocess.Popen[str]], bool]]] = [
    ("stage", kill_first),
    ("stage", kill_worker),
    ("stage", interrupt_all),
    ("dvc", kill_first),
    ("dvc", kill_stage),
]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"still running: {alive}"


def test_killed_runs_go_on(long_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run resumes where the last one was killed, and the results have the same bits."""
    project = clone_of(long_run, tmp_path / "clone")
    # Settings that DVC has not run, so their results are not in its cache.
    project.set(train__epochs=60, seeds=[0, 51])
    forget(project)
    # The other two ways are in the test of random points.
    for name, kill in [("stage", kill_worker), ("stage", interrupt_all), ("dvc", kill_first)]:
        project.set(train__workers=2 if kill is kill_worker else 1)
        process = start(project, COMMANDS[name])
        last = max((path.stat().st_mtime_ns for path in states(project)), default=0)
        assert wait_for_state(project, last), "an unfinished seed leaves a state"
        processes = family(process)
        assert process.poll() is None and kill(process)
        output, _ = process.communicate(timeout=120)
        assert "Traceback" not in output, output
        wait_until_gone(processes)
    output = project.run(*STAGE).stdout
    assert re.search(r"^addition: seed \d+, epoch [1-9]\d*/60: .*, resuming from here$", output, re.M)
    assert not states(project), "a finished seed keeps no state"
    assert not list(project.path(".scratch").rglob("*.tmp"))
    resumed = results(project)
    forget(project)
    monkeypatch.chdir(project.folder)
    train.main(["addition"])
    assert results(project) == resumed


@pytest.mark.sweep
def test_killed_at_random_points(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=30, train__workers=2)
    full_s = {}
    found = []
    for name, command in COMMANDS.items():
        forget(project)
        full_s[name] = timed(project, command)
        found.append(results(project))
    forget(project)
    expected = found[0]
    assert found == [expected, expected]
    generator = random.Random(7)
    kills = 0
    while kills < KILLS:
        name, kill = KILL_METHODS[kills % len(KILL_METHODS)]
        process = start(project, COMMANDS[name])
        # Not while the interpreter itself starts. Most of a run is start-up, so half of the kills happen during
        # training.
        first_s = 0.4 * full_s[name] if generator.random() < 0.5 else 0.3
        time.sleep(generator.uniform(first_s, full_s[name]))
        processes = family(process)
        if process.poll() is None:
            kills += kill(process)
        output, _ = process.communicate(timeout=120)
        assert "Traceback" not in output, output
        wait_until_gone(processes)
        project.run(*RESTORE)
        if process.returncode == 0:
            assert results(project) == expected
            forget(project)
    project.run(*DVC)
    assert results(project) == expected


def test_a_lock_file_cut_off_loses_nothing(clone: Project) -> None:
    """As if DVC was killed while it wrote dvc.lock; `make repro` begins with the command that restores the file."""
    assert clone.run(*RESTORE).stdout == ""
    clone.set(train__epochs=3)
    clone.run(*DVC)
    expected = results(clone)
    lock = clone.path("dvc.lock")
    content = lock.read_bytes()
    lock.write_bytes(content[: content.index(b"hash:", len(content) // 2) + 2])
    assert CUT_OFF in clone.run(*DVC, check=False).stdout
    output = clone.run(*RESTORE).stdout.splitlines()
    assert len(output) == 1 and output[0].startswith("dvc.lock: DVC cannot read it")
    assert clone.changed_files() == ["params.yaml"]
    clone.run("rm", "-rf", ".scratch")
    assert "Running stage 'train" not in clone.run(*DVC).stdout
    assert results(clone) == expected


def test_make_repro_begins_with_the_lock_file() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\nrepro:")[1].split("\n\n")[0]
    assert recipe.index("python -m scripts.restore_lock") < recipe.index("dvc repro")


def test_wherever_a_lock_file_is_cut_off(
    clone: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC reads the rest of the file, or the file is restored; without a committed one it is removed."""
    monkeypatch.chdir(clone.folder)
    committed = clone.path("dvc.lock").read_bytes()
    lengths = [0, 5, *range(20, len(committed), len(committed) // 12)]
    restored = 0
    for length in lengths:
        clone.path("dvc.lock").write_bytes(committed[:length])
        restore_lock.main()
        restored += "dvc.lock: DVC cannot read it" in capsys.readouterr().err
        with Repo() as repo:
            assert repo.index.stages
        assert clone.path("dvc.lock").read_bytes() in (committed, committed[:length])
    assert 0 < restored < len(lengths)
    clone.run("git", "rm", "--quiet", "--cached", "dvc.lock")
    clone.run("git", "commit", "--quiet", "--message", "No lock file")
    clone.path("dvc.lock").write_bytes(committed[:5])
    restore_lock.main()
    assert not clone.path("dvc.lock").exists()


def timed(project: Project, command: list[str]) -> float:
    started = time.monotonic()
    project.run(*command)
    return time.monotonic() - started


def test_a_run_that_dvc_never_recorded_is_only_written(
    long_run: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As if DVC was killed after the end of the stage: all seeds are finished, so none is trained again."""
    project = clone_of(long_run, tmp_path / "clone")
    forget(project)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("DVC_STAGE", TARGET)
    train.main(["addition"])
    assert f"epoch {EPOCHS}/{EPOCHS}" in capsys.readouterr().err
    expected = results(project)
    project.run("rm", "-rf", "models/addition")
    train.main(["addition"])
    assert "epoch" not in capsys.readouterr().err
    assert results(project) == expected
    # Once DVC has recorded it, the same run starts only when forced.
    later_s = time.time() + 100
    os.utime(project.path("dvc.lock"), (later_s, later_s))
    train.main(["addition"])
    assert capsys.readouterr().err.count(f"epoch {EPOCHS}/{EPOCHS}") == 3
    assert results(project) == expected
    # A run by hand does not reuse the results of the run before.
    monkeypatch.delenv("DVC_STAGE")
    for _ in range(2):
        train.main(["addition"])
        assert capsys.readouterr().err.count(f"epoch {EPOCHS}/{EPOCHS}") == 3


def states(project: Project) -> list[Path]:
    """The files from which unfinished seeds resume."""
    return list(project.path(".scratch").rglob("*.run.safetensors"))


def wait_for_state(project: Project, last_ns: int = 0) -> list[Path]:
    """Waits for a newer state; returns all states."""
    for _ in range(1200):
        with suppress(FileNotFoundError):  # being replaced
            found = states(project)
            if any(path.stat().st_mtime_ns > last_ns for path in found):
                return found
        time.sleep(0.05)
    return []


def start_endless(long_run: Project, folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """Starts a run of two workers that only ends when killed; returns after its first saved epoch."""
    project = clone_of(long_run, folder)
    forget(project)
    project.set(train__epochs=10_000, train__workers=2)
    process = start(project, command)
    assert wait_for_state(project)
    return process


def test_orphans_stop_by_themselves(long_run: Project, tmp_path: Path) -> None:
    process = start_endless(long_run, tmp_path / "clone", DVC)
    stage = stage_of(process)
    assert stage is not None
    processes = [stage, *workers_of(stage)]
    assert len(processes) == 3
    process.kill()
    wait_until_gone(processes)
    process.communicate()


def test_no_run_resumes_another_configuration(
    long_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=3, train__workers=1, seeds=[0])
    monkeypatch.chdir(project.folder)
    train.main(["addition"])
    for key, value in {
        "train__learning_rate": 0.002,
        "train__weight_decay": 0.1,
        "train__augment__shift": 2,
        "network__hidden": [16, 4],
    }.items():
        before = results(project)
        project.set(**{key: value})
        train.main(["addition"])
        weights = "models/addition/seed-0.safetensors"
        assert results(project)[weights] != before[weights], key
    folders = list(project.path(".scratch/addition").iterdir())
    assert len(folders) == 2, "older configurations are removed"


def test_another_fusions_code_is_another_configuration(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=3, train__workers=1, seeds=[0])
    project.run(*STAGE)
    before = results(project)
    source = project.path("stages/lib/fusions/addition.py")
    source.write_text(source.read_text().replace("return rgb + lidar", "return rgb + 2 * lidar"))
    project.run(*STAGE)
    assert results(project) != before


def test_added_seeds_train_alone(
    long_run: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    forget(project)
    project.set(train__workers=1)
    monkeypatch.chdir(project.folder)
    train.main(["addition"])
    old = results(project)
    times = {path: path.stat().st_mtime_ns for path in project.path(".scratch").rglob("seed-*.safetensors")}
    later_s = time.time() + 1
    os.utime(project.path("dvc.lock"), (later_s, later_s))  # as if DVC had recorded the run
    project.set(seeds=[0, 53, 51, 52])
    capsys.readouterr()
    train.main(["addition"])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert re.findall(rf"seed (\d+), epoch {EPOCHS}/{EPOCHS}", capsys.readouterr().err) == ["53"]
    new = results(project)
    seeds = {name for name in old if "seed" in name}
    assert {name: new[name] for name in seeds} == {name: old[name] for name in seeds}


@pytest.mark.sweep
@pytest.mark.parametrize("workers", [2, 4])
def test_number_of_workers_changes_nothing(long_run: Project, tmp_path: Path, workers: int) -> None:
    """Weights, metadata, histories; test_pipeline shows the same for the whole pipeline with two workers."""
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    forget(project)
    project.set(train__workers=workers)
    project.run(*STAGE)
    assert results(project) == expected


@pytest.mark.sweep
def test_temporary_copy_gives_the_same(
    long_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    setting = ["-S", "train.batch_size=4"]  # settings that DVC has not run
    output = project.run("dvc", "exp", "run", "--temp", "--name", "copied", *setting, TARGET)
    assert "stages.train addition" in output.stdout
    project.run("dvc", "exp", "apply", "copied")
    copied = results(project)
    monkeypatch.chdir(project.folder)
    train.main(["addition"])
    assert results(project) == copied


def limit_file_size(num_bytes: int) -> Callable[[], None]:
    """Limits the size of a process's files, like a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_full_disk(long_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    forget(project)
    project.set(train__workers=1)
    # Otherwise Python itself writes incomplete compiled modules and fails on them later.
    project.run("python", "-m", "compileall", "-q", "stages")
    process = start(project, STAGE, preexec_fn=limit_file_size(5_000))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in output, output
    lines = output.strip().splitlines()
    assert lines[-1].startswith("error: ") and "too large" in lines[-1].lower()
    assert len([line for line in lines if line.startswith("warning: ")]) == 1
    assert not list(project.path(".scratch").rglob("*.tmp"))
    monkeypatch.chdir(project.folder)
    train.main(["addition"])
    assert results(project) == expected


def test_numerical_error_names_its_batch_and_keeps_other_seeds(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    forget(project)
    source = project.path("stages/lib/fusions/addition.py")
    # Only seed 51 gets a NaN, in its third epoch of three training batches each.
    text = source.read_text()
    for part, faulty in {
        "from torch import Tensor": "import torch\nfrom torch import Tensor",
        "    is_symmetric = True\n": "    is_symmetric = True\n    passes = 0\n",
        "        return rgb + lidar": (
            "        self.passes += self.training\n"
            "        broken = torch.initial_seed() == 51 and self.passes == 8\n"
            "        return rgb + lidar + (float('nan') if broken else 0.0)"
        ),
    }.items():
        assert part in text
        text = text.replace(part, faulty)
    source.write_text(text)
    done = project.run(*STAGE, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    error = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert re.match(
        r"error: addition, seed 51: epoch 3, batch 2 of 3: the training loss is nan; try ", error
    ), error
    assert "2 of 3 seeds are finished and kept" in error
    assert len(list(project.path(".scratch").rglob("seed-*.json"))) == 2


def test_killed_worker_is_one_line(long_run: Project, tmp_path: Path) -> None:
    process = start_endless(long_run, tmp_path / "clone", STAGE)
    kill_worker(process)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output, output
    assert re.match(r"error: addition: a training process was killed.* at seed 0, ", output.splitlines()[-1])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.sweep)])
def test_dask_cluster_gives_the_same(long_run: Project, tmp_path: Path, workers: int) -> None:
    """A real scheduler and real worker processes, started in the project's folder."""
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    forget(project)
    scheduler = start_cluster(project, tmp_path, workers)
    has_tracker = importlib.util.find_spec("tensorboard") is not None
    tracker = "tensorboard" if has_tracker else "none"
    project.set(train__backend="dask", train__scheduler=scheduler, track__backend=tracker)
    output = project.run(*STAGE).stdout
    assert results(project) == expected
    assert re.search(rf"seed \d+, epoch {EPOCHS}/{EPOCHS}", output), "progress comes from the workers"
    if has_tracker:  # the stage logs, from what its workers report
        runs = trackers.read(tracker, project.folder).values()
        assert [len(run.epochs) for run in runs] == [EPOCHS] * 3
    assert '"backend": "dask"' in project.text("reports/timing/train-addition.json")


def start_cluster(project: Project, folder: Path, workers: int) -> str:
    """Starts scheduler and workers; returns the scheduler's address."""
    file = folder / "scheduler.json"
    command = ["dask", "scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"]
    start(project, [*command, "--scheduler-file", str(file)])
    worker = ["dask", "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
    for _ in range(workers):  # they wait for the scheduler's file
        start(project, [*worker, "--local-directory", str(folder)])
    for _ in range(600):
        if file.exists() and file.stat().st_size:
            break
        time.sleep(0.1)
    return re.search(r"tcp://[\d.:]+", file.read_text()).group()


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_SCHEDULER_TIMEOUT", "1s")
    workers = parallel.Workers("dask", "tcp://127.0.0.1:9", 1, 1)
    with pytest.raises(UserError, match=r"train\.scheduler: no Dask scheduler at tcp://127\.0\.0\.1:9 "):
        parallel.train("addition", lambda **_: None, [0], workers)


def test_traced_networks_train(long_run: Project, tmp_path: Path) -> None:
    """With torch.compile, by the backend that needs no compiler."""
    project = clone_of(long_run, tmp_path / "clone")
    plain = losses(project)
    project.set(train__compile="aot_eager", train__workers=1, seeds=[0])
    project.run(*STAGE)
    assert losses(project)[0] == pytest.approx(plain[0], abs=1e-3)


def losses(project: Project) -> list[float]:
    rows = project.text("reports/history/addition.csv").splitlines()[1:]
    return [float(row.split(",")[-1]) for row in rows]


def test_training_starts_in_seconds(shared_clone: Project) -> None:
    """Training imports no slow library that it does not need."""
    output = shared_clone.run(
        "python", "-X", "importtime", "-c", "import stages.train, stages.train_late"
    ).stdout
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in output.splitlines() if "|" in line}
    assert "torch" in imported
    assert not imported & {"pandas", "matplotlib", "fiftyone", "sklearn", "scipy", "distributed", "dask"}
