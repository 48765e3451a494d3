"""The sentences of a learning curve: they depend on the results, and never say more than they do."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from scripts.studies.learning_curve.results import Change, Curve, Size
from stages.lib.comparison.results import Comparison
from stages.lib.core.names import TITLES
from stages.lib.report.answer import plan_words
from stages.lib.report.format import join, label, plural, points
from stages.lib.statistics.results import LEAST_SEEDS, Contrast

_MOST_NAMED = 3  # contrasts that a sentence lists with their numbers
_FEW_SCENES = 20
_NOTHING_LEARNED = "no fusion is shown to be better than always predicting the class frequencies"


def answer(curve: Curve) -> list[str]:
    """What may be said, and how sure it is; one bullet each."""
    no_claims = _no_claims(curve)
    lines = [no_claims] if no_claims else [_who_leads(curve), _changes(curve), _gains(curve), _sensors(curve)]
    lines += [_open(curve), _failed_seeds(curve), _no_test_split(curve)]
    return [line for line in lines if line]


def groups_of(size: Size) -> str:
    """The number of training groups; where seeds have different numbers, their mean."""
    about = "" if len(set(size.groups)) == 1 else "about "
    return f"{about}{size.mean_groups:,.0f}"


def named(size: Size) -> str:
    """A size in words."""
    return f"{groups_of(size)} training groups ({size.share:.0%})"


def _no_claims(curve: Curve) -> str | None:
    """Why nothing can be claimed, whatever the numbers."""
    compared = curve.sizes[-1].compared
    if compared.num_scenes < 2:
        return f"**Nothing can be claimed:** the {compared.split} split holds a single scene."
    if len(compared.seeds) < LEAST_SEEDS:
        return (
            f"**Nothing can be claimed with {plural(len(compared.seeds), 'seed')}:** a claim takes at least "
            f"{LEAST_SEEDS} (`seeds`)."
        )
    return None


def _who_leads(curve: Curve) -> str:
    """Which fusion is best at which size; sizes with the same finding share a sentence."""
    leaders = [_leader(size.compared) for size in curve.sizes]
    found = _merged(curve.sizes, lambda size: _front(size.compared))
    details = " ".join(f"With {sizes} groups: {text}." for text, sizes in found)
    if not any(leaders):
        which = "at any size" if len(curve.sizes) > 1 else "at this size"
        return f"**No fusion is shown to lead {which}.** {details}"
    led = [
        f"{_told(leader)} leads with {sizes} training groups"
        for leader, sizes in _merged(curve.sizes, lambda size: _leader(size.compared))
        if leader
    ]
    rest = [
        sizes for leader, sizes in _merged(curve.sizes, lambda size: _leader(size.compared)) if not leader
    ]
    no_leader = f"; with {join(rest)}, no fusion is shown to lead" if rest else ""
    return f"**{_capital(join(led))}{no_leader}.** {details}"


def _told(name: str) -> str:
    """A fusion as the subject of a sentence."""
    return "late fusion" if name == "late" else label(name)


def _leader(compared: Comparison) -> str | None:
    """The reference, where it is better than the prior and every other fusion is significantly worse."""
    reference = compared.models[compared.reference]
    contrasts = [model.contrast for model in compared.models.values() if model.contrast]
    is_alone = bool(contrasts) and all(claim.outcome == "worse" for claim in contrasts)
    return compared.reference if reference.beats_prior and is_alone else None


def _front(compared: Comparison) -> str:
    """The fusions of one size against its reference, in words."""
    reference = label(compared.reference)
    if not compared.models[compared.reference].beats_prior:
        return _NOTHING_LEARNED
    contrasts = [model.contrast for model in compared.models.values() if model.contrast]
    if _leader(compared):
        return f"all other fusions are significantly worse than {reference}"
    texts = {
        "better": f"significantly better than {reference} on the {compared.split} split: {{}}",
        "tied": f"tied with {reference}, within {points(compared.margin)} points: {{}}",
        "not decided": f"not separated from {reference}: {{}}",
        "worse": "significantly worse: {}",
    }
    parts = [f"{reference} has the lowest validation loss"]
    parts += [
        text.format(_names(contrasts, outcome))
        for outcome, text in texts.items()
        if _names(contrasts, outcome)
    ]
    return "; ".join(parts)


def _names(contrasts: list[Contrast], outcome: str) -> str:
    names = [label(claim.model) for claim in contrasts if claim.outcome == outcome]
    return join(names) if names else ""


def _merged(sizes: list[Size], finding: Callable[[Size], str | None]) -> list[tuple[str | None, str]]:
    """Each finding with the sizes that have it, neighbours together."""
    return [
        (text, join([groups_of(size) for size in members]))
        for text, members in itertools.groupby(sizes, key=finding)
    ]


def _changes(curve: Curve) -> str | None:
    """Whether the distance between late fusion and the others depends on the number of groups."""
    if not curve.changes:
        return None
    outcomes = {change.claim.outcome for change in curve.changes}
    margin = points(curve.sizes[-1].compared.margin)
    if outcomes & {"better", "worse"}:
        title = "Late fusion's distance from other fusions depends on the number of groups."
    elif outcomes == {"tied"}:
        title = f"Late fusion's distance from other fusions changes by less than {margin} points."
    else:
        title = (
            "It is open whether late fusion's distance from other fusions depends on the number of groups."
        )
    texts = {
        "worse": "significantly lower: {}",
        "better": "significantly higher: {}",
        "tied": f"the same within {margin} points: {{}}",
        "not decided": "open: {}",
    }

    def told(change: Change) -> str:
        start, end = points(change.small, sign=True), points(change.large, sign=True)
        return f"{label(change.what)} ({start}, then {end} points)"

    return f"**{title}** {_from_to(curve)}: {_by_outcome(curve.changes, texts, told)}."


def _gains(curve: Curve) -> str | None:
    """What more groups bring."""
    if not curve.gains:
        return None
    outcomes = {gain.claim.outcome for gain in curve.gains}
    margin = points(curve.sizes[-1].compared.margin)
    if outcomes == {"better"}:
        title = "More groups help every model."
    elif "better" in outcomes:
        title = "More groups help some models."
    elif outcomes == {"tied"}:
        title = f"More groups change every model by less than {margin} points."
    else:
        title = "It is not shown that more groups help."
    texts = {
        "better": "significantly more accurate: {}",
        "worse": "significantly less accurate: {}",
        "tied": f"the same within {margin} points: {{}}",
        "not decided": "open: {}",
    }

    def told(gain: Change) -> str:
        return f"{label(gain.what)} ({points(gain.claim.difference, sign=True)} points)"

    return f"**{title}** {_from_to(curve)}: {_by_outcome(curve.gains, texts, told)}."


def _from_to(curve: Curve) -> str:
    return f"From {groups_of(curve.sizes[0])} to {groups_of(curve.sizes[-1])} groups"


def _by_outcome(changes: list[Change], texts: dict[str, str], told: Callable[[Change], str]) -> str:
    """Changes in words, those of one outcome together."""
    by_outcome = {
        outcome: [told(change) for change in changes if change.claim.outcome == outcome] for outcome in texts
    }
    return "; ".join(
        texts[outcome].format(join(members)) for outcome, members in by_outcome.items() if members
    )


def _sensors(curve: Curve) -> str:
    """From which size on two sensors are better than one."""

    def finding(size: Size) -> str:
        if not size.compared.models[size.compared.reference].beats_prior:
            return _NOTHING_LEARNED
        single = f"{TITLES[size.compared.single]} alone"
        claims = size.singles
        better = _names(claims, "better")
        if all(claim.outcome == "better" for claim in claims):
            better = "every fusion" if len(claims) > 1 else better
            return f"{better} is significantly better than {single}"
        texts = {
            "better": f"significantly better than {single}: {{}}",
            "tied": f"tied with {single}, within {points(size.compared.margin)} points: {{}}",
            "not decided": f"not separated from {single}: {{}}",
            "worse": f"significantly worse than {single}: {{}}",
        }
        return "; ".join(
            text.format(_names(claims, outcome)) for outcome, text in texts.items() if _names(claims, outcome)
        )

    found = _merged(curve.sizes, finding)
    return (
        "**Two sensors or one?** Fusions are compared with the sensor that is better on validation. "
        + " ".join(f"With {sizes} groups: {text}." for text, sizes in found)
    )


def _open(curve: Curve) -> str | None:
    """What it would take to decide what is open, the largest differences first."""
    listed = [
        (claim, f"{label(claim.model)} against {label(claim.against)} with {groups_of(size)} groups")
        for size in curve.sizes
        for claim in [*size.contrasts, *size.singles]
    ]
    listed += [(gain.claim, f"the gain of {label(gain.what)}") for gain in curve.gains]
    listed += [(change.claim, f"the change of {label(change.what)}") for change in curve.changes]
    listed = [(claim, what) for claim, what in listed if claim.plan is not None]
    compared = curve.sizes[-1].compared
    few = (
        f" The {compared.split} split holds only {compared.num_scenes} scenes; claims from so few are rough."
        if compared.num_scenes < _FEW_SCENES
        else ""
    )
    if not listed:
        return few.strip() or None
    listed.sort(key=lambda pair: -abs(pair[0].difference))
    told_ways = "; ".join(f"{what}: {plan_words(claim)}" for claim, what in listed[:_MOST_NAMED])
    more = f"; {len(listed) - _MOST_NAMED} more in the tables below" if len(listed) > _MOST_NAMED else ""
    return f"**To decide what is open:** {told_ways}{more}.{few}"


def _failed_seeds(curve: Curve) -> str | None:
    failed = [
        f"{label(name)} with {groups_of(size)} groups ({join([str(seed) for seed in model.failed_seeds])})"
        for size in curve.sizes
        for name, model in size.compared.models.items()
        if model.failed_seeds
    ]
    if not failed:
        return None
    return (
        f"**Seeds that did not train:** {'; '.join(failed)}. Their balanced accuracy is within 0.1 of chance, so "
        "nothing is claimed about these models at this size. No seed is left out of the numbers."
    )


def _no_test_split(curve: Curve) -> str | None:
    if curve.sizes[-1].compared.split == "test":
        return None
    return (
        "**There is no test split.** The best epochs were chosen on the data that these numbers come from, so all "
        "numbers are too optimistic."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
