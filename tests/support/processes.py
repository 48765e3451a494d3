"""Processes that tests start, watch and end."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import psutil

from support.project import Project, as_user

STARTED: list[subprocess.Popen[str]] = []


def start(project: Project, command: list[str], **options: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, start_new_session=True, **(as_user(project.folder) | options))
    STARTED.append(process)
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
