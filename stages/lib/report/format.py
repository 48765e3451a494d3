"""Numbers and texts of users as the report shows them."""

from __future__ import annotations

import re

from stages.lib.comparison.results import Summary
from stages.lib.statistics.results import Contrast, Difference, Interval

# What Markdown, or GitHub's formulas, would take for something else; underscores only at the ends of words.
_MARKDOWN = re.compile(r"[\\`*<>\[\]|$~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")

_PROPER_NAMES = {"film": "FiLM", "mmtm": "MMTM"}


def escaped(text: str) -> str:
    """Text of users in one line of Markdown, also in a table, that shows what it says."""
    return _MARKDOWN.sub(lambda found: f"\\{found.group()}", " ".join(text.split()))


def code(text: str) -> str:
    """Text of users between backticks."""
    return " ".join(text.replace("`", "'").split())


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


def signed(interval: Interval | None) -> str:
    """A gain or loss in points, and its interval."""
    if interval is None:
        return "-"
    if interval.low is None or interval.high is None:
        return points(interval.mean, sign=True)
    low, high = points(interval.low, sign=True), points(interval.high, sign=True)
    return f"{points(interval.mean, sign=True)} ({low} to {high})"


def share(value: float | None, low: float | None, high: float | None) -> str:
    """A share with its interval."""
    if value is None:
        return "not defined"
    text = f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"
    return text.replace("-", "\N{MINUS SIGN}")


def points(share: float, *, sign: bool = False) -> str:
    """A share in percentage points, with a true minus sign."""
    if not sign:
        return f"{100 * share:.3g}"
    rounded = round(100 * share, 1)
    text = f"{rounded:+.1f}" if rounded else "0.0"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(difference: Difference) -> str:
    """The interval of a difference in points; a dash for none."""
    if difference.interval is None:
        return "-"
    low, high = difference.interval
    return f"{points(low, sign=True)} to {points(high, sign=True)}"


def difference(contrast: Contrast) -> str:
    """A contrast in one cell: points and outcome."""
    return f"{points(contrast.difference, sign=True)}, {outcome(contrast.outcome)}"


def outcome(key: str) -> str:
    """The outcome of a contrast as the report shows it."""
    return "open" if key == "not decided" else key


def reach(share: float | None) -> str:
    """A margin in points."""
    return "-" if share is None else f"{100 * share:.1f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def points_with_interval(difference: Difference) -> str:
    """A difference in points, in words, with its interval."""
    told = f"{points(difference.difference, sign=True)} points"
    return told if difference.interval is None else f"{told} ({interval(difference)})"


def p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def millions(count: int | None) -> str:
    """A count of parameters in millions, to the digits that the notebook prints."""
    return "-" if count is None else f"{count / 1e6:.6g}"


def number(value: int | float | None, digits: int) -> str:
    """A number with this many digits after the point; a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def join(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def label(name: str) -> str:
    """A model's name as people read it."""
    return "class prior" if name == "prior" else name.replace("_", " ")


def architecture(name: str, kind: str) -> str:
    """As the notebook has them: `Intermediate Fusion (Concatenation)`, `Late Fusion`."""
    if name == kind:
        return f"{kind.title()} Fusion"
    operator = name.removeprefix(f"{kind}_")
    return f"{kind.title()} Fusion ({_PROPER_NAMES.get(operator, operator.replace('_', ' ').title())})"
