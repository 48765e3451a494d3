"""Training that is killed, in every way, and goes on; and what else must not change a single bit."""

from __future__ import annotations

import hashlib
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import Project, clone_of, family, start

STAGE = ["python", "-m", "stages.train", "addition"]
DVC = ["dvc", "repro", "train_intermediate@addition"]
COMMANDS = {"stage": STAGE, "dvc": DVC}
# What DVC says of a lock file that it was killed over.
CUT_OFF = "dvc.lock' "


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


@pytest.fixture(scope="module")
def long_run(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run, with training long enough to be hit, and every epoch saved."""
    project = clone_of(tiny_run, tmp_path_factory.mktemp("long") / "clone")
    project.set(train__epochs=40, train__save_every_s=0.0, train__workers=2, seeds=[0, 51, 52])
    project.run(*DVC)
    project.commit("Longer")
    return project


def results(project: Project, name: str = "addition") -> dict[str, str]:
    """Hashes of all that a training stage writes, without what the clock says."""
    files = [*sorted(project.path(f"models/{name}").iterdir()), project.path(f"reports/history/{name}.csv")]
    return {str(f.relative_to(project.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def forget(project: Project) -> None:
    """As if nothing had been trained since the last commit."""
    project.run("rm", "-rf", ".scratch", "models/addition", "reports/history/addition.csv", ".dvc/cache/runs")
    project.run("git", "checkout", "--quiet", "dvc.lock")


def stage_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    """The training stage among them."""
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
    """What Ctrl-C does: a signal to every process of the terminal."""
    os.killpg(process.pid, signal.SIGINT)
    return True


def kill_first(process: subprocess.Popen[str]) -> bool:
    process.kill()
    return True


# What is run, and how it is hit; the answer is whether there was something to hit.
HITS: list[tuple[str, Callable[[subprocess.Popen[str]], bool]]] = [
    ("stage", kill_first),
    ("stage", kill_worker),
    ("stage", interrupt_all),
    ("dvc", kill_first),
    ("dvc", kill_stage),
]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"still running: {alive}"


def test_killed_at_random_points(long_run: Project, tmp_path: Path, kills: int) -> None:
    """Each run goes on where the last one was killed, and the end is the same to the bit."""
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=30)  # which DVC has not seen, and can't have from its cache
    full_s = {}
    found = []
    for name, command in COMMANDS.items():
        forget(project)
        full_s[name] = timed(project, command)
        found.append(results(project))
    forget(project)
    expected = found[0]
    assert found == [expected, expected]
    chance = random.Random(7)
    hits = 0
    while hits < kills:
        name, hit = HITS[hits % len(HITS)]
        process = start(project, COMMANDS[name])
        # The interpreter's own first moments are nobody's but its own. Most of a run is start-up; half of the hits
        # fall into the time of training.
        first_s = 0.4 * full_s[name] if chance.random() < 0.5 else 0.3
        time.sleep(chance.uniform(first_s, full_s[name]))
        processes = family(process)
        if process.poll() is None:
            hits += hit(process)
        output, _ = process.communicate(timeout=120)
        assert "Traceback" not in output, output
        wait_until_gone(processes)
        if CUT_OFF in output:
            project.run("git", "checkout", "dvc.lock")
        if process.returncode == 0:
            assert results(project) == expected
            forget(project)
    if CUT_OFF in project.run("dvc", "status", check=False).stdout:
        project.run("git", "checkout", "dvc.lock")
    project.run(*DVC)
    assert results(project) == expected


def test_a_lock_file_cut_off_loses_nothing(long_run: Project, tmp_path: Path) -> None:
    """The remedy that README names, where DVC itself was killed while it wrote dvc.lock."""
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=3, train__workers=1, seeds=[0])
    project.run(*DVC)
    expected = results(project)
    lock = project.path("dvc.lock")
    lock.write_bytes(lock.read_bytes()[: lock.stat().st_size // 2])
    assert CUT_OFF in project.run(*DVC, check=False).stdout
    project.run("git", "checkout", "dvc.lock")
    project.run("rm", "-rf", ".scratch")
    output = project.run(*DVC).stdout
    assert "Running stage" not in output
    assert results(project) == expected


def timed(project: Project, command: list[str]) -> float:
    started = time.monotonic()
    project.run(*command)
    return time.monotonic() - started


def test_goes_on_from_the_last_epoch(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    project.run("rm", "-rf", "models/addition")
    project.set(train__workers=1)
    forget(project)
    process = start(project, STAGE)
    states = wait_for_state(project)
    process.kill()
    process.communicate()
    assert states, "an unfinished seed leaves a state"
    said = project.run(*STAGE).stdout
    assert re.search(r"^addition: seed 0, epoch [1-9]\d*/40: .*, going on from here$", said, re.M)
    assert results(project) == expected
    assert not list(project.path(".scratch").rglob("*.run.safetensors")), "a finished seed keeps no state"
    assert not list(project.path(".scratch").rglob("*.tmp"))
    # All seeds are finished now: nothing is trained, only written.
    project.run("rm", "-rf", "models/addition")
    assert "epoch" not in project.run(*STAGE).stdout
    assert results(project) == expected


def wait_for_state(project: Project) -> list[Path]:
    for _ in range(600):
        states = list(project.path(".scratch").rglob("*.run.safetensors"))
        if states:
            return states
        time.sleep(0.05)
    return []


def start_endless(long_run: Project, folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """A run that only a hit ends, past its first saved epoch."""
    project = clone_of(long_run, folder)
    forget(project)
    project.set(train__epochs=10_000)
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


def test_another_configuration_is_never_picked_up(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    project.set(train__epochs=3, train__workers=1, seeds=[0])
    project.run(*STAGE)
    found = {}
    for key, value in {
        "train__learning_rate": 0.002,
        "train__weight_decay": 0.1,
        "train__augment__shift": 2,
        "network__hidden": [16, 4],
    }.items():
        before = results(project)
        project.set(**{key: value})
        project.run(*STAGE)
        found[key] = results(project)
        assert (
            found[key]["models/addition/seed-0.safetensors"] != before["models/addition/seed-0.safetensors"]
        )
    folders = list(project.path(".scratch/addition").iterdir())
    assert len(folders) == 2, "older configurations are removed"
    # Another fusion's code is another configuration, too.
    source = project.path("stages/lib/fusions/addition.py")
    source.write_text(source.read_text().replace("return rgb + lidar", "return rgb + 2 * lidar"))
    before = results(project)
    project.run(*STAGE)
    assert results(project) != before


def test_added_seeds_train_alone(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    forget(project)
    project.run(*STAGE)
    old = results(project)
    times = {path: path.stat().st_mtime_ns for path in project.path(".scratch").rglob("seed-*.safetensors")}
    project.set(seeds=[0, 53, 51, 52])
    said = project.run(*STAGE).stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert re.findall(r"seed (\d+), epoch 40/40", said) == ["53"]
    new = results(project)
    seeds = {name for name in old if "seed" in name}
    assert {name: new[name] for name in seeds} == {name: old[name] for name in seeds}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_number_of_workers_changes_nothing(long_run: Project, tmp_path: Path, workers: int) -> None:
    """Weights, stories, histories; and, since they are computed from these, evaluations."""
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    forget(project)
    project.set(train__workers=workers)
    project.run(*STAGE)
    assert results(project) == expected
    if workers == 4:
        project.run("dvc", "repro", "evaluate_intermediate@addition")
        first = project.path("reports/evaluation/addition.json").read_bytes()
        project.run("python", "-m", "stages.evaluate", "addition")
        assert project.path("reports/evaluation/addition.json").read_bytes() == first


def test_temporary_copy_gives_the_same(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    said = project.run("dvc", "exp", "run", "--temp", "-f", "--name", "copied", "train_intermediate@addition")
    assert "stages.train addition" in said.stdout
    project.run("dvc", "exp", "apply", "copied")
    assert results(project) == expected


def limit_file_size(num_bytes: int) -> Callable[[], None]:
    """Makes a process's files end there, as a full disk does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_full_disk(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    expected = results(project)
    forget(project)
    project.set(train__workers=1)
    process = start(project, STAGE, preexec_fn=limit_file_size(5_000))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in output, output
    lines = output.strip().splitlines()
    assert lines[-1].startswith("error: ") and "too large" in lines[-1].lower()
    assert len([line for line in lines if line.startswith("warning: ")]) == 1
    assert not list(project.path(".scratch").rglob("*.tmp"))
    project.run(*STAGE)
    assert results(project) == expected


def test_numerical_fault_names_its_place_and_keeps_other_seeds(long_run: Project, tmp_path: Path) -> None:
    project = clone_of(long_run, tmp_path / "clone")
    forget(project)
    source = project.path("stages/lib/fusions/addition.py")
    # Seed 51 alone meets a NaN, in its third epoch (a forward pass also validates: 3 + 1 batches each).
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


@pytest.fixture
def scheduler(tmp_path: Path, long_run: Project) -> str:
    """The address of a real Dask scheduler with two worker processes, started in the project's folder."""
    file = tmp_path / "scheduler.json"
    command = ["dask", "scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"]
    start(long_run, [*command, "--scheduler-file", str(file)])
    for _ in range(300):
        if file.exists() and file.stat().st_size:
            break
        time.sleep(0.1)
    worker = ["dask", "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
    for _ in range(2):
        start(long_run, [*worker, "--local-directory", str(tmp_path)])
    return re.search(r"tcp://[\d.:]+", file.read_text()).group()


def test_dask_cluster_gives_the_same(long_run: Project, scheduler: str) -> None:
    expected = results(long_run)
    forget(long_run)
    long_run.set(train__backend="dask", train__scheduler=scheduler)
    said = long_run.run(*STAGE).stdout
    assert results(long_run) == expected
    assert re.search(r"seed \d+, epoch 40/40", said), "progress comes from the workers"
    assert '"backend": "dask"' in long_run.text("reports/timing/train-addition.json")
    long_run.run("git", "checkout", "params.yaml")


def test_no_scheduler_is_one_line(shared_clone: Project) -> None:
    shared_clone.set(train__backend="dask", train__scheduler="tcp://127.0.0.1:9")
    done = shared_clone.run(*STAGE, check=False)
    shared_clone.run("git", "checkout", "params.yaml")
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert "error: train.scheduler: no Dask scheduler at tcp://127.0.0.1:9" in done.stdout


def test_traced_networks_train(long_run: Project, tmp_path: Path) -> None:
    """torch.compile's path, with the backend that needs no compiler."""
    project = clone_of(long_run, tmp_path / "clone")
    plain = losses(project)
    project.set(train__compile="aot_eager", train__workers=1, seeds=[0])
    project.run(*STAGE)
    assert losses(project)[0] == pytest.approx(plain[0], abs=1e-3)


def losses(project: Project) -> list[float]:
    rows = project.text("reports/history/addition.csv").splitlines()[1:]
    return [float(row.split(",")[-1]) for row in rows]


def test_training_starts_in_seconds(shared_clone: Project) -> None:
    """What a training stage imports; `python -X importtime` tells the rest."""
    said = shared_clone.run(
        "python", "-X", "importtime", "-c", "import stages.train, stages.train_late"
    ).stdout
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in said.splitlines() if "|" in line}
    assert "torch" in imported
    assert not imported & {"pandas", "matplotlib", "fiftyone", "sklearn", "scipy", "distributed", "dask"}
