"""The README is true: its commands run, its code works, its figures are the report's."""

from __future__ import annotations

import csv
import json
import re
import shlex
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypcd4 import PointCloud
from support.datasets import range_image, stored_as, to_xyz, write_dataset, write_raw
from support.processes import end, start, work_off_queue
from support.project import Project, committed

from stages.lib import fusions
from stages.lib.datasets import synthetic

README = Path(__file__).parent.parent.parent / "README.md"
# Not run from within the tests, which are run by them.
SKIPPED = {"make test", "make test-all", ". .venv/bin/activate"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in (line.split(" # ")[0].strip() for line in lines) if line and line[0] != "#"]


def write_code(project: Project) -> None:
    """Each block of Python names its file in its first line."""
    for code in blocks("python"):
        name = re.match(r"# (\S+\.py)\n", code)
        assert name
        project.path(name.group(1)).write_text(code)


def write_data(project: Project) -> None:
    """A dataset, or raw files, for each layout that the page has a recipe for."""
    angles = synthetic.angles_rad(24).tolist()
    info = {"azimuth": angles, "zenith": angles}

    def write_range(number: int, path: Path) -> Path:
        np.save(path.with_suffix(".npy"), range_image(number))
        return path.with_suffix(".npy")

    write_dataset(project.path("data/mine"))
    write_dataset(project.path("data/points"), change=stored_as("points", to_xyz))
    write_dataset(project.path("data/ranges"), change=stored_as("range_m", lambda image: image), info=info)
    write_dataset(project.path("data/files"), write_scan=write_range, info=info)
    write_raw(project.path("raw"), {"cubes": range(12), "spheres": range(12)})
    for split, count in {"train": 6, "validation": 3, "test": 3}.items():
        for label in ("car", "truck"):
            folder = project.path(f"my/{split}/{label}")
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([len(split), len(label), number])
                path = folder / f"{split}-{number}_{label}.png"
                Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
                points = rng.normal([0, 20, 0], 2, (200, 3)).astype(np.float32)
                PointCloud.from_xyz_points(points).save(path.with_suffix(".pcd"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.sweep
def test_commands_run_in_their_order(clone: Project) -> None:
    """All commands of the page, in a tiny clone whose environment is the tests' own."""
    write_code(clone)
    write_data(clone)
    clone.run("python", "write_dataset.py")
    clone.path(".venv/bin").mkdir(parents=True)
    clone.path(".venv/bin/activate").touch()
    clone.path(".venv/.ready").touch()
    found = commands()
    assert len(found) >= 22
    port = free_port()
    background = []
    for command in found:
        command = command.replace(":8786", f":{port}").replace("--port 8786", f"--port {port} --no-dashboard")
        command = command.replace("seeds=[51,52,53,54,55,56,57,58]", "seeds=[0,51,52]")  # one more, not four
        if "dataset.lidar" in command or "data/course" in command:
            # How data lie matters until the tensors are written; training on each would prove nothing more.
            command = command.replace("headline report", "export")
        if "dataset." in command:
            clone.run("git", "checkout", "--", "params.yaml")  # as the page says
        if "--queue" in command:
            # Its copies would lack the dataset of the last recipe, which nobody has added.
            clone.run("git", "checkout", "--", "params.yaml")
        if command == "dvc queue start -j 2":
            work_off_queue(clone, 2)
        elif command.startswith("dask "):
            background.append(start(clone, shlex.split(command)))
        elif command not in SKIPPED:
            clone.run(*shlex.split(command))
    for process in background:
        end(process)
    assert '"backend": "dask"' in clone.text("reports/timing/train-rgb.json")
    assert "Intermediate Fusion (Minimum)" in clone.text("reports/report.md")
    assert clone.path("reports/notebook/report.md").is_file()


def test_result_is_the_reports() -> None:
    rows = {row["model"]: row for row in csv.DictReader(committed("reports/comparison.csv").splitlines())}
    text = README.read_text()
    lines = re.findall(r"^\| (\w[\w ]*?) +\| ([\d.]+) +\| ([\d.]+) +\| ([\d.-]+) +\| ([\d.-]+)", text, re.M)
    assert {name for name, *_ in lines} == {name.replace("_", " ") for name in rows}
    for name, balanced_accuracy, loss, millions, epoch_s in lines:
        row = rows[name.replace(" ", "_")]
        assert balanced_accuracy == f"{float(row['test_balanced_accuracy']):.3f}"
        assert loss == f"{float(row['test_loss']):.3f}"
        assert millions == (f"{float(row['parameters']) / 1e6:.1f}" if row["parameters"] else "-")
        digits = 2 if name == "late" else 1
        assert epoch_s == (f"{float(row['epoch_s']):.{digits}f}" if row["epoch_s"] else "-")


def test_what_the_zoo_says_is_its_reports() -> None:
    """README's paragraph on the zoo, claim by claim."""
    words = {10: "ten", 13: "thirteen", 14: "fourteen", 19: "nineteen"}
    statistics = json.loads(committed("reports/zoo/statistics.json"))
    rows = csv.DictReader(committed("reports/zoo/comparison.csv").splitlines())
    millions = {row["model"]: float(row["parameters"] or 0) / 1e6 for row in rows}
    models = statistics["models"]
    paragraph = next(part for part in README.read_text().split("\n\n") if "reports/zoo/report.md" in part)
    paragraph = " ".join(paragraph.split())
    assert f"with {words[len(statistics['seeds'])]} seeds, late fusion by a perceptron" in paragraph
    assert statistics["reference"] == "late" and len(statistics["seeds"]) >= statistics["seeds_needed"]

    joint = fusions.names(*fusions.JOINT)
    worse = {name for name, model in models.items() if (model["contrast"] or {}).get("outcome") == "worse"}
    assert worse == {*joint, "late_finetuned", "rgb", "lidar"}
    assert f"than all {words[len(set(joint) - {'early'})]} intermediate ones" in paragraph
    tied = {name for name, model in models.items() if (model["contrast"] or {}).get("outcome") == "tied"}
    assert tied == {"late_linear", "late_product", "late_mean"} and statistics["margin"] == 0.01

    assert f"{millions['late']:.0f} million parameters" in paragraph
    sizes = [f"{millions[name]:.0f}" for name in joint]
    usual = max(sizes, key=sizes.count)
    assert f"where most others have {usual}," in paragraph and sizes.count(usual) > len(sizes) / 2

    paid = {name: model["single"]["outcome"] for name, model in models.items() if model["single"]}
    assert set(paid) == set(fusions.names(*fusions.KINDS)) and set(paid.values()) == {"better", "not decided"}
    assert statistics["single"] == "lidar" and "Against LiDAR alone" in paragraph
    undecided = sorted(name.replace("_", " ") for name in paid if paid[name] == "not decided")
    assert f"{words[len(paid) - len(undecided)]} of {words[len(paid)]}; for " in paragraph
    assert f"for {', '.join(undecided[:-1])} and {undecided[-1]} it is not decided" in paragraph
    last = statistics["last_epoch_best"]
    assert min(last[name] for name in ("rgb", "lidar", *joint)) > 5


@pytest.mark.parametrize("folder", ["reports", "reports/zoo"])
def test_report_stays_readable(folder: str) -> None:
    """Its length, the size of its figures, and that none is missing."""
    reports = README.parent / folder
    report = (reports / "report.md").read_text()
    assert len(report.splitlines()) <= 1000
    images = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", report)
    assert {Path(image).name for _, image in images} == {path.name for path in reports.glob("figures/*.png")}
    for description, image in images:
        assert len(description) > 10
        assert (reports / image).stat().st_size < 200_000, image


def test_links_and_files_exist() -> None:
    text = README.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target
    tree = text.split("## What lies where")[1].split("```")[1]
    folder = ""
    for line in tree.strip().splitlines():
        entry = re.split(r"\s{2,}", line.strip())[0]
        names = re.findall(r"[\w/]+\.(?:py|yaml)|\w[\w/]*/", entry)
        if line[0] != " ":
            folder = names[0] if names[0].endswith("/") else ""
            assert (README.parent / names[0]).exists(), names[0]
        else:
            for name in names:
                assert (README.parent / folder / name).exists(), name
