"""The benchmarks run, at sizes that prove nothing but that, and write the figures that they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_export(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/export.py", "--groups", "60", "30", "--rounds", "1"]
    command += ["--json", str(tmp_path / "f")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f").read_text())
    assert list(figures["groups_per_s"]) == list(figures["fiftyone_import_s"]) == ["30", "60"]
    assert all(rate > 0 for rate in figures["groups_per_s"].values())
    assert figures["peak_mib"] > 100 and figures["plain_loop_ratio"] > 0
    assert isinstance(figures["exponent"], float)
    # At the default size, whatever the number of groups: 64 x 64 x (4 bytes of colour + 4 x 4 of LiDAR).
    assert 64 * 64 * 20 / 1000 < figures["kilobytes_per_group"] < 90
    assert "| 30 " in done.stdout and "FiftyOne's import (s)" in done.stdout
