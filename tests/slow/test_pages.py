"""The pages are true: their commands run, their links lead somewhere, README's numbers are the report's."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import re
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pypcd4 import PointCloud
from support import kitti
from support.datasets import range_image, stored_as, to_xyz, write_dataset, write_detections, write_raw
from support.processes import end, start, work_off_queue
from support.project import ROOT, Project, committed

from stages.lib import fusions
from stages.lib.core.names import SENSORS
from stages.lib.datasets import synthetic

README = ROOT / "README.md"
# Every page with commands, in the order in which the test runs them; a file and a text in it that show that they ran.
PAGES = {
    "README.md": ("reports/report.md", "Intermediate Fusion (Minimum)"),
    "docs/predict.md": ("predictions.metrics.json", '"each_seed"'),
    "docs/onnx.md": ("run_onnx.py", "onnxruntime"),
    "docs/app.md": ("data/compared/metadata.json", '"mistakenness"'),
    "docs/own-data.md": ("data/tensors/manifest.json", '"source": "data/pairs"'),
    "docs/experiments.md": ("reports/notebook/report.md", "make notebook"),
    "docs/statistics.md": ("models/rgb/seed-52.json", '"seed": 52'),
    "docs/tracking.md": ("params.yaml", "backend: tensorboard"),
    "docs/larger.md": ("reports/timing/train-rgb.json", '"backend": "dask"'),
}
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
ACTIVATE = ". .venv/bin/activate"
# `make test` runs these tests; the environment is active already, and has the trackers.
SKIPPED = {"make test", ACTIVATE, "pip install -r requirements-track.txt"}
NEED_ONNX = {"python -m scripts.export_onnx late late.onnx", "python run_onnx.py"}
# Whether to install them is for whoever runs the tests to decide.
SKIPPED |= {"python -m pip install -r requirements-deploy.txt"}
if importlib.util.find_spec("onnxruntime") is None:
    SKIPPED |= NEED_ONNX
# One new seed shows the same as four.
SEEDS = ("seeds=[51,52,53,54,55,56,57,58]", "seeds=[0,51,52]")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def commands(page: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in (line.split(" # ")[0].strip() for line in lines) if line and line[0] != "#"]


def prose(page: str) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S))


def anchors(page: str) -> set[str]:
    """The names by which links reach the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write_code(project: Project) -> None:
    """Each block of Python names its file in its first line."""
    for code in [code for page in PAGES for code in blocks(page, "python")]:
        name = re.match(r"# (\S+\.py)\n", code)
        assert name
        project.path(name.group(1)).write_text(code)


def write_data(project: Project) -> None:
    """A dataset, or raw files, for each layout that docs/own-data.md has a command for."""
    angles = synthetic.angles_rad(24).tolist()
    info = {"azimuth": angles, "zenith": angles}

    def write_range(number: int, path: Path) -> Path:
        np.save(path.with_suffix(".npy"), range_image(number))
        return path.with_suffix(".npy")

    def without_label(number: int, rgb: Any, scan: Any) -> None:
        rgb["ground_truth"] = scan["ground_truth"] = None

    write_dataset(project.path("data/mine"))
    write_dataset(project.path("data/new"), mode="RGBA", change=without_label)
    write_dataset(project.path("data/points"), change=stored_as("points", to_xyz))
    write_dataset(project.path("data/ranges"), change=stored_as("range_m", lambda image: image), info=info)
    write_dataset(project.path("data/files"), write_scan=write_range, info=info)
    write_raw(project.path("raw"), {"cubes": range(12), "spheres": range(12)})
    kitti.write_kitti(project.path("kitti"), 12)
    kitti.write_mapping(project.path("kitti/mapping"), [f"drive{number // 2}" for number in range(12)])
    write_detections(project.path("data/frames"))
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


def wait_for_line(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout
    lines = list(itertools.takewhile(lambda line: not line.startswith(beginning), process.stdout))
    assert process.poll() is None, "".join(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.sweep
def test_commands_run_in_their_order(clone: Project) -> None:
    """All commands of all pages, in a tiny clone whose environment is the tests' own."""
    write_code(clone)
    write_data(clone)
    clone.run("python", "write_dataset.py")
    clone.path(".venv/bin").mkdir(parents=True)
    clone.path(".venv/bin/activate").touch()
    clone.path(".venv/.ready").touch()
    port = free_port()
    ran = set(SKIPPED)
    background = []
    for page, (file, text) in PAGES.items():
        # A reader may start with any page.
        clone.run("git", "checkout", "--", "params.yaml")
        for command in commands(page):
            if command in ran:  # on an earlier page
                continue
            ran.add(command)
            command = command.replace(":8786", f":{port}").replace(*SEEDS)
            command = command.replace("--port 8786", f"--port {port} --no-dashboard")
            if "dataset.lidar" in command or "data/course" in command:
                # The layout makes no difference once the tensors are written: training on each would prove nothing.
                command = command.replace("headline report", "export")
            if "dataset." in command:
                clone.run("git", "checkout", "--", "params.yaml")  # as the page says
            if command == "dvc queue start -j 2":
                work_off_queue(clone, 2)
            elif command == "make app":
                app = start(clone, [*shlex.split(command), f"PORT={free_port()}"])
                wait_for_line(app, "the App is at ")
                end(app)  # a later command needs its database
            elif command.startswith(("dask ", "tensorboard ")):
                background.append(start(clone, shlex.split(command)))
            else:
                clone.run(*shlex.split(command))
        assert text in clone.text(file), page
    for process in background:
        end(process)


def test_every_page_with_commands_is_run() -> None:
    """A page of docs/ with commands starts with the environment; README links to every page."""
    with_commands = [page for page in DOCS if commands(page)]
    assert {"README.md", *with_commands} == set(PAGES)
    assert all(commands(page)[0] == ACTIVATE for page in with_commands)
    assert all(f"]({page})" in README.read_text() for page in DOCS)
    assert len({command for page in PAGES for command in commands(page)}) >= 35


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


def test_answer_is_the_reports() -> None:
    """README's paragraph on the built-in dataset, claim by claim."""
    statistics = json.loads(committed("reports/statistics.json"))
    models = statistics["models"]
    text = " ".join(README.read_text().split())
    assert (statistics["reference"], statistics["single"]) == ("late", "rgb")
    assert models["late"]["single"]["outcome"] == "better"
    gain = f"{100 * models['late']['single']['difference']:.1f}"
    assert f"late fusion is {gain} points of balanced accuracy above RGB alone" in text
    contrasts = {name: model["contrast"] for name, model in models.items() if model["contrast"]}
    assert "every other fusion is significantly better than RGB" in text
    assert all(models[name]["single"]["outcome"] == "better" for name in contrasts)
    outcomes = {name: contrast["outcome"] for name, contrast in contrasts.items()}
    assert outcomes == {"concatenation": "tied", "addition": "tied", "hadamard": "not decided"}
    assert "Concatenation and addition are tied with it, within three points" in text
    below = f"{-100 * contrasts['hadamard']['difference']:.1f}"
    assert f"for the Hadamard product, {below} points lower, four seeds do not decide" in text
    assert len(statistics["seeds"]) == 4 and statistics["margin"] == 0.03


def test_what_the_zoo_says_is_its_reports() -> None:
    """README's list of what the zoo found, claim by claim."""
    words = {3: "three", 6: "six", 8: "eight", 11: "eleven", 19: "nineteen"}
    statistics = json.loads(committed("reports/zoo/statistics.json"))
    table = list(csv.DictReader(committed("reports/zoo/comparison.csv").splitlines()))
    rows = {row["model"]: row for row in table}
    models = statistics["models"]
    section = README.read_text().split("\n## All fusions compared\n")[1].split("\n## ")[0]
    paragraph = " ".join(section.split())
    # Those of the report: a fusion that is added is not in it yet.
    compared = [name for name, model in models.items() if model["kind"] in fusions.KINDS]
    accuracies = {name: accuracy_of(models[name]) for name in ("lidar", *compared)}

    assert f"all of them with {words[len(statistics['seeds'])]} seeds" in paragraph
    assert statistics["single"] == "lidar" and statistics["split"] == "test"
    assert f"has a balanced accuracy of {accuracies.pop('lidar'):.3f} alone" in paragraph
    assert all(models[name]["single"]["outcome"] == "better" for name in compared)
    ends = f"{min(accuracies.values()):.3f} to {max(accuracies.values()):.3f}"
    assert f"The {words[len(compared)]} fusions have {ends}, and all are significantly better" in paragraph

    reference = statistics["reference"]
    assert f"`{reference}` has the lowest validation loss, and {accuracies[reference]:.3f}." in paragraph
    contrasts = {name: models[name]["contrast"] for name in compared if name != reference}
    tied = [name for name, contrast in contrasts.items() if contrast["outcome"] == "tied"]
    named = [f"`{name}`" if "_" in name else name for name in tied]
    within = f"within {words[round(100 * statistics['margin'])]} points"
    assert f"Tied with it, {within}: {', '.join(named[:-1])} and {named[-1]}" in paragraph
    same = [name for name, c in contrasts.items() if c["outcome"] == "not decided" and c["p"] is None]
    assert same == ["late_mean"] and contrasts["late_mean"]["difference"] == 0
    assert "`late_mean` is as accurate on every scene" in paragraph
    worse = [-100 * c["difference"] for c in contrasts.values() if c["outcome"] == "worse"]
    assert len(worse) + len(tied) + len(same) == len(contrasts)
    assert (
        f"The {words[len(worse)]} others are significantly worse, by {min(worse):.1f} to {max(worse):.1f} points"
        in paragraph
    )
    assert f"{words[1 + len(tied) + len(same)].capitalize()} fusions are in front" in paragraph

    millions = {name: f"{float(row['parameters'] or 0) / 1e6:.0f}" for name, row in rows.items()}
    assert (
        f"{millions['late']} million parameters, where addition has {millions['addition']} million"
        in paragraph
    )
    variants = json.loads(committed("reports/zoo/variants.json"))
    matched = variants["matched"]
    sizes = [model["here"]["parameters"] for model in matched["models"].values()]
    assert max(sizes) < 1.01 * min(sizes) and matched["reference"] == "late"
    assert f"each of late fusion's two networks has {max(sizes) / 2e6:.0f} million" in paragraph
    others = {name: model["contrast"] for name, model in matched["models"].items() if name != "late"}
    assert {contrast["outcome"] for contrast in others.values()} == {"worse"}
    assert set(others) <= set(fusions.names("intermediate"))
    intermediate = f"all {words[len(others)]} intermediate fusions there"
    assert f"`late` is the reference, and significantly better than {intermediate}" in paragraph

    latest = [
        c for c in variants["fuse_after"]["contrasts"] if c["later"] == variants["fuse_after"]["main"] == 3
    ]
    assert len(latest) == 4 and {contrast["outcome"] for contrast in latest} == {"better"}
    p_values = [contrast["p_holm"] for contrast in latest]
    assert f"p is {min(p_values):.3f} to {max(p_values):.3f}" in paragraph

    networks = [*SENSORS, *(name for name in compared if not fusions.spec(name).has_frozen_nets)]
    last = sum(statistics["last_epoch_best"][name] for name in networks)
    trainings = len(networks) * len(statistics["seeds"])
    assert f"In {last} of {trainings} trainings of a network, the last of eight epochs" in paragraph


def test_what_the_learning_curve_says_is_its_reports() -> None:
    curve = json.loads(committed("reports/learning-curve/learning_curve.json"))
    text = " ".join(README.read_text().split())
    outcomes = {}
    for size in curve["shares"]:
        claims = size["against_reference"]
        assert {claim["model"] for claim in claims} == {"concatenation", "addition", "hadamard"}
        assert size["reference"] == "late"
        outcomes[round(size["training_groups"])] = {claim["outcome"] for claim in claims}
    assert outcomes == {176: {"worse"}, 350: {"worse"}, 700: {"tied", "not decided"}}
    *few, all_groups = outcomes
    sizes = " and ".join(map(str, few))
    assert f"With {sizes} training groups, late fusion is significantly better than the three others" in text
    assert f"with all {all_groups}, no fusion is shown to lead" in text
    assert [change["what"] for change in curve["changes"]] == [
        f"late less {name}" for name in ("concatenation", "addition", "hadamard")
    ]
    assert {change["claim"]["outcome"] for change in curve["changes"]} == {"not decided"}
    assert "Whether its distance from them depends on the number of groups is open" in text


def test_what_tune_says_is_its_reports() -> None:
    tuning = json.loads(committed("reports/tune/tune.json"))
    text = " ".join(README.read_text().split())
    models = tuning["models"].values()
    outcomes = {model["gain"].get("outcome") for model in models if not model["is_same"]}
    assert outcomes == {"tied", "not decided", None}, "None: of a sensor, which is not tested"
    before, after = (tuning["fronts"][run]["names"] for run in ("default", "tuned"))
    assert len(before) == 8
    assert [name for name in after if name not in before] == ["weighted_sum"] and set(before) < set(after)
    assert not any(tuning["failed"].values())
    assert "No fusion is shown to be better or worse with them: the eight in front stay there" in text
    assert "and `weighted_sum` joins them" in text
    with_weights = [model for model in models if model["has_weights"]]
    assert len(with_weights) == 20
    assert sum("highest learning rate" in model["edges"] for model in with_weights) == 11
    assert "Eleven of 20 models with weights chose the highest learning rate" in text


def accuracy_of(model: dict[str, Any]) -> float:
    return float(model["metrics"]["test"]["balanced_accuracy"]["mean"])


@pytest.mark.parametrize("folder", ["reports", "reports/zoo", "reports/tune", "reports/learning-curve"])
def test_report_stays_readable(folder: str) -> None:
    """Its length, the size of its figures, and that none is missing."""
    reports = ROOT / folder
    pages = [page.read_text() for page in sorted(reports.glob("*.md"))]
    assert all(len(page.splitlines()) <= 1000 for page in pages)
    images = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", "\n".join(pages))
    figures = {path.name for pattern in ("*.png", "figures/*.png") for path in reports.glob(pattern)}
    assert {Path(image).name for _, image in images} == figures
    for description, image in images:
        assert len(description) > 10
        assert (reports / image).stat().st_size < 200_000, image


def test_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) < 200


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *DOCS])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            path = ((ROOT / page).parent / name if name else ROOT / page).resolve()
            assert path.exists(), target
            assert not anchor or anchor in anchors(path.relative_to(ROOT).as_posix()), target


def test_tree_is_the_folders() -> None:
    """README's tree: what it names exists, and it names every stage and every room."""
    tree = README.read_text().split("## Where things are")[1].split("```")[1]
    named, folder = set(), ""
    for indent, name in re.findall(r"^(  )?(\w\S*)", tree, re.M):
        folder = folder if indent else name
        named.add(folder + name if indent else name)
    for name in named:
        assert (ROOT / name).exists(), name
    assert {f"stages/lib/{path.parent.name}/" for path in ROOT.glob("stages/lib/*/__init__.py")} <= named
    stages = tree.split("in this order:")[1].split("stages/lib/")[0].replace(",", " ").split()
    assert sorted(stages) == sorted(path.stem for path in ROOT.glob("stages/*.py") if path.stem != "__init__")
