"""The page reports/tune/report.md: sentences that claim only what the statistics allow, and two tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from scripts.studies.tune import figure
from scripts.studies.tune.comparison import RUNS, Front, Trained, TunedModel, Tuning
from scripts.studies.tune.grid import Point
from stages.lib.report.format import (
    interval,
    join,
    label,
    outcome,
    p_value,
    plural,
    points,
    points_with_interval,
)
from stages.lib.report.tables import Column, markdown
from stages.lib.statistics.results import LEAST_SEEDS, Contrast
from stages.lib.statistics.results import Interval as Bounds

_MOST_NAMED = 3  # models that a sentence lists with their numbers

Row = tuple[str, TunedModel]


def render(tuning: Tuning, closing: str) -> str:
    """The whole page.

    Args:
        closing: its last line, about the settings.
    """
    bullets = [
        fronts(tuning),
        what_changed(tuning),
        what_did_not(tuning),
        moved(tuning),
        failed_seeds(tuning),
        at_edges(tuning),
        no_test_split(tuning),
    ]
    lines = [
        "# Which fusion is best when each has its own learning rate and weight decay?",
        "",
        "The default settings may suit one fusion more than another. Here every model got the same small search on "
        "the validation split, and was then trained with its own best settings.",
        "",
        "## The answer",
        "",
        *[f"- {bullet}" for bullet in bullets if bullet],
        "",
        f"![Balanced accuracy of every model with default settings and with its own]({figure.NAME})",
        "",
        "## Both rankings",
        "",
        ranking(tuning),
        "",
        f"Balanced accuracy on the {tuning.split} split: mean over {plural(len(tuning.seeds), 'seed')} and "
        f"{tuning.confidence:.0%} interval over seeds and scenes. Ranks are places of fusions by this mean. "
        "Neighbours often differ by less than their intervals, so a changed rank alone means nothing. The difference "
        f"is paired by seed and scene ({tuning.num_scenes} scenes); p is corrected by Holm's method for all fusions "
        "that were not trained alike in both runs. Single sensors are not tested. *Better* and *worse* need "
        f"p < {1 - tuning.confidence:.2g}; *tied* needs the difference to lie within ±{points(tuning.margin)} points "
        f"with {tuning.confidence:.0%} confidence; all else is *open*. Intervals are not corrected, so an interval "
        "can exclude zero while the outcome is open.",
        "",
        "## The search",
        "",
        searched(tuning),
        "",
        _search_words(tuning),
        "",
        *_as_settings(tuning),
        closing,
        "",
    ]
    return "\n".join(lines)


def fronts(tuning: Tuning) -> str:
    """Both runs' answers."""
    before, after = (_front_words(tuning.fronts[run]) for run in RUNS)
    return (
        f"**In front with the default settings:** {before}. **In front with each model's own settings:** {after}. "
        "In front are the fusion with the lowest validation loss and all fusions that are not shown to be worse."
    )


def _front_words(front: Front) -> str:
    if not front.beats_prior:
        return f"none, since even {label(front.reference)} is not shown to be better than the class prior"
    return f"{_names(front.names)} ({label(front.reference)} has the lowest validation loss)"


def what_changed(tuning: Tuning) -> str:
    """What tuning did to fusions, as far as the tests decide it."""
    if _few(tuning):
        return f"**Nothing can be claimed** about the gain by tuning with {_few(tuning)}."
    by_outcome = _by_outcome(tuning)
    parts = [
        f"**Significantly {key} with own settings:** {_with_gains(tuning, by_outcome[key])}."
        for key in ("better", "worse")
        if key in by_outcome
    ]
    return " ".join(parts) or "**No fusion is shown to be better or worse with its own settings.**"


def what_did_not(tuning: Tuning) -> str:
    """The fusions about whose gain nothing is claimed."""
    by_outcome = {} if _few(tuning) else _by_outcome(tuning)
    parts = []
    if names := by_outcome.get("tied"):
        parts.append(f"Tied, within {points(tuning.margin)} points: {_names(names)}.")
    if names := by_outcome.get("not decided"):
        parts.append(f"Not decided: {_with_gains(tuning, names)}.")
    if names := [name for name in tuning.fusions if tuning.models[name].is_same]:
        parts.append(f"Trained alike in both runs, because the search chose the default: {_names(names)}.")
    return " ".join(parts)


def _few(tuning: Tuning) -> str:
    """Of what there is too little for any claim; empty if there is enough."""
    if tuning.num_scenes < 2:
        return "a single scene"
    return plural(len(tuning.seeds), "seed") if len(tuning.seeds) < LEAST_SEEDS else ""


def _by_outcome(tuning: Tuning) -> dict[str, list[str]]:
    """The fusions that were not trained alike in both runs, by the outcome of their gain."""
    found: dict[str, list[str]] = {}
    for name in tuning.fusions:
        gain = tuning.models[name].gain
        if not tuning.models[name].is_same and isinstance(gain, Contrast):
            found.setdefault(gain.outcome, []).append(name)
    return found


def moved(tuning: Tuning) -> str:
    """Who joined those in front, and who left them; without a claim about why."""
    if not all(front.beats_prior for front in tuning.fronts.values()):
        return ""
    before, after = (tuning.fronts[run].names for run in RUNS)
    joined = [name for name in after if name not in before]
    left = [name for name in before if name not in after]
    if not joined and not left:
        return "The same fusions are in front in both runs."
    parts = [f"{_names(joined)} joined" if joined else "", f"{_names(left)} left" if left else ""]
    return (
        f"Of those in front, {' and '.join(filter(None, parts))}. Each run compares its fusions with its own "
        "reference, so this alone does not show that tuning changed them."
    )


def failed_seeds(tuning: Tuning) -> str:
    listed = [
        f"{label(name)} ({run} settings: {', '.join(map(str, seeds))})"
        for run in RUNS
        for name, seeds in tuning.failed[run].items()
        if name in tuning.models
    ]
    if not listed:
        return ""
    return f"**Seeds that did not train:** {', '.join(listed)}. Nothing is claimed about these models."


def at_edges(tuning: Tuning) -> str:
    """A warning about models whose best settings may lie outside of the grid."""
    by_edge: dict[str, list[str]] = {}
    for name, model in tuning.models.items():
        for edge in model.edges:
            by_edge.setdefault(edge, []).append(name)
    if not by_edge:
        return ""
    listed = "; ".join(f"{edge}: {_names(names)}" for edge, names in by_edge.items())
    return (
        f"**Best at the edge of the grid:** {listed}. Beyond it, these models might be better still; "
        '`SET="tune.factors=[...] tune.weight_decays=[...]"` searches a wider grid.'
    )


def no_test_split(tuning: Tuning) -> str:
    if tuning.split == "test":
        return ""
    return (
        "**There is no test split.** Settings and epochs were chosen on the data that these numbers come from, so "
        "all numbers are too optimistic, those of the tuned models most."
    )


def ranking(tuning: Tuning) -> str:
    """The table of both runs, in the order of the tuned one; sensors last."""
    columns = [
        Column[Row]("Model", lambda row: label(row[0])),
        Column[Row]("Learning rate", lambda row: _change(row[1], lambda trained: trained.learning_rate)),
        Column[Row]("Weight decay", lambda row: _change(row[1], lambda trained: trained.weight_decay)),
        Column[Row]("Default", lambda row: _accuracy(row[1].default.accuracy)),
        Column[Row]("Tuned", lambda row: _accuracy(row[1].tuned.accuracy)),
        Column[Row]("Rank", lambda row: _rank(row[1])),
        Column[Row]("Tuned \N{MINUS SIGN} default, points", lambda row: _gain(row[1])),
        Column[Row]("p", lambda row: _p(row[1])),
        Column[Row]("Outcome", lambda row: _outcome(row[1])),
    ]
    return markdown([(name, tuning.models[name]) for name in tuning.order], columns)


def searched(tuning: Tuning) -> str:
    """The table of all validation losses of the search."""
    columns = [Column[Row]("Model", lambda row: label(row[0]))]
    for place, point in enumerate(tuning.points):
        title = f"{point.learning_rate:g}, {point.weight_decay:g}"
        columns.append(Column[Row](title, partial(_loss, place, point)))
    return markdown(tuning.models.items(), columns)


def _loss(place: int, point: Point, row: Row) -> str:
    loss = row[1].losses[place]
    text = "diverged" if loss is None else f"{loss:.3f}"
    return f"**{text}**" if row[1].has_weights and point == row[1].point else text


def _search_words(tuning: Tuning) -> str:
    rates = list(dict.fromkeys(f"{point.late_learning_rate:g}" for point in tuning.points))
    default = f"{tuning.default.learning_rate:g}, {tuning.default.weight_decay:g}"
    without = [name for name, model in tuning.models.items() if not model.has_weights]
    text = (
        "Validation loss at each point, written as learning rate, weight decay: each seed's at its best epoch, mean "
        f"over the seeds {join([str(seed) for seed in tuning.search_seeds])}, which are not seeds of the two runs. "
        f"The lowest is bold, and the model got this point. The default is {default}. Where a late fusion is a head "
        f"over frozen networks, the head's learning rates are {join(rates)} instead; in the search it joins the "
        "networks of the same point, in the tuned run those with the own settings of rgb and lidar."
    )
    if without:
        text += f" Nothing is chosen for {_names(without)}, where only the networks have weights to train."
    return text


def _as_settings(tuning: Tuning) -> list[str]:
    """What to write into params.yaml to keep the chosen settings."""
    entries = [
        f"    {name}: {{learning_rate: {model.tuned.learning_rate:g}, weight_decay: {model.tuned.weight_decay:g}}}"
        for name, model in tuning.models.items()
        if model.point != tuning.default
    ]
    if not entries:
        return []
    return [
        "The chosen settings in params.yaml:",
        "",
        "```yaml",
        "train:",
        "  per_model:",
        *entries,
        "```",
        "",
    ]


def _names(names: Sequence[str]) -> str:
    return join([label(name) for name in names])


def _with_gains(tuning: Tuning, names: Sequence[str]) -> str:
    """Names with their gains; names alone when they are many."""
    if len(names) > _MOST_NAMED:
        return _names(names)
    return "; ".join(f"{label(name)}, {points_with_interval(tuning.models[name].gain)}" for name in names)


def _change(model: TunedModel, setting: Callable[[Trained], float]) -> str:
    if not model.has_weights:
        return "-"
    before, after = setting(model.default), setting(model.tuned)
    return f"{before:g}" if before == after else f"{before:g} → {after:g}"


def _accuracy(found: Bounds) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _rank(model: TunedModel) -> str:
    return "-" if model.default.rank is None else f"{model.default.rank} → {model.tuned.rank}"


def _gain(model: TunedModel) -> str:
    if model.is_same:
        return "-"
    gain = points(model.gain.difference, sign=True)
    return gain if model.gain.interval is None else f"{gain} ({interval(model.gain)})"


def _p(model: TunedModel) -> str:
    return p_value(model.gain.p_holm) if isinstance(model.gain, Contrast) else "-"


def _outcome(model: TunedModel) -> str:
    if model.is_same:
        return "trained alike"
    return outcome(model.gain.outcome) if isinstance(model.gain, Contrast) else "not tested"
