"""The report's first lines: sentences that depend on the results, and never say more than they do."""

from __future__ import annotations

from stages.lib.comparison.results import Comparison, ModelResult, SensorUse
from stages.lib.core.names import TITLES
from stages.lib.report import gains
from stages.lib.report.format import join, label, plural, points, points_with_interval
from stages.lib.statistics.results import LEAST_SEEDS, Contrast

_FEW_SCENES = 20
_MOST_NAMED = 3  # fusions that a sentence lists with their numbers
_SOLVED_SHARE = 0.95  # of the best fusion's gain over chance


def answer(compared: Comparison) -> list[str]:
    """What may be said, and how sure it is; one bullet each."""
    if not compared.models[compared.reference].beats_prior:
        lines = [
            _nothing_learned(compared),
            _no_claims(compared),
            _failed_seeds(compared),
            _no_test_split(compared),
        ]
    else:
        lines = [
            _front(compared),
            _one_or_two_sensors(compared),
            gains.where_fusing_helps(compared),
            _no_claims(compared),
            _open(compared),
            _failed_seeds(compared),
            _ignored_sensors(compared),
            _no_test_split(compared),
        ]
    return [line for line in lines if line]


def _nothing_learned(compared: Comparison) -> str:
    best = compared.models[compared.reference]
    lower = ", although its mean loss is lower" if best.mean_below_prior else ""
    return (
        f"**No answer yet.** Even {label(compared.reference)}, the fusion with the lowest validation loss, is not "
        f"shown to be better than always predicting the class frequencies{lower}. A ranking would be a ranking of "
        "noise. More epochs, a higher learning rate or more data may help."
    )


def _front(compared: Comparison) -> str:
    reference = label(compared.reference)
    contrasts = {
        name: contrast
        for name in compared.fusions
        if (contrast := compared.models[name].contrast) is not None and not compared.models[name].failed_seeds
    }
    accuracy = (
        f"a balanced accuracy of {compared.accuracy(compared.reference):.3f} on the {compared.split} split"
    )
    if len(compared.fusions) == 1:
        return f"**{reference}** is the only fusion in this run. It has {accuracy}."
    if _no_claims(compared):
        names = [name for name in compared.fusions if name != compared.reference]
        rest = join([f"{compared.accuracy(name):.3f} ({label(name)})" for name in names])
        return (
            f"**{reference} has the lowest validation loss**, and {accuracy}. The other fusions have {rest}."
        )
    by_outcome = {
        outcome: [contrast for contrast in contrasts.values() if contrast.outcome == outcome]
        for outcome in ("better", "tied", "not decided", "worse")
    }
    # Enough seeds and scenes, and yet no p: no two values of the difference differ.
    same = [part for part in by_outcome["not decided"] if part.p is None and part.difference == 0]
    undecided = [part for part in by_outcome["not decided"] if part not in same]
    if contrasts and len(by_outcome["worse"]) == len(contrasts):
        nearest = max(contrasts.values(), key=lambda contrast: contrast.difference)
        trained = " that trained" if len(contrasts) < len(compared.fusions) - 1 else ""
        others = f"The other fusion{trained}" if len(contrasts) == 1 else f"All other fusions{trained}"
        verb = "is" if len(contrasts) == 1 else "are"
        return (
            f"**{reference} is the best fusion.** It has {accuracy}. {others} {verb} significantly worse; "
            f"the nearest is {_with_numbers([nearest])}."
        )
    parts = [
        f"**In front: {join([label(name) for name in compared.front])}.** {reference} has the lowest validation "
        f"loss, and {accuracy}."
    ]
    texts = [
        (f"Significantly better than {reference} on the {compared.split} split: {{}}.", by_outcome["better"]),
        (f"Tied with {reference}, within {points(compared.margin)} points: {{}}.", by_outcome["tied"]),
        (f"Not separated from {reference} by this run: {{}}.{_uncorrected(undecided)}", undecided),
        (f"Significantly worse than {reference}: {{}}.", by_outcome["worse"]),
    ]
    parts += [text.format(_with_numbers(found)) for text, found in texts if found]
    if same:
        equals = join([label(part.model) for part in same])
        parts.append(f"As accurate as {reference} on every scene, so there is nothing to test: {equals}.")
    return " ".join(parts)


def _with_numbers(contrasts: list[Contrast]) -> str:
    """Names of models with their differences to the reference; names alone when they are many."""
    if len(contrasts) > _MOST_NAMED:
        return join([label(contrast.model) for contrast in contrasts])
    return "; ".join(f"{label(contrast.model)}, {points_with_interval(contrast)}" for contrast in contrasts)


def _uncorrected(undecided: list[Contrast]) -> str:
    """Why an interval without zero may be no claim."""
    if any(part.interval and (part.interval[0] > 0 or part.interval[1] < 0) for part in undecided):
        return " An interval without zero is not enough: p has to be corrected for the number of comparisons."
    return ""


def _one_or_two_sensors(compared: Comparison) -> str:
    contrast = compared.models[compared.reference].single
    assert contrast is not None  # of a fusion
    single, reference = f"{TITLES[compared.single]} alone", label(compared.reference)
    numbers = points_with_interval(contrast)
    better = [
        name
        for name in compared.fusions
        if name != compared.reference
        and (other := compared.models[name].single) is not None
        and other.outcome == "better"
    ]
    others = len(compared.fusions) - 1
    so_are = f" So are {len(better)} of the {others} other fusions." if better else ""
    if better and len(better) == others:
        so_are = " So is the other fusion." if others == 1 else " So are all other fusions."
    value = f"{compared.accuracy(compared.single):.3f}"
    accuracy = f"{single}, the single sensor with the higher balanced accuracy on validation, has {value}"
    return {
        "better": (
            f"**This dataset needs both sensors.** {accuracy}; {reference} is significantly better than it: "
            f"{numbers}.{so_are}"
        ),
        "worse": (
            f"**{single} does better.** {accuracy}; {reference} is significantly worse than it: {numbers}."
        ),
        "tied": (
            f"**{single} does as well.** {accuracy}; {reference} is tied with it, within "
            f"{points(compared.margin)} points: {numbers}."
        ),
        "not decided": f"**Whether two sensors beat one is open.** {accuracy}; {reference} differs by {numbers}.",
    }[contrast.outcome]


def _no_claims(compared: Comparison) -> str | None:
    """Why nothing can be claimed, whatever the numbers."""
    num_seeds = len(compared.seeds)
    if compared.num_scenes < 2:
        return (
            f"**Nothing can be claimed:** the {compared.split} split holds a single scene, which tells nothing about "
            "other scenes."
        )
    if num_seeds < LEAST_SEEDS:
        return (
            f"**Nothing can be claimed with {plural(num_seeds, 'seed')}:** a claim takes at least {LEAST_SEEDS} "
            "(`seeds` in params.yaml); added seeds train without repeating those that are there."
        )
    return None


def _open(compared: Comparison) -> str | None:
    """What it would take to decide what is open."""
    if _no_claims(compared):
        return None
    contrasts = [compared.models[name].contrast for name in compared.fusions]
    contrasts.append(compared.models[compared.reference].single)
    undecided = [contrast for contrast in contrasts if contrast is not None and contrast.plan is not None]
    few = (
        f" The {compared.split} split holds only {compared.num_scenes} scenes; claims from so few are rough."
        if compared.num_scenes < _FEW_SCENES
        else ""
    )
    if not undecided:
        return few.strip() or None
    listed = [
        f"{label(contrast.model)} against {label(contrast.against)}: {plan_words(contrast)}"
        for contrast in sorted(undecided, key=lambda contrast: -abs(contrast.difference))
    ]
    more = f"; {len(listed) - _MOST_NAMED} more in the tables below" if len(listed) > _MOST_NAMED else ""
    return f"**To decide what is open:** {'; '.join(listed[:_MOST_NAMED])}{more}.{few}"


def plan_words(contrast: Contrast) -> str:
    """What would decide a contrast, if the measured difference is the true one."""
    if contrast.plan is None:
        return "-"
    ways = []
    if contrast.plan.scenes is not None:
        ways.append(f"about {contrast.plan.scenes:,} more test scenes")
    if contrast.plan.seeds is not None:
        ways.append(plural(contrast.plan.seeds, "more seed"))
    return " or ".join(ways) or "more seeds and more test scenes"


def _failed_seeds(compared: Comparison) -> str | None:
    failed = {name: model.failed_seeds for name, model in compared.models.items() if model.failed_seeds}
    if not failed:
        return None
    listed = [
        f"{label(name)} ({'all seeds' if len(seeds) == len(compared.seeds) else ', '.join(map(str, seeds))})"
        for name, seeds in failed.items()
    ]
    return (
        f"**Seeds that did not train:** {', '.join(listed)}. Their balanced accuracy is within 0.1 of chance, so "
        "nothing is claimed about these models. No seed is left out of the numbers."
    )


def _ignored_sensors(compared: Comparison) -> str | None:
    ignoring = {
        name: _ignored(model)
        for name in compared.fusions
        if (model := compared.models[name]).beats_prior and _ignored(model)
    }
    if not ignoring:
        return None
    listed = ", ".join(
        f"{label(name)} ignores {join([TITLES[s] for s in sensors])}" for name, sensors in ignoring.items()
    )
    return f"**Sensors without effect:** {listed}."


def _ignored(model: ModelResult) -> list[str]:
    return [sensor for sensor, use in (model.sensor_use or {}).items() if use.is_ignored]


def _no_test_split(compared: Comparison) -> str | None:
    if compared.split == "test":
        return None
    return (
        "**There is no test split.** The best epochs were chosen on the data that these numbers come from, so all "
        "numbers are too optimistic. `dataset.test_fraction` holds out some training groups for testing."
    )


def sensor_verdict(uses: dict[str, SensorUse]) -> str:
    """What may be said of each sensor's use; one verdict where they agree."""
    listed = {
        sensor: "ignores" if use.is_ignored else "uses" if use.is_used else "open for"
        for sensor, use in uses.items()
    }
    if set(listed.values()) == {"uses"}:
        return "uses both"
    return "; ".join(f"{verdict} {TITLES[sensor]}" for sensor, verdict in listed.items())


def trivial_task(compared: Comparison) -> str | None:
    """A warning when the size of the scan alone tells the classes about as well as the best fusion."""
    chance, trivial = compared.accuracy("prior"), compared.accuracy("return_count")
    best = compared.accuracy(compared.reference)
    beats_prior = compared.models["return_count"].beats_prior
    if not beats_prior or trivial - chance < _SOLVED_SHARE * (best - chance):
        return None
    return (
        "a logistic regression on the number of LiDAR returns and their mean range has a balanced accuracy of "
        f"{trivial:.3f} on the {compared.split} split, and {label(compared.reference)} has {best:.3f}: this task "
        "says little about fusion"
    )
