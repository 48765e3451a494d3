"""Reads the settings of params.yaml as typed values; the only module that reads YAML.

Each class is one group of params.yaml; the comments there explain every key and its unit. A key that is unknown,
missing or of the wrong type is an error with the key's name and place.
"""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.core.errors import UserError

PATH = Path("params.yaml")

_group = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the first bound must not exceed the second")
    return bounds


def _numbers(text: object) -> tuple[float, ...]:
    """Numbers from a text. They are not a YAML list: DVC would write a line for each number into dvc.lock."""
    if isinstance(text, tuple):  # read before; `dataclasses.replace` validates again
        return text
    if isinstance(text, int | float) and not isinstance(text, bool):  # a single number is no text in YAML
        return (float(text),)
    try:
        return tuple(float(number) for number in text.split()) if isinstance(text, str) else ()
    except ValueError:
        return ()


def _five(text: object) -> tuple[float, ...]:
    numbers = _numbers(text)
    if len(numbers) != 5:
        raise ValueError("it takes five numbers, separated by spaces")
    return numbers


def _rates(text: object) -> tuple[float, ...]:
    rates = _numbers(text)
    if not rates or list(rates) != sorted(set(rates)):
        raise ValueError("it takes ascending numbers, separated by spaces")
    return rates


def _condition_fields(entries: object) -> object:
    """Each entry as a ConditionField: a field's name, or `name: [edges]`."""
    if not isinstance(entries, list):
        raise ValueError("it takes a list of fields, such as [weather]; [] for none")
    fields = [_condition_field(entry) for entry in entries]
    names = [field.name for field in fields]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"it names {', '.join(sorted(doubled))} twice")
    return fields


def _condition_field(entry: object) -> ConditionField:
    if isinstance(entry, ConditionField):  # read before; `dataclasses.replace` validates again
        return entry
    form = (
        f"an entry is a field's name, or a name with ascending edges as distance_m: [10, 20]; not {entry!r}"
    )
    name, edges = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, None)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(form)
    if not isinstance(entry, dict):
        return ConditionField(name, None)
    if not isinstance(edges, list) or not edges:
        raise ValueError(form)
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in edges):
        raise ValueError(form)
    if not all(map(math.isfinite, edges)) or edges != sorted(set(edges)):
        raise ValueError(form)
    return ConditionField(name, tuple(map(float, edges)))


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Azimuth = Annotated[float, Field(ge=-360, le=360)]
Zenith = Annotated[float, Field(ge=-90, le=90)]
# Names become names of files and stages, so they contain only characters that both allow.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Names = Annotated[list[Name], Field(min_length=1)]
Ascending = AfterValidator(_ascending)
Five = BeforeValidator(_five)
Strengths = Annotated[tuple[NotNegative, ...], Five]
Shares = Annotated[tuple[Fraction, ...], Five]
PositiveStrengths = Annotated[tuple[Positive, ...], Five]
Counts = Annotated[tuple[Annotated[float, Field(ge=1, multiple_of=1)], ...], Five]
Rates = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_rates)]


@_group
class RgbSource:
    slice: str
    max_value: Annotated[int, Field(ge=1, le=65535)] | None


@_group
class ViewAngles:
    azimuth: Annotated[tuple[Azimuth, Azimuth], Ascending]
    zenith: Annotated[tuple[Zenith, Zenith], Ascending]


@_group
class LidarSource:
    slice: str
    format: Literal["xyza", "xyz", "range", "npy", "pcd"]
    field: str | None
    axes: Literal["lidar", "forward-left-up", "camera"]
    unit: Literal["m", "cm", "mm"]
    angle_unit: Literal["rad", "deg"]
    max_range_m: Positive
    field_of_view_deg: ViewAngles | None
    orientation: Literal[
        "as-is",
        "rotate-90",
        "rotate-180",
        "rotate-270",
        "flip-rows",
        "flip-columns",
        "transpose",
        "anti-transpose",
    ]


@_group
class SplitTags:
    train: str
    validation: str
    test: str


@plain_dataclass(frozen=True)
class ConditionField:
    name: str
    edges: tuple[float, ...] | None  # of the bins of a number; None: its terciles


@_group
class Dataset:
    path: Annotated[str, Field(min_length=1)]
    label_field: str
    scene_field: str | None
    condition_fields: Annotated[list[ConditionField], BeforeValidator(_condition_fields)]
    rgb: RgbSource
    lidar: LidarSource
    splits: SplitTags
    test_fraction: Annotated[float, Field(ge=0, lt=1)]
    allow_external_media: bool


@_group
class RgbFailures:
    noise_std: Annotated[tuple[Fraction, Fraction], Ascending]
    dark_probability: Fraction
    dark_gain: Annotated[tuple[Positive, Positive], Ascending]


@_group
class LidarFailures:
    range_noise_m: NotNegative
    dropout: Annotated[tuple[Fraction, Fraction], Ascending]
    sparse_probability: Fraction
    sparse_dropout: Annotated[tuple[Fraction, Fraction], Ascending]
    blur_probability: Fraction
    blur_noise_m: Annotated[tuple[NotNegative, NotNegative], Ascending]
    partial_probability: Fraction
    partial_share: Annotated[tuple[Positive, Fraction], Ascending]


@_group
class SplitShares:
    train: Positive
    validation: Positive
    test: NotNegative


@_group
class Synthetic:
    seed: Seed
    groups: Annotated[int, Field(ge=12)]
    class_balance: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")]
    splits: SplitShares
    distance_m: Annotated[tuple[Positive, Positive], Ascending]
    radius_m: Annotated[tuple[Positive, Positive], Ascending]
    off_center_deg: NotNegative
    tilt_deg: NotNegative
    max_range_m: Positive
    crescent_probability: Fraction
    rgb: RgbFailures
    lidar: LidarFailures


@_group
class Export:
    image_size: Annotated[int, Field(ge=8, le=1024, multiple_of=8)]
    normalize: bool
    shard_groups: Count
    max_pixels: Count
    on_error: Literal["stop", "skip"]
    workers: Count | Literal["auto"]


@_group
class Network:
    unimodal_channels: tuple[Count, Count, Count]
    intermediate_channels: tuple[Count, Count, Count]
    hidden: tuple[Count, Count]
    late_hidden: Count
    fuse_after: Literal[1, 2, 3]
    downsample: Literal["maxpool", "stride"]
    match_parameters: bool
    init: Literal["pytorch", "lecun"]


@_group
class LateHead:
    epochs: Count
    min_steps: Annotated[int, Field(ge=0)]
    learning_rate: Positive


@_group
class OwnSettings:
    learning_rate: Positive | None = None
    weight_decay: NotNegative | None = None


@_group
class Augment:
    flip: Literal["none", "horizontal", "vertical", "both"]
    shift: Annotated[int, Field(ge=0)]
    sensor_dropout: Fraction


@_group
class Train:
    epochs: Count
    min_steps: Annotated[int, Field(ge=0)]
    batch_size: Count
    learning_rate: Positive
    schedule: Literal["constant", "cosine", "one-cycle"]
    weight_decay: NotNegative
    clip_norm: Positive | None
    patience: Count | None
    subsample: Annotated[float, Field(gt=0, le=1)]
    class_weights: Literal["none", "balanced"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    augment: Augment
    late: LateHead
    per_model: dict[Name, OwnSettings]
    precision: Literal["float32", "bfloat16"]
    tf32: bool
    compile: Literal["inductor", "aot_eager"] | None
    device: Literal["auto", "cpu", "cuda"]
    workers: Count | Literal["auto"]
    threads: Count
    backend: Literal["loky", "dask"]
    scheduler: Annotated[str, Field(min_length=1)] | None
    save_every_s: NotNegative


@_group
class RgbCorruptions:
    noise: Strengths
    darkness: Shares
    blur: PositiveStrengths
    contrast: Shares
    occlusion: Shares


@_group
class LidarCorruptions:
    dropout: Shares
    range_noise: Strengths
    lost_rows: Shares
    lost_sector: Shares
    shift: Strengths
    rotation: Strengths
    lost_beams: PositiveStrengths
    fog: PositiveStrengths
    rain: PositiveStrengths
    late_scan: Counts


@_group
class Corruptions:
    rgb: RgbCorruptions
    lidar: LidarCorruptions


@_group
class Evaluate:
    batch_size: Count
    missing: Literal["zeros", "mean"]
    failure_rates: Rates
    permutations: Annotated[int, Field(ge=0)]
    severities: list[Annotated[int, Field(ge=1, le=5)]]
    corrupted_groups: Count
    corruptions: Corruptions


@_group
class Report:
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    margin: Annotated[float, Field(gt=0, lt=1)]
    draws: Annotated[int, Field(ge=100)]


@_group
class Track:
    backend: Literal["none", "wandb", "mlflow", "tensorboard"]
    project: Annotated[str, Field(min_length=1)]
    mlflow_uri: Annotated[str, Field(min_length=1)] | None


@_group
class Params:
    """All of params.yaml."""

    fusion: Name
    seeds: Annotated[list[Seed], Field(min_length=1)]
    unimodal: Names
    intermediate: Names
    late: Names
    dataset: Dataset
    synthetic: Synthetic
    export: Export
    network: Network
    train: Train
    evaluate: Evaluate
    report: Report
    track: Track

    def model_names(self) -> list[str]:
        """All models, in the order of tables and figures."""
        return [*self.unimodal, *self.intermediate, *self.late]

    def fusion_names(self) -> list[str]:
        """The models that use both sensors."""
        return [*self.intermediate, *self.late]


def load(path: Path = PATH) -> Params:
    """Reads and validates params.yaml.

    Raises:
        UserError: when the file is missing or not valid, or a key is unknown, missing or of the wrong type.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise UserError(f"{path} not found; run from the project's root folder") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{place}: not valid YAML: {problem}") from None
    return parse(content, str(path))


def parse(content: object, source: str) -> Params:
    """Validates settings; `source` names their file in errors. Raises UserError as `load` does."""
    adapter = TypeAdapter(Params)
    try:
        # Through JSON, because strict validation of JSON accepts a list for a tuple and 1 for 1.0.
        return adapter.validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        problems = [_describe(problem, content) for problem in error.errors()]
        raise UserError(f"{source}: " + "; ".join(problems)) from None


def _describe(problem: ErrorDetails, content: object) -> str:
    """One line about a problem: place, value, and what is allowed."""
    *parents, last = problem["loc"] or ("the file",)
    place = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "unexpected_keyword_argument":
        known = _keys_at(parents)
        close = difflib.get_close_matches(str(last), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(known)}"
        return f"unknown key '{place}' ({hint})"
    if problem["type"] in ("missing", "missing_argument"):
        return f"missing key '{place}'"
    if problem["type"] == "too_short":
        return f"'{place}' is empty; it needs at least one entry"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"'{place}' is {problem['input']!r}: {message}"


def _keys_at(parents: list[int | str]) -> list[str]:
    """The keys of the group at this place in params.yaml."""
    schema = TypeAdapter(Params).json_schema()
    definitions = schema.get("$defs", {})
    group = schema
    for part in parents:
        # Where keys are any names, such as those of models, all entries have one form.
        named = group.get("patternProperties", {})
        group = next(iter(named.values())) if named else group["properties"][str(part)]
        if "$ref" in group:
            group = definitions[group["$ref"].rsplit("/", 1)[1]]
    return sorted(group["properties"])
