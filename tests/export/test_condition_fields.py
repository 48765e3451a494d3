"""Conditions of the groups: from fields of a FiftyOne dataset to manifest and table of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.datasets import fo, write_dataset

from stages.lib.core.errors import UserError
from stages.lib.export import conditions
from stages.lib.params import ConditionField
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Condition, Manifest

UNICODE = "Straße & Ort"


def change(number: int, rgb: fo.Sample, scan: fo.Sample) -> None:
    """Group 0 to 29: numbers 3 and 4 modulo 5 are validation and test groups, all others training groups."""
    rgb["weather"] = "rain" if number % 2 else "sun"
    rgb["night"] = number < 10
    scan["road"] = fo.Classification(label=f"road {number % 2}", confidence=0.5)
    rgb["distance_m"] = float(number)
    rgb["speed"] = number
    rgb["place"] = f"place {number % 20:02d}"
    rgb[UNICODE] = "Öde | $5" if number % 3 else None
    rgb["driver"] = "Ann" if number == 7 else "Bob"
    scan["driver"] = "Bob"
    rgb["empty"] = " "


WANTED: list[object] = [
    "weather",
    "night",
    "road",
    {"distance_m": [10, 20.5]},
    "speed",
    "place",
    UNICODE,
    "driver",
    "ground_truth",
    "returns",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("conditions") / "data", change=change)


def by_name(manifest: Manifest) -> dict[str, Condition]:
    return {condition.name: condition for condition in manifest.conditions}


def number_of(group: stored_groups.CachedGroup) -> int:
    return int(group.group.rsplit("/", 1)[-1])


def test_fields_of_every_type_arrive(folder: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(folder, dataset__condition_fields=WANTED)
    assert manifests.load(manifests.FOLDER) == manifest
    found = by_name(manifest)
    assert list(found) == [next(iter(field)) if isinstance(field, dict) else field for field in WANTED]
    test = {number_of(group): group.conditions for group in stored_groups.read(manifests.FOLDER, "test")}
    assert sorted(test) == [4, 9, 14, 19, 24, 29]
    nine = test[9] | {"returns": ""}
    assert nine == {
        "weather": "rain",
        "night": "true",
        "road": "road 1",
        "distance_m": "< 10",
        "speed": nine["speed"],
        "place": nine["place"],
        UNICODE: "not given",
        "driver": "Bob",
        "ground_truth": "cube",
        "returns": "",
    }
    assert test[14][UNICODE] == "Öde | $5" and found[UNICODE].values == ["Öde | $5", "not given"]
    assert [test[number]["distance_m"] for number in (14, 19, 24)] == ["10 to 20.5", "10 to 20.5", ">= 20.5"]
    assert found["distance_m"].edges == [10, 20.5]
    assert found["road"].slices == ["lidar_img"] and found["weather"].slices == ["rgb"]
    assert found["driver"].slices == ["lidar_img", "rgb"] and found["returns"].slices == []
    assert found["weather"].counts["test"] == {"rain": 3, "sun": 3}
    for condition in manifest.conditions:
        for split, counts in manifest.counts.items():
            assert sum(condition.counts[split].values()) == sum(counts.values())


def test_numbers_without_edges_are_cut_at_the_terciles_of_training(
    folder: Path, run_export: Callable[..., Manifest]
) -> None:
    """Training has the numbers 0, 1, 2, 5, 6, 7, ..., 25, 26, 27: six from 0 to 7, six to 17, six above."""
    manifest = run_export(folder, dataset__condition_fields=["speed", "returns"])
    speed = by_name(manifest)["speed"]
    assert speed.edges is not None and 7 < speed.edges[0] <= 10 and 17 < speed.edges[1] <= 20
    assert list(speed.counts["train"].values()) == [6, 6, 6]
    returns = by_name(manifest)["returns"]
    assert returns.edges is not None
    for group in stored_groups.read(manifests.FOLDER, "test"):
        place = int(np.searchsorted(returns.edges, group.returns, side="right"))
        assert group.conditions["returns"] == returns.values[place]


def test_what_deserves_a_warning(folder: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(folder, dataset__condition_fields=["place", "driver", "wether", "empty"])
    places = by_name(manifest)["place"]
    assert list(by_name(manifest)) == ["place", "driver"]
    # Ten of the twenty places come twice in training; of the others, the first by name.
    training = Counter(number % 20 for number in range(30) if number % 5 < 3)
    ranked = sorted(range(20), key=lambda place: (-training[place], -(place < 10), place))
    assert places.values == [*(f"place {place:02d}" for place in ranked[:11]), "other"]
    told = [warning for warning in manifest.warnings if "condition_fields" in warning]
    assert len(told) == 3, told
    assert any("'place'" in text and "20 different values; the 11 most frequent" in text for text in told)
    assert any(
        "'driver'" in text and "1 group, such as" in text and "slice 'rgb' counts" in text for text in told
    )
    driver = {
        number_of(group): group.conditions["driver"]
        for group in stored_groups.read(manifests.FOLDER, "train")
    }
    assert driver[7] == "Ann" and set(driver.values()) == {"Ann", "Bob"}
    (absent,) = (text for text in told if "no field 'wether', no value in field 'empty'" in text)
    assert "compared by them; fields with usable values are" in absent and "weather" in absent
    assert "xyza" not in absent and "filepath" not in absent


def test_conditions_can_be_left_out(folder: Path, run_export: Callable[..., Manifest]) -> None:
    manifest = run_export(folder, dataset__condition_fields=[])
    assert manifest.conditions == [] and not any("condition_fields" in text for text in manifest.warnings)
    assert all(not group.conditions for group in stored_groups.read(manifests.FOLDER, "train"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("xyza", r"field 'xyza' \(dataset.condition_fields\) holds a ArrayField; text, a number"),
        ({"weather": [1]}, r"field 'weather' holds '(sun|rain)' in group .* edges, which numbers need"),
    ],
)
def test_fields_that_cannot_divide_groups_are_refused(
    folder: Path, run_export: Callable[..., Manifest], wanted: object, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_export(folder, dataset__condition_fields=[wanted])
    assert "\n" not in str(caught.value)


def test_terciles_by_hand() -> None:
    assert conditions.terciles(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / 10) == [0.27, 0.43]
    # Counts are cut at whole numbers.
    assert conditions.terciles(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == [3, 5]
    # Nearly all the same: one bin below would be empty.
    assert conditions.terciles(np.array([0.0] * 8 + [1.0, 2.0, 3.0])) == []
    assert conditions.terciles(np.array([0.0] * 5 + [1.0, 2.0, 3.0, 4.0])) == [2]
    # Numbers that differ in late digits only keep as many as it takes.
    assert conditions.terciles(1_700_000_000 + np.arange(9.0)) == [1_700_000_003, 1_700_000_006]


def test_few_different_numbers_are_values() -> None:
    assert of_one([0.0, 1.0, 1.0, 2.0, None]) == (
        ["0", "1", "2", "not given"],
        ["0", "1", "1", "2", "not given"],
    )
    assert of_one([0.5, 0.5, "x"]) == (["0.5", "x"], ["0.5", "0.5", "x"])


def of_one(values: list[float | str | None]) -> tuple[list[str], list[str]]:
    groups = [stored_groups.CachedGroup("train", str(i), str(i), 0, 1, 1.0) for i in range(len(values))]
    found, of_groups, _ = conditions.divide(
        [ConditionField("x", None)], groups, [{"x": value} for value in values], {"x": ["rgb"]}
    )
    return found[0].values, [own["x"] for own in of_groups]
