"""What the report says of conditions, such as the weather: where fusions gain, and never more than is tested."""

from __future__ import annotations

from stages.lib.comparison.results import Comparison, ConditionValue
from stages.lib.core.names import SENSORS, TITLES
from stages.lib.report import format
from stages.lib.statistics.results import Contrast

_MOST_NAMED = 2  # conditions that a sentence lists with their numbers


def where_fusing_helps(compared: Comparison) -> str | None:
    """The gains and losses that hold after correction; None where none does."""
    better, worse = (_with_outcome(compared, outcome) for outcome in ("better", "worse"))
    if not better and not worse:
        return None
    single = f"{TITLES[compared.single]} alone"
    sentences = []
    if better:
        fusions = [contrast.model for _, contrast in better]
        name = compared.reference if compared.reference in fusions else max(fusions, key=fusions.count)
        own = [(part, contrast) for part, contrast in better if contrast.model == name]
        tested = sum(bool(part.gains) for part in compared.conditions)
        sentences.append(
            f"{format.label(name)} is significantly better than {single} in {len(own)} of "
            f"{format.plural(tested, 'condition')}{_above_both(compared, name, own)}."
        )
        others = len(set(fusions) - {name})
        if others:
            verb = "is" if others == 1 else "are"
            sentences.append(f"So {verb} {format.plural(others, 'other fusion')} in at least one.")
    if worse:
        fusions = list(dict.fromkeys(contrast.model for _, contrast in worse))
        sentences.append(
            f"Significantly worse than {single} in at least one: {format.join([format.label(f) for f in fusions])}"
            f"{_most_in(compared, worse)}."
        )
    title = "Where fusing helps" if better else "Where fusing harms"
    return f"**{title}:** {' '.join(sentences)} [All conditions](details.md#by-condition)."


def _above_both(compared: Comparison, name: str, own: list[tuple[ConditionValue, Contrast]]) -> str:
    """In which of these conditions a fusion is above the other sensor, too: elsewhere it only follows that sensor."""
    other = _other(compared)
    above = [
        (part, contrast) for part, contrast in own if part.accuracies[name].mean > part.accuracies[other].mean
    ]
    if len(above) == len(own):
        return _most_in(compared, own)
    if not above:
        return f", but {TITLES[other]} alone is as good there or better{_most_in(compared, own)}"
    return (
        f"; in {len(own) - len(above)} of these, {TITLES[other]} alone is as good or better. The largest gains in "
        f"the others: {_listed(compared, above)}"
    )


def _other(compared: Comparison) -> str:
    (other,) = (sensor for sensor in SENSORS if sensor != compared.single)
    return other


def named(part: ConditionValue) -> str:
    """A condition and its value, in Markdown."""
    return f"{format.escaped(part.condition)}: {format.escaped(part.value)}"


def _with_outcome(compared: Comparison, outcome: str) -> list[tuple[ConditionValue, Contrast]]:
    """The differences with this outcome, the largest first."""
    found = [
        (part, contrast)
        for part in compared.conditions
        for contrast in part.gains.values()
        if contrast.outcome == outcome
    ]
    return sorted(found, key=lambda pair: -abs(pair[1].difference))


def _most_in(compared: Comparison, pairs: list[tuple[ConditionValue, Contrast]]) -> str:
    return f"{', most in ' if len(pairs) > 1 else ': '}{_listed(compared, pairs)}"


def _listed(compared: Comparison, pairs: list[tuple[ConditionValue, Contrast]]) -> str:
    """The largest differences, with what the other sensor has there: a gain over one sensor may be none over both."""
    other = _other(compared)
    listed = [
        f"{named(part)}, {format.points_with_interval(contrast)}, where {TITLES[other]} alone has "
        f"{part.accuracies[other].mean:.3f} and {format.label(name)} {part.accuracies[name].mean:.3f}"
        for part, contrast in pairs[:_MOST_NAMED]
        for name in [contrast.model]
    ]
    return "; ".join(listed)
