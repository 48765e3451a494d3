"""params.yaml: every wrong setting is an error that names the key and its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import preset_runs
from stages.lib import params
from stages.lib.core.errors import UserError


def test_the_committed_file_is_valid() -> None:
    settings = params.load()
    assert settings.model_names()[:2] == ["rgb", "lidar"]
    assert settings.fusion in settings.fusion_names()


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("  epochs: 5", "  epoch: 6", r"unknown key 'train\.epoch' \(did you mean 'epochs'\?\)"),
        ("  epochs: 5", "", r"missing key 'train\.epochs'"),
        ("  epochs: 5", "  epochs: six", r"'train\.epochs' is 'six'"),
        ("  epochs: 5", "  epochs: 0", r"'train\.epochs' is 0: .*greater than or equal to 1"),
        ("  epochs: 5", "  epochs: 2.5", r"'train\.epochs' is 2\.5"),
        ("  schedule: one-cycle", "  schedule: triangle", r"'train\.schedule' is 'triangle'.*one-cycle"),
        ("    format: xyza", "    format: ply", r"'dataset\.lidar\.format' is 'ply'.*xyza"),
        ('  class_balance: "1:1"', "  class_balance: even", r"'synthetic\.class_balance' is 'even'"),
        ("  path: data/synthetic", '  path: ""', r"'dataset\.path' is empty|'dataset\.path' is ''"),
        ("evaluate:", "evaluation:", r"unknown key 'evaluation'.*evaluate"),
        ("      blur: 0.5 1.0", "      blur: 1.0", r"'evaluate\.corruptions\.rgb\.blur' is .*five numbers"),
        (
            "      blur: 0.5",
            "      blur: 0.0",
            r"'evaluate\.corruptions\.rgb\.blur\.0' is 0\.0: .*greater than 0",
        ),
        ("      noise: 0.04", "      noise: some", r"'evaluate\.corruptions\.rgb\.noise' is .*five numbers"),
        (
            "  failure_rates: 0.1 0.25",
            "  failure_rates: 0.5 0.25",
            r"'evaluate\.failure_rates' is .*ascending numbers",
        ),
        (
            "  failure_rates: 0.1",
            "  failure_rates: 0.0",
            r"'evaluate\.failure_rates\.0' is 0\.0: .*greater than 0",
        ),
        ("      late_scan: 1 2", "      late_scan: 1 2.5", r"late_scan\.1' is 2\.5: .*multiple of 1"),
        ("fusion: concatenation", "fusion: [", r"line \d+: not valid YAML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, replacement: str, message: str) -> None:
    text = Path("params.yaml").read_text()
    assert line in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(line, replacement, 1))
    with pytest.raises(UserError, match=message) as caught:
        params.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["seeds", "unimodal", "intermediate", "late"])
def test_empty_lists_are_named(edit_params: Callable[..., Path], key: str) -> None:
    with pytest.raises(UserError, match=f"'{key}' is empty"):
        params.load(edit_params(**{key: []}))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found; run from the project's root"):
        params.load(tmp_path / "params.yaml")


def test_a_ratio_is_text_and_not_a_time_of_day(edit_params: Callable[..., Path]) -> None:
    """YAML 1.1 would read 3:20 as 200."""
    path = edit_params(synthetic__class_balance="1:1")
    path.write_text(
        path.read_text().replace('"1:1"', "3:20").replace("class_balance: 1:1", "class_balance: 3:20")
    )
    assert params.load(path).synthetic.class_balance == "3:20"


def test_settings_can_be_written_again_and_again(tmp_path: Path) -> None:
    """`--set-param` rewrites the file; a list in brackets with a comment after it would break the second time."""
    shutil.copy2("params.yaml", tmp_path)
    for settings in (["fusion=addition"], preset_runs.NOTEBOOK, ["evaluate.severities=[2]"], ["seeds=[1,2]"]):
        preset_runs.apply(settings, tmp_path)
        changed = params.load(tmp_path / "params.yaml")
    assert changed.seeds == [1, 2] and changed.evaluate.severities == [2]
    assert changed.evaluate.corruptions == params.load().evaluate.corruptions
