"""The README is true: its commands run, its code works, its figures are the report's."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

from builders import write_dataset
from conftest import Project

README = Path(__file__).parent.parent / "README.md"
# Not run from within the tests, which are run by them.
SKIPPED = {"make test", ". .venv/bin/activate"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in (line.split(" # ")[0].strip() for line in lines) if line]


def test_commands_run_in_their_order(clone: Project, tmp_path: Path) -> None:
    """All commands of the page, in a tiny clone whose environment is the tests' own."""
    write_dataset(clone.path("data/mine"))
    clone.path(".venv/bin").mkdir(parents=True)
    clone.path(".venv/bin/activate").touch()
    clone.path(".venv/.ready").touch()
    (code,) = blocks("python")
    name = re.match(r"# (stages/lib/fusions/\w+\.py)\n", code)
    assert name
    clone.path(name.group(1)).write_text(code)
    found = commands()
    assert len(found) >= 11
    for command in found:
        if command not in SKIPPED:
            clone.run(*shlex.split(command))
    assert "Intermediate Fusion (Maximum)" in clone.text("reports/report.md")
    assert clone.path("reports/notebook/report.md").is_file()
    clone.run("dvc", "queue", "stop")


def test_result_is_the_reports() -> None:
    with (README.parent / "reports" / "comparison.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    text = README.read_text()
    lines = re.findall(r"^\| (\w[\w ]*?) +\| ([\d.]+) +\| ([\d.]+) +\|", text, re.M)
    assert {name for name, _, _ in lines} == {name.replace("_", " ") for name in rows}
    for name, balanced_accuracy, loss in lines:
        row = rows[name.replace(" ", "_")]
        assert balanced_accuracy == f"{float(row['test_balanced_accuracy']):.3f}"
        assert loss == f"{float(row['test_loss']):.3f}"


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
