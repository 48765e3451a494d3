"""The report's tables by condition, such as the weather."""

from __future__ import annotations

from stages.lib.comparison.results import Comparison, ConditionValue
from stages.lib.report import format
from stages.lib.report.gains import named
from stages.lib.report.tables import Column, in_parts
from stages.lib.statistics.results import Contrast


def accuracies(compared: Comparison) -> list[str]:
    """Balanced accuracy of every model on the groups with each value of each condition."""

    def model(name: str) -> Column[ConditionValue]:
        def cell(part: ConditionValue) -> str:
            found = part.accuracies.get(name)
            if found is None:
                return "not defined"
            if found.low is None or found.high is None:
                return f"{found.mean:.3f}"
            return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"

        return Column(format.label(name), cell)

    def count(part: ConditionValue) -> str:
        return f"{part.num_groups:,} ({part.num_scenes:,})"

    names = [name for name, result in compared.models.items() if result.kind != "baseline"]
    first = [_condition_column(), Column("Groups (scenes)", count)]
    return (
        in_parts(compared.conditions, first, [model(name) for name in names]) if compared.conditions else []
    )


def gains(compared: Comparison) -> list[str]:
    """Every fusion against the better single sensor, where the data are enough for a claim."""

    def fusion(name: str) -> Column[ConditionValue]:
        return Column(format.label(name), lambda part: _gain(part.gains[name]))

    rows = [part for part in compared.conditions if part.gains]
    return in_parts(rows, [_condition_column()], [fusion(name) for name in compared.fusions]) if rows else []


def withheld(compared: Comparison) -> list[str]:
    """Conditions with too few data for a claim, each with the reason."""
    return [
        f"{named(part)} ({format.escaped(part.withheld)})" for part in compared.conditions if part.withheld
    ]


def num_claims(compared: Comparison) -> int:
    """How many differences were tested as one family."""
    return sum(contrast.p is not None for part in compared.conditions for contrast in part.gains.values())


def _condition_column() -> Column[ConditionValue]:
    return Column("Condition", named)


def _gain(contrast: Contrast) -> str:
    outcome = "" if contrast.outcome == "not decided" else f", {contrast.outcome}"
    told = format.points(contrast.difference, sign=True)
    return (
        f"{told}{outcome}" if contrast.interval is None else f"{told} ({format.interval(contrast)}){outcome}"
    )
