"""Studies that are interrupted: they go on where they were, and leave nothing but their results."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.processes import family, start
from support.project import Project
from support.studies import mark_environment_ready, own_settings

# Slow enough to be stopped in training, and only there; every other model's results are in the cache.
SLOW = (
    "import time\nfrom torch import Tensor",
    "        time.sleep(0.5 * rgb.requires_grad)\n        return rgb + lidar",
)
OPERATOR = "stages/lib/fusions/addition.py"


def slow_study(clone: Project) -> list[str]:
    """Makes addition slow, which is a change that is not committed; returns a command that trains only this model."""
    text = clone.path(OPERATOR).read_text()
    for old, new in zip(("from torch import Tensor", "        return rgb + lidar"), SLOW, strict=True):
        assert text.count(old) == 1
        text = text.replace(old, new)
    clone.path(OPERATOR).write_text(text)
    settings = [*own_settings(clone), "intermediate=[addition]", "fusion=addition", "train.save_every_s=0"]
    return [sys.executable, "-m", "scripts.studies", "notebook", "data/synthetic", *settings]


def wait_for_epoch(clone: Project, process: subprocess.Popen[str]) -> None:
    """Returns when an unfinished seed has been saved."""
    for _ in range(3000):
        assert process.poll() is None, process.communicate()[0]
        if list(clone.path(".studies").glob("*/*/.scratch/addition/*/seed-*.run.safetensors")):
            return
        time.sleep(0.05)
    raise AssertionError("no epoch was saved")


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive, f"still running: {alive}"


def test_a_study_killed_in_training_goes_on(clone: Project) -> None:
    """Also: a second start says that the first one works; the code is the project's own, changes included."""
    command = slow_study(clone)
    process = start(clone, command)
    while not clone.path(".studies/notebook").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    second = clone.run(*command, check=False)
    assert second.returncode == 1
    assert (
        second.stdout
        == "error: notebook: another process works on this study; wait for its end, or stop it\n"
    )
    wait_for_epoch(clone, process)
    (workspace,) = clone.path(".studies/notebook").glob("*/")
    assert (
        (workspace / OPERATOR).read_text()
        == clone.text(OPERATOR)
        != clone.run("git", "show", f"HEAD:{OPERATOR}").stdout
    )
    processes = family(process)
    assert any("stages.train" in each.cmdline() for each in processes)
    process.kill()
    output, _ = process.communicate(timeout=60)
    assert re.search(r"^notebook: run 1 of 1 \(notebook\), stage \d+ of 15", output, re.M), output
    wait_until_gone(processes)

    output = clone.run(*command).stdout
    assert re.search(r"^addition: seed \d+, epoch 1/2: .*, resuming from here$", output, re.M), output
    ran = re.findall(r"Running stage '([^']+)'", output)
    assert ran[0] == "train_intermediate@addition" and not any("unimodal" in name for name in ran)
    assert output.splitlines()[-1] == "wrote reports/notebook/report.md"
    assert "addition" in clone.text("reports/notebook/report.md")
    assert not clone.path(".studies").exists()
    assert clone.changed_files() == [OPERATOR]


@pytest.mark.sweep
def test_a_study_in_pieces(clone: Project) -> None:
    """A piece ends in the middle of training; Ctrl-C ends another; the rest follows."""
    mark_environment_ready(clone)
    command = slow_study(clone)
    make = ["make", "notebook", "DATASET=data/synthetic", f"SET={' '.join(command[5:])}"]
    process = start(clone, command)
    wait_for_epoch(clone, process)
    processes = family(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output and "ERROR" not in output
    assert output.splitlines()[-1] == "interrupted"
    wait_until_gone(processes)

    pieces = 0
    while "wrote reports/notebook/report.md" not in output:
        output = clone.run(*make, "MINUTES=0.25").stdout  # exit code 0
        assert "Traceback" not in output and "ERROR" not in output
        pieces += 1
        if "wrote" not in output:
            pattern = (
                r"notebook: 0\.25 minutes are over, in run 1 of 1 \(notebook\) with \d+ of 15 stages done; "
            )
            assert re.fullmatch(pattern + "the same command goes on from here", output.splitlines()[-1])
            assert clone.path(".studies/notebook").is_dir()
        assert pieces < 40
    assert pieces > 1 and not clone.path(".studies").exists()


@pytest.mark.sweep
def test_a_stage_that_fails_keeps_what_is_done(clone: Project, tmp_path: Path) -> None:
    command = slow_study(clone)
    whole = clone.path(OPERATOR).read_text()
    clone.path(OPERATOR).write_text(
        whole.replace("time.sleep(0.5 * rgb.requires_grad)", "raise ValueError('broken')")
    )
    failed = clone.run(*command, check=False)
    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1].startswith(
        "error: `dvc repro` failed in .studies/notebook/notebook"
    )
    clone.path(OPERATOR).write_text(whole)
    output = clone.run(*command).stdout
    assert "Running stage 'train_unimodal" not in output and "wrote reports/notebook/report.md" in output
