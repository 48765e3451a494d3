"""The report's tables: each is a list of rows and a list of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tabulate import tabulate

from stages.lib.comparison.measured import MeasuredCost
from stages.lib.comparison.results import FAILURES, Comparison, ModelResult
from stages.lib.core.names import TITLES
from stages.lib.report import answer, format
from stages.lib.statistics.results import Contrast
from stages.lib.tensors.manifest import Manifest

_MOST_ARCHITECTURES = 6  # that fit side by side
_MOST_COLUMNS = 9  # of a table that people can read without scrolling sideways
_MB = 2**20 / 1e6  # of a MiB

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column's title, and its cell in each row."""

    title: str
    cell: Callable[[Row], str]


def markdown(rows: Iterable[Row], columns: list[Column[Row]]) -> str:
    """A table in GitHub's Markdown."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    return tabulate(cells, [column.title for column in columns], tablefmt="github", disable_numparse=True)


@dataclass(frozen=True)
class Model:
    """A row of most tables: a model or a baseline."""

    name: str
    result: ModelResult
    cost: MeasuredCost | None  # None for a baseline


def models(compared: Comparison, costs: dict[str, MeasuredCost]) -> list[Model]:
    return [Model(name, result, costs.get(name)) for name, result in compared.models.items()]


def notebook(rows: list[Model], on_gpu: bool) -> str:
    """The notebook's table: metrics as rows, architectures as columns; the other way round when they are many."""

    def seconds(row: Model) -> str:
        assert row.cost
        own = format.number(row.cost.epoch_s, 2)
        with_nets = row.cost.epoch_with_nets_s
        return own if with_nets is None else f"{own} ({format.number(with_nets, 2)})"

    def memory(row: Model) -> str:
        assert row.cost
        return f"{row.cost.peak_memory_mib * _MB:,.0f}" if on_gpu else "no GPU"

    columns: list[Column[Model]] = [
        Column("Metrics", lambda row: format.architecture(row.name, row.result.kind)),
        Column("Validation Loss", lambda row: format.spread(row.result.metrics["validation"]["loss"])),
        Column("Parameters (M)", lambda row: format.millions(row.result.parameters)),
        Column("Training Time / epoch (s)", seconds),
        Column("GPU Memory (MB)", memory),
    ]
    if len(rows) > _MOST_ARCHITECTURES:
        return markdown(rows, columns)

    def architecture(row: Model) -> Column[Column[Model]]:
        return Column(columns[0].cell(row), lambda metric: metric.cell(row))

    return markdown(
        columns[1:],
        [Column("Metrics", lambda metric: metric.title), *(architecture(row) for row in rows)],
    )


def all_models(rows: list[Model], compared: Comparison) -> str:
    """All models and baselines: how good, how they compare, what they cost."""
    split = compared.split

    def difference(contrast: Contrast | None) -> str:
        return format.difference(contrast) if contrast else "-"

    def better_than_prior(row: Model) -> str:
        return "-" if row.result.beats_prior is None else "yes" if row.result.beats_prior else "not shown"

    columns: list[Column[Model]] = [
        Column("Model", lambda row: format.label(row.name)),
        Column(
            f"Balanced accuracy ({split})",
            lambda row: format.with_interval(row.result.metrics[split]["balanced_accuracy"]),
        ),
        Column(f"Against {format.label(compared.reference)}", lambda row: difference(row.result.contrast)),
        Column(f"Against {TITLES[compared.single]} alone", lambda row: difference(row.result.single)),
        Column(f"Loss ({split})", lambda row: format.spread(row.result.metrics[split]["loss"])),
        Column("Beats the class prior", better_than_prior),
        Column("Parameters (M)", lambda row: format.millions(row.result.parameters)),
        Column("Epoch (s)", lambda row: format.number(row.cost.epoch_s if row.cost else None, 2)),
    ]
    return markdown(rows, columns)


def all_metrics(rows: list[Model], split: str, rarest_class: str) -> str:
    """Every metric of all models and baselines."""
    titles = {
        "balanced_accuracy": "Balanced accuracy",
        "accuracy": "Accuracy",
        "f1": "F1",
        "f1_rare": f"F1 of {format.escaped(rarest_class)}",
        "auroc": "AUROC",
        "average_precision": "Average precision",
        "brier": "Brier score",
        "ece": "ECE",
    }

    def column(metric: str, title: str) -> Column[Model]:
        return Column(title, lambda row: format.spread(row.result.metrics[split][metric]))

    return markdown(
        rows,
        [
            Column("Model", lambda row: format.label(row.name)),
            *(column(metric, title) for metric, title in titles.items()),
        ],
    )


def contrasts(family: list[Contrast], title: str, confidence: str) -> str:
    """A family of claims."""
    columns: list[Column[Contrast]] = [
        Column(title, lambda contrast: format.label(contrast.model)),
        Column("Difference (points)", lambda contrast: format.points(contrast.difference, sign=True)),
        Column(f"{confidence} interval", format.interval),
        Column("p", lambda contrast: format.p_value(contrast.p)),
        Column("p (Holm)", lambda contrast: format.p_value(contrast.p_holm)),
        Column("Outcome", lambda contrast: format.outcome(contrast.outcome)),
        Column("Tied within (points)", lambda contrast: format.reach(contrast.tied_within)),
        Column("Seeds' share of the variance", lambda contrast: format.percent(contrast.seed_share)),
        Column("To decide it", answer.plan_words),
    ]
    return markdown(family, columns)


def costs(rows: list[Model]) -> str:
    def measured(title: str, field: str, digits: int) -> Column[Model]:
        return Column(title, lambda row: format.number(getattr(row.cost, field), digits))

    def latency(title: str, field: str, field_p95: str) -> Column[Model]:
        return Column(
            title, lambda row: f"{getattr(row.cost, field):.1f} ({getattr(row.cost, field_p95):.1f})"
        )

    return markdown(
        [row for row in rows if row.cost],
        [
            Column("Model", lambda row: format.label(row.name)),
            Column("Parameters (M)", lambda row: format.millions(row.result.parameters)),
            Column(
                "Weights trained in this stage", lambda row: format.number(row.result.trainable_parameters, 0)
            ),
            Column("Weights (MiB)", lambda row: format.number(row.result.weights_mib, 1)),
            Column("MFLOP a sample", lambda row: format.number(row.result.flops_m, 1)),
            measured("Epoch (s)", "epoch_s", 2),
            measured("Peak memory (MiB)", "peak_memory_mib", 0),
            latency("Latency (ms)", "latency_ms", "latency_p95_ms"),
            latency("Latency of 32 samples (ms)", "latency_32_ms", "latency_32_p95_ms"),
        ],
    )


def sensors(rows: list[Model]) -> str:
    """Which sensor each fusion uses."""

    def column(title: str, sensor: str, field: str) -> Column[Model]:
        return Column(title, lambda row: format.signed(getattr((row.result.sensor_use or {})[sensor], field)))

    columns = [
        column(text.format(title), sensor, field)
        for sensor, title in TITLES.items()
        for text, field in {
            "Without {}": "lost_missing",
            "{} shuffled": "lost_shuffled",
            "Share of {}": "shapley",
        }.items()
    ]
    return markdown(
        [row for row in rows if row.result.sensor_use],
        [
            Column("Fusion", lambda row: format.label(row.name)),
            *columns,
            Column("Verdict", lambda row: answer.sensor_verdict(row.result.sensor_use or {})),
        ],
    )


def robustness(rows: list[Model], sensor: str) -> list[str]:
    """What is left of each model under the corruptions of one sensor, and under all of them together."""
    corrupted = [row for row in rows if row.result.curves.get(sensor)]
    names = list(corrupted[0].result.curves[sensor]) if corrupted else []

    def column(corruption: str) -> Column[Model]:
        def left(row: Model) -> str:
            curve = row.result.curves[sensor][corruption]
            return format.share(curve.relative_area, curve.area_low, curve.area_high)

        return Column(corruption.replace("_", " ").capitalize(), left)

    def of_all(row: Model) -> str:
        mean = row.result.robustness.get(sensor)
        return format.share(mean.mean, mean.low, mean.high) if mean else format.share(None, None, None)

    columns = [Column("Mean", of_all), *map(column, names)]
    return in_parts(corrupted, [model_column(f"{TITLES[sensor]} corrupted")], columns) if corrupted else []


def failures(rows: list[Model], case: str, trained_rate: float) -> list[str]:
    """Balanced accuracy of each model where a sensor fails on a share of the samples."""
    failing = [row for row in rows if row.result.failures]

    def column(place: int, rate: float) -> Column[Model]:
        is_beyond = rate > trained_rate > 0
        return Column(
            f"{rate:.0%}{', beyond' if is_beyond else ''}",
            lambda row: f"{row.result.failures[case].accuracies[place]:.3f}",
        )

    rates = failing[0].result.failures[case].rates
    title = FAILURES[case][0].upper() + FAILURES[case][1:]
    return in_parts(failing, [model_column(title)], list(map(column, range(len(rates)), rates)))


def model_column(title: str) -> Column[Model]:
    return Column(title, lambda row: format.label(row.name))


def in_parts(rows: list[Row], first: list[Column[Row]], columns: list[Column[Row]]) -> list[str]:
    """A table; where it would be too wide, several of about the same width, each with the first columns."""
    number = -(-len(columns) // (_MOST_COLUMNS - len(first)))
    size = -(-len(columns) // number)
    return [
        markdown(rows, [*first, *columns[start : start + size]]) for start in range(0, len(columns), size)
    ]


def calibration(rows: list[Model]) -> str:
    found = [(format.label(row.name), row.result.calibration) for row in rows if row.result.calibration]
    return markdown(
        found,
        [
            Column("Model", lambda row: row[0]),
            Column("ECE", lambda row: f"{row[1].before.ece:.3f}"),
            Column("ECE after scaling", lambda row: f"{row[1].after.ece:.3f}"),
            Column("Temperature", lambda row: f"{row[1].temperature:.2f}"),
        ],
    )


def groups(manifest: Manifest) -> str:
    """Groups and scenes of each split."""

    def of_class(name: str) -> Column[str]:
        return Column(format.escaped(name), lambda split: str(manifest.counts[split][name]))

    return markdown(
        manifest.splits(),
        [
            Column("Groups", lambda split: split),
            *(of_class(name) for name in manifest.classes),
            Column("Scenes", lambda split: str(manifest.scenes[split])),
        ],
    )


def returns(manifest: Manifest) -> str:
    """What became of the LiDAR returns of each split; empty when none was lost."""
    by_split = {split: manifest.returns[split] for split in manifest.splits()}
    if all(counts["kept"] == counts["stored"] for counts in by_split.values()):
        return ""

    def share(title: str, field: str) -> Column[str]:
        def cell(split: str) -> str:
            counts = by_split[split]
            return f"{counts[field] / max(counts['stored'], 1):.1%}"

        return Column(title, cell)

    return markdown(
        by_split,
        [
            Column("Returns", lambda split: split),
            Column("Stored", lambda split: f"{by_split[split]['stored']:,}"),
            share("Kept", "kept"),
            share("Beyond the maximum range", "beyond_range"),
            share("Outside the view", "outside_view"),
            share("Merged", "merged"),
            share("Not finite", "not_finite"),
        ],
    )
