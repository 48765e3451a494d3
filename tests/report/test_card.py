"""Model cards, as their readers parse them."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.test_report import CONCATENATION_WINS, Results, render
from ruamel.yaml import YAML

from stages.lib.params import OwnSettings


def parse(name: str) -> tuple[dict, str]:
    """Head and text of a card: the head lies between the first two lines of three dashes."""
    first, head, text = Path(f"reports/cards/{name}.md").read_text().split("---\n", 2)
    assert first == ""
    return YAML(typ="safe").load(head), text


def test_head_has_what_hubs_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = render(Results(CONCATENATION_WINS, num_seeds=3), tmp_path, monkeypatch)
    assert sorted(path.stem for path in Path("reports/cards").iterdir()) == sorted(CONCATENATION_WINS)
    for name in CONCATENATION_WINS:
        head, text = parse(name)
        assert {"library_name", "pipeline_tag", "tags", "metrics", "model-index"} == set(head)
        (entry,) = head["model-index"]
        (result,) = entry["results"]
        assert entry["name"] == name and set(result) == {"task", "dataset", "metrics"}
        assert result["dataset"]["split"] == "test" and result["task"]["type"] == "image-classification"
        accuracy = next(found for found in result["metrics"] if found["type"] == "balanced_accuracy")
        row = next(line for line in report.splitlines() if line.startswith(f"| {name} "))
        assert f"{accuracy['value']:.3f} (" in row
        assert f"| Balanced accuracy           | {accuracy['value']:.3f} (" in text
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## What it is",
            "## Data",
            "## Results",
            "## When a sensor fails",
            "## By condition",
            "## Calibration",
            "## Limits",
            "## Use",
        ]


def test_a_single_sensor_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render(Results(CONCATENATION_WINS, num_seeds=3), tmp_path, monkeypatch)
    failures = parse("rgb")[1].split("## When a sensor fails")[1].split("## ")[0]
    assert "| RGB fails" in failures and "| One of the two fails" not in failures


def test_names_of_users_do_not_break_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that YAML would read as false or as a mapping, and that Markdown would read as a table."""
    classes = ("no", "a: b", "x|y")
    render(Results(CONCATENATION_WINS, num_seeds=3, classes=classes), tmp_path, monkeypatch)
    head, text = parse("late")
    assert head["model-index"][0]["name"] == "late"
    assert r"- Classes: no, a: b, x\|y." in text


def test_failed_seeds_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(CONCATENATION_WINS, num_seeds=4, diverged=("addition", 2))
    render(results, tmp_path, monkeypatch)
    assert "**Seeds that failed to learn: 2.**" in parse("addition")[1]
    assert "failed to learn" not in parse("late")[1]


def test_a_single_seed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render(Results(CONCATENATION_WINS, num_seeds=1), tmp_path, monkeypatch)
    assert "With 1 seed, nothing can be claimed" in parse("late")[1]


def test_how_it_was_trained_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late fusion trains its head alone, in other steps than all networks."""
    render(Results(CONCATENATION_WINS, num_seeds=3), tmp_path, monkeypatch)
    data = {name: parse(name)[1].split("## Data")[1].split("## ")[0] for name in ("late", "addition")}
    assert "a head over the networks of [rgb](rgb.md) and [lidar](lidar.md)" in data["late"]
    assert "fewer than 1,400 steps" in data["late"] and "learning rate 0.04 " in data["late"]
    assert "a head over" not in data["addition"] and "learning rate 0.0012 " in data["addition"]


def test_a_models_own_settings_are_told_as_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "addition": OwnSettings(learning_rate=0.0004, weight_decay=0.1),
        "late": OwnSettings(learning_rate=0.02),
    }
    render(Results(CONCATENATION_WINS, num_seeds=3, per_model=own), tmp_path, monkeypatch)
    data = {name: parse(name)[1].split("## Data")[1].split("## ")[0] for name in ("late", "addition", "rgb")}
    assert "learning rate 0.0004 " in data["addition"] and "weight decay 0.1" in data["addition"]
    assert "learning rate 0.02 " in data["late"]
    assert "learning rate 0.0012 " in data["rgb"] and "weight decay" not in data["rgb"]
    report = Path("reports/report.md").read_text()
    assert "addition: learning rate 0.0004 and weight decay 0.1; late: learning rate 0.02" in report
