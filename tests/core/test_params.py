"""params.yaml: every wrong setting is an error that names the key and its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.studies import notebook, parameters
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.params import ConditionField


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
        (
            "  per_model: {}",
            "  per_model: {addition: {learning_rat: 0.1}}",
            r"unknown key 'train\.per_model\.addition\.learning_rat' \(did you mean 'learning_rate'\?\)",
        ),
        (
            "  per_model: {}",
            "  per_model: {addition: {weight_decay: -1}}",
            r"'train\.per_model\.addition\.weight_decay' is -1",
        ),
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("weather", r"'dataset\.condition_fields' is 'weather': .*a list of fields"),
        (["weather", "weather"], r"it names weather twice"),
        (["weather", {"weather": [1]}], r"it names weather twice"),
        (
            [{"distance_m": [20, 10]}],
            r"ascending edges as distance_m: \[10, 20\]; not {'distance_m': \[20, 10\]}",
        ),
        ([{"distance_m": []}], r"ascending edges"),
        ([{"distance_m": [1, 1]}], r"ascending edges"),
        ([{"distance_m": 10}], r"ascending edges"),
        ([{"distance_m": [True]}], r"ascending edges"),
        ([{"distance_m": [float("inf")]}], r"ascending edges"),
        ([{"a": [1], "b": [2]}], r"an entry is a field's name"),
        ([3], r"an entry is a field's name, .*not 3"),
        ([" "], r"an entry is a field's name"),
    ],
)
def test_wrong_condition_fields_are_named(
    edit_params: Callable[..., Path], fields: object, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        params.load(edit_params(dataset__condition_fields=fields))
    assert "\n" not in str(caught.value) and "dataset.condition_fields" in str(caught.value)


def test_condition_fields_are_set_on_the_command_line(tmp_path: Path) -> None:
    """As `-S` writes them."""
    shutil.copy2("params.yaml", tmp_path)
    parameters.apply(["dataset.condition_fields=[weather,{distance_m:[10,20.5]},'Straße']"], tmp_path)
    dataset = params.load(tmp_path / "params.yaml").dataset
    expected = [ConditionField("weather", None), ConditionField("distance_m", (10.0, 20.5))]
    assert dataset.condition_fields == [*expected, ConditionField("Straße", None)]
    assert replace(dataset, path="data/mine").condition_fields == dataset.condition_fields
    parameters.apply(["dataset.condition_fields=[]"], tmp_path)
    assert params.load(tmp_path / "params.yaml").dataset.condition_fields == []


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
    for settings in (["fusion=addition"], notebook.SETTINGS, ["evaluate.severities=[2]"], ["seeds=[1,2]"]):
        parameters.apply(settings, tmp_path)
        changed = params.load(tmp_path / "params.yaml")
    assert changed.seeds == [1, 2] and changed.evaluate.severities == [2]
    assert changed.evaluate.corruptions == params.load().evaluate.corruptions
