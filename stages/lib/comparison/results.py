"""What the comparison found: dataclasses, written to reports/statistics.json and read back as the same.

Only dataclasses and their file, so that who reads them imports no library for computing them. All of it repeats to
the last bit; measured seconds are elsewhere (`measured.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.lib.core.errors import UserError
from stages.lib.core.names import TITLES
from stages.lib.statistics.results import Contrast, Difference, Interval

PATH = Path("reports/statistics.json")
EITHER = "either"  # in place of a sensor's name: one of the two, equally often of each
# Who fails, in words.
FAILURES = {sensor: f"{title} fails" for sensor, title in TITLES.items()} | {EITHER: "one of the two fails"}


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of one model; None where it is not defined."""

    values: list[float | None]
    mean: float | None
    sd: float | None  # standard deviation over seeds
    low: float | None  # of the interval over seeds and scenes
    high: float | None
    seeds_low: float | None  # of Student's interval over seeds alone
    seeds_high: float | None


@dataclass(frozen=True)
class SensorUse:
    """How much balanced accuracy of a fusion comes from one sensor; means over seeds with Student's intervals."""

    lost_missing: Interval  # what it loses when the sensor is missing
    lost_shuffled: Interval | None  # when it shows other groups; None where this was not measured
    shapley: Interval
    is_ignored: bool  # whether neither changes its mean by the margin
    is_used: bool  # whether it loses by either: the interval of one loss lies above zero


@dataclass(frozen=True)
class CorruptionCurve:
    """Balanced accuracy under one corruption, mean over seeds."""

    severities: list[int]  # from 0, none
    accuracies: list[float]
    relative_area: float | None  # share of the accuracy above chance that is left; None for a model at chance
    area_low: float | None  # of its interval over seeds and scenes
    area_high: float | None
    num_groups: int  # that it comes from


@dataclass(frozen=True)
class FailureCurve:
    """Balanced accuracy where a sensor fails on a share of the samples, mean over seeds."""

    rates: list[float]  # from 0, none
    accuracies: list[float]
    low: list[float | None]  # of the interval over seeds and scenes
    high: list[float | None]


@dataclass(frozen=True)
class Reliability:
    """Bins of equal mass, all seeds' predictions together, from the least to the most confident."""

    confidence: list[float]  # mean in each bin
    accuracy: list[float]
    ece: float  # expected calibration error, mean over seeds


@dataclass(frozen=True)
class Calibration:
    """A model's reliability on the split that verdicts stand on."""

    temperatures: list[float]  # by seed; above 1, the model is too confident
    temperature: float  # their mean
    before: Reliability
    after: Reliability  # with logits divided by the temperature


@dataclass(frozen=True)
class ModelResult:
    """One model, or a baseline."""

    kind: str  # "unimodal", "early", "intermediate", "late" or "baseline"
    # None where a baseline has none; those of a late model include its nets'.
    parameters: int | None
    trainable_parameters: int | None
    weights_mib: float | None
    flops_m: float | None  # floating-point operations of one sample, in millions
    head_width: int | None  # units of the head's first layer; None for a late fusion
    metrics: dict[str, dict[str, Summary]]  # by split and metric
    beats_prior: bool | None  # None for the prior itself
    mean_below_prior: bool  # whether at least its mean loss is lower
    contrast: Contrast | None  # of a fusion with the reference; None for the reference itself
    single: Contrast | None  # of a fusion with the better single sensor
    failed_seeds: list[int]  # whose balanced accuracy is near chance: nothing is claimed about the model
    sensor_use: dict[str, SensorUse] | None  # of a fusion, by sensor
    curves: dict[str, dict[str, CorruptionCurve]]  # by sensor and corruption
    robustness: dict[str, Interval]  # by sensor: mean of the relative areas of all its corruptions
    failures: dict[str, FailureCurve]  # by the sensor that fails, and `EITHER`; empty for a baseline
    calibration: Calibration | None
    # Share of each true class (row) by predicted class, mean over seeds; None for a class that is absent.
    confusion: list[list[float | None]]
    verdict: str


@dataclass(frozen=True)
class ConditionValue:
    """The models on the groups of the split with one value of a condition."""

    condition: str
    value: str
    num_groups: int
    num_scenes: int
    withheld: str | None  # why nothing is claimed, such as `no cubes`; None where data are enough
    accuracies: dict[str, Interval]  # balanced accuracy by model; empty where a class is absent
    gains: dict[str, Contrast]  # of each fusion over the better single sensor; empty where data are too few


@dataclass(frozen=True)
class LabelError:
    """A sample whose label may be wrong: nets that are right on others agree on another class."""

    group: str
    split: str
    label: str
    suggested: str  # the other class
    mistakenness: float  # from 0 to 1, the likelier the higher
    agree: int  # nets that decide for the other class
    nets: int  # that judge the labels of the split


@dataclass(frozen=True)
class LabelCheck:
    """How the labels of a split were judged."""

    nets: int  # models x seeds that are right often enough to judge
    trained: int  # models x seeds in all
    found: int  # samples whose label may be wrong; at most 20 are listed


@dataclass(frozen=True)
class Comparison:
    """All models on one dataset."""

    split: str  # that the verdicts stand on: "test", or "validation" where there is no test split
    reference: str  # the fusion with the least mean validation loss
    single: str  # the sensor whose own net has the highest mean balanced accuracy on validation
    seeds: list[int]
    confidence: float
    margin: float
    num_scenes: int  # of the split
    classes: list[str]
    rarest_class: str  # of the split
    corrupted_groups: int  # that the robustness figures come from
    sensor_dropout: float  # share of training samples of which a fusion saw one sensor only
    last_epoch_best: dict[str, int]  # by model, the number of seeds whose best epoch was the last
    models: dict[str, ModelResult]  # baselines last
    pairs: list[Difference]  # each model with each that comes later; exploratory
    label_checks: dict[str, LabelCheck]  # by split
    label_errors: list[LabelError]  # by split, the likeliest first
    # In the order of dataset.condition_fields; all gains are one family of claims.
    conditions: list[ConditionValue] = field(default_factory=list)

    @property
    def fusions(self) -> list[str]:
        """Names of all models that see both sensors."""
        return [
            name for name, model in self.models.items() if model.kind in ("early", "intermediate", "late")
        ]

    @property
    def front(self) -> list[str]:
        """The reference, and the fusions that trained and are not shown to be worse than it."""
        behind = {
            name
            for name in self.fusions
            if self.models[name].failed_seeds or ((c := self.models[name].contrast) and c.outcome == "worse")
        }
        others = [name for name in self.fusions if name != self.reference and name not in behind]
        return [self.reference, *others]

    def accuracy(self, name: str) -> float:
        """A model's mean balanced accuracy on the split that the verdicts stand on."""
        return self._mean(name, "balanced_accuracy")

    def loss(self, name: str) -> float:
        """A model's mean loss on the split that the verdicts stand on."""
        return self._mean(name, "loss")

    def _mean(self, name: str, metric: str) -> float:
        mean = self.models[name].metrics[self.split][metric].mean
        assert mean is not None  # of these two metrics
        return mean


def trained_rates(sensor_dropout: float) -> dict[str, float]:
    """Share of the training samples on which a fusion missed each sensor, or either of the two."""
    return {case: sensor_dropout if case == EITHER else sensor_dropout / len(TITLES) for case in FAILURES}


def write(comparison: Comparison) -> None:
    """Writes statistics.json."""
    PATH.write_text(json.dumps(asdict(comparison), indent=2) + "\n")


def read() -> Comparison:
    """Reads statistics.json.

    Raises:
        UserError: when it is missing, or another version of the project wrote it.
    """
    if not PATH.is_file():
        raise UserError(f"{PATH}: no such file; run `dvc repro`")
    try:
        return TypeAdapter(Comparison).validate_json(PATH.read_bytes())
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{PATH}: {place}: {error.errors()[0]['msg']}; run `dvc repro`") from None
