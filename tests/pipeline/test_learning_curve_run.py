"""`make learning-curve` as a user types it, in a clone of the tiny run."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from support.project import Project


@pytest.mark.sweep
def test_learning_curve(clone: Project) -> None:
    """Two sizes train; the largest is the committed run, whose stages come from the cache."""
    for name in (".venv/bin/activate", ".venv/.ready"):  # `make` uses the environment of these tests
        clone.path(name).parent.mkdir(parents=True, exist_ok=True)
        clone.path(name).touch()
    settings = "SET=seeds=[0,51] intermediate=[addition]"
    output = clone.run("make", "learning-curve", settings, timeout=1800).stdout
    assert "wrote reports/learning-curve/report.md" in output
    assert clone.changed_files() == []
    stages = Counter(re.findall(r"Running stage '([^']+)'", output))
    for model in ("unimodal@rgb", "unimodal@lidar", "intermediate@addition", "late@late"):
        assert stages[f"train_{model}"] == stages[f"evaluate_{model}"] == 2
    assert stages["export"] == stages["synthesize"] == 0
    found = json.loads(clone.text("reports/learning-curve/learning_curve.json"))
    quarter, half, whole = found["shares"]
    assert 0 < quarter["training_groups"] < half["training_groups"] < whole["training_groups"] == 20
    committed = json.loads(clone.text("reports/statistics.json"))["models"]
    for name, model in whole["models"].items():
        assert model["by_seed"] == committed[name]["metrics"]["test"]["balanced_accuracy"]["values"]
    assert [change["what"] for change in found["changes"]] == ["late less addition"]
    page = clone.text("reports/learning-curve/report.md")
    assert "\n`make learning-curve` in a clone at the Git revision that trained: " in page
    assert "**Nothing can be claimed with 2 seeds:**" in page and "dataset.path=data/synthetic" in page
    assert clone.path("reports/learning-curve/learning_curve.png").stat().st_size < 200_000
