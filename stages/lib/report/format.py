"""Numbers as the report shows them."""

from __future__ import annotations

from stages.lib.comparison.results import Summary
from stages.lib.statistics.intervals import Interval

_PROPER_NAMES = {"film": "FiLM", "mmtm": "MMTM"}


def spread(summary: Summary) -> str:
    """Mean and standard deviation of a metric over seeds."""
    if summary.mean is None:
        return "not defined"
    return f"{summary.mean:.3f}" if summary.sd is None else f"{summary.mean:.3f} ± {summary.sd:.3f}"


def with_interval(summary: Summary) -> str:
    """Mean of a metric and its interval over seeds and scenes."""
    if summary.mean is None:
        return "not defined"
    if summary.low is None:
        return f"{summary.mean:.3f}"
    return f"{summary.mean:.3f} ({summary.low:.3f} to {summary.high:.3f})"


def seeds_interval(summary: Summary) -> str:
    """A metric's interval over seeds alone."""
    if summary.seeds_low is None:
        return "-"
    return f"{summary.seeds_low:.3f} to {summary.seeds_high:.3f}"


def signed(interval: Interval | None) -> str:
    """A gain or loss and its interval."""
    if interval is None:
        return "-"
    if interval.low is None:
        return f"{interval.mean:+.3f}"
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def bounds(interval: Interval) -> str:
    """The bounds of a difference's interval."""
    return "-" if interval.low is None else f"{interval.low:+.4f} to {interval.high:+.4f}"


def p_value(p: float | None) -> str:
    return "-" if p is None else f"{p:.3f}"


def millions(count: int | None) -> str:
    """A count of parameters in millions, to the digits that the notebook prints."""
    return "-" if count is None else f"{count / 1e6:.6g}"


def number(value: int | float | None, digits: int) -> str:
    """A number with this many digits after the point; a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def label(name: str) -> str:
    """A model's name in a table."""
    return name.replace("prior", "class prior").replace("_", " ")


def architecture(name: str, kind: str) -> str:
    """As the notebook has them: `Intermediate Fusion (Concatenation)`, `Late Fusion`."""
    if name == kind:
        return f"{kind.title()} Fusion"
    operator = name.removeprefix(f"{kind}_")
    return f"{kind.title()} Fusion ({_PROPER_NAMES.get(operator, operator.replace('_', ' ').title())})"
