"""The report's sentences, written from the comparison's numbers and never beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from stages.lib.comparison.results import Comparison
from stages.lib.comparison.sensor_use import SensorUse
from stages.lib.core.names import TITLES


@dataclass(frozen=True)
class Finding:
    """What the comparison found about one model, on the split that verdicts stand on."""

    name: str
    kind: str
    parameters_m: float | None
    trained: int | None  # parameters that its own training changed
    loss: float
    balanced_accuracy: float
    beats_prior: bool | None
    mean_below_prior: bool  # whether at least its mean loss is lower than the class prior's
    outcome: str | None  # against the reference: "better", "worse", "tied" or "not decided"
    against_single: str | None  # the same of a fusion against the better single sensor
    ignores: list[str]  # sensors that a fusion can lose without losing accuracy

    @property
    def is_head_alone(self) -> bool:
        """Whether its own training left most of its parameters alone: a late fusion over frozen nets."""
        return (
            self.trained is not None
            and self.parameters_m is not None
            and self.trained < 0.5e6 * self.parameters_m
        )


@dataclass(frozen=True)
class Findings:
    """The comparison as the text needs it."""

    models: dict[str, Finding]  # baselines included
    reference: str
    single: str
    split: str
    num_seeds: int
    seeds_needed: int
    margin: float

    def of_kind(self, *kinds: str) -> list[Finding]:
        return [model for model in self.models.values() if model.kind in kinds]

    @property
    def fusions(self) -> list[Finding]:
        return self.of_kind("early", "intermediate", "late")

    @property
    def best(self) -> Finding:
        """The reference: the fusion that is best on validation, as seen on the verdicts' split."""
        return self.models[self.reference]

    @property
    def best_single(self) -> Finding:
        """The sensor whose own net is more accurate on validation."""
        return self.models[self.single]

    @property
    def enough_seeds(self) -> bool:
        return self.num_seeds >= self.seeds_needed


def findings(compared: Comparison) -> Findings:
    """Takes from the comparison what the text needs."""
    models = {}
    for name, model in compared.models.items():
        metrics = model.metrics[compared.split]
        loss, accuracy = metrics["loss"].mean, metrics["balanced_accuracy"].mean
        assert loss is not None and accuracy is not None
        models[name] = Finding(
            name=name,
            kind=model.kind,
            parameters_m=None if model.parameters is None else model.parameters / 1e6,
            trained=model.trainable_parameters,
            loss=loss,
            balanced_accuracy=accuracy,
            beats_prior=model.beats_prior,
            mean_below_prior=model.mean_below_prior,
            outcome=model.contrast.outcome if model.contrast else None,
            against_single=model.single.outcome if model.single else None,
            ignores=[sensor for sensor, use in (model.sensor_use or {}).items() if use.is_ignored],
        )
    return Findings(
        models=models,
        reference=compared.reference,
        single=compared.single,
        split=compared.split,
        num_seeds=len(compared.seeds),
        seeds_needed=compared.seeds_needed,
        margin=compared.margin,
    )


def answer(found: Findings) -> list[str]:
    """The report's first lines: what may be said, and how sure it is."""
    best = found.best
    lines = []
    if not best.beats_prior and best.mean_below_prior:
        lines.append(
            f"**No answer yet.** Not even {best.name}, the fusion with the least validation loss, is shown to "
            "be better than always predicting the class frequencies, though its mean loss is lower; a ranking "
            "might rank noise."
        )
    elif not best.beats_prior:
        lines.append(
            f"**No answer yet.** Even {best.name}, the fusion with the least validation loss, is no "
            "better than always predicting the class frequencies; a ranking would rank noise."
        )
    else:
        lines.append(
            f"**{best.name}** has the least validation loss of all fusions; on the {found.split} split "
            f"its balanced accuracy is {best.balanced_accuracy:.3f} and its loss {best.loss:.3f}."
        )
    lines.append(_against_fusions(found))
    ignoring = [model for model in found.fusions if model.ignores and model.beats_prior]
    told = ", ".join(
        f"{model.name} ignores {' and '.join(TITLES[sensor] for sensor in model.ignores)}"
        for model in ignoring
    )
    lines.append(_against_single(found) + (f" On average {told}." if ignoring else ""))
    if found.split != "test":
        lines.append(
            "There is no test split: epochs were selected on the very data that these figures come "
            "from, so they flatter every model; `dataset.test_fraction` holds some training groups out."
        )
    return lines


def sensor_verdicts(uses: dict[str, SensorUse]) -> list[str]:
    """What may be said of each sensor's use; one verdict where they agree."""
    told = {
        sensor: "ignores" if use.is_ignored else "uses" if use.is_used else "not decided on"
        for sensor, use in uses.items()
    }
    if set(told.values()) == {"uses"}:
        return ["uses both"]
    return [f"{verdict} {TITLES[sensor]}" for sensor, verdict in told.items()]


def _against_fusions(found: Findings) -> str:
    """How the other fusions stand to the reference, and whether so few seeds could have shown it."""
    by_outcome: dict[str, list[Finding]] = {}
    for model in found.fusions:
        if model.outcome is not None:
            by_outcome.setdefault(model.outcome, []).append(model)
    texts = {
        "worse": "It is significantly better than {names}.",
        "better": f"On the {found.split} split it is significantly worse than {{names}}.",
        "tied": f"It is tied with {{names}}: they differ by less than {found.margin:g}.",
        "not decided": "Against {names} it is not decided.",
    }
    parts = [
        text.format(names=_join(by_outcome[outcome]))
        for outcome, text in texts.items()
        if outcome in by_outcome
    ]
    if not found.enough_seeds:
        parts.append(
            f"With {_seeds(found.num_seeds)} no difference of this family can be significant, however "
            f"large; that takes at least {found.seeds_needed}, so this run is exploratory."
        )
    return " ".join(parts)


_AGAINST_SINGLE = {
    "better": "fusing paid, significantly",
    "worse": "fusing harmed, significantly",
    "tied": "fusing made no difference that matters",
    "not decided": "whether fusing pays is not decided",
}


def _against_single(found: Findings) -> str:
    single, best = found.best_single, found.best
    text = (
        f"{TITLES[single.name]} alone, the more accurate sensor on validation, has a balanced accuracy of "
        f"{single.balanced_accuracy:.3f} and a loss of {single.loss:.3f}"
    )
    return f"{text}: {_AGAINST_SINGLE[best.against_single or 'not decided']}."


_FEW_SEEDS = 6
_FEW_SCENES = 20
_SEEDS_DOMINATE = 0.5


def narrow_intervals(compared: Comparison) -> str | None:
    """A sentence where intervals say too much: too few scenes or seeds for them."""
    if compared.num_scenes < 2:
        return (
            f"the {compared.split} split holds a single scene, which tells nothing about others: no interval "
            "over scenes, and no claim."
        )
    shares = [model.seed_share for model in compared.models.values() if model.seed_share is not None]
    if len(compared.seeds) == 1:
        return (
            "one seed: intervals are over scenes alone, as if training again gave the very same nets, and no "
            "difference can be claimed."
        )
    if compared.num_scenes < _FEW_SCENES:
        return (
            f"the {compared.split} split holds only {compared.num_scenes} scenes; intervals from so few "
            "are too narrow."
        )
    if not shares or len(compared.seeds) >= _FEW_SEEDS or max(shares) < _SEEDS_DOMINATE:
        return None
    return (
        f"with {_seeds(len(compared.seeds))}, and {max(shares):.0%} of some model's uncertainty coming from "
        "them, the intervals over seeds and scenes are too narrow (`benchmarks/claims.py` shows by how much)."
    )


def written_analysis(found: Findings) -> list[str]:
    """Three paragraphs, 200 to 400 words: which is best and why, size against success, when to use what."""
    return [_best_and_why(found), _size_and_success(found), _recommendations(found)]


def _best_and_why(found: Findings) -> str:
    best = found.best
    others = [model for model in found.fusions if model.name != best.name]
    text = (
        f"Judged on validation, {best.name} ({best.kind} fusion) did best. On the {found.split} split its "
        f"mean balanced accuracy over {_seeds(found.num_seeds)} is {best.balanced_accuracy:.3f}"
    )
    if others:
        rival = max(others, key=lambda model: model.balanced_accuracy)
        text += f"; of the other fusions {rival.name} has the highest, {rival.balanced_accuracy:.3f}"
        if rival.outcome == "worse":
            text += ", a significant difference in its favour"
        elif rival.outcome == "better":
            text += ", a significant difference in the rival's favour"
        elif rival.outcome == "tied":
            text += ", so near that the two count as tied"
        elif found.enough_seeds:
            text += ", a difference that is not significant and may well be noise"
        else:
            text += f", a difference that {_seeds(found.num_seeds)} cannot tell from noise"
    text += ". "
    if not best.beats_prior:
        shown = "is not shown to beat" if best.mean_below_prior else "does not beat"
        return text + (
            f"But it {shown} the class prior, which looks at no sensor at all. Explaining its rank "
            "would be explaining chance: the nets have to learn something first, with more epochs, a "
            "higher learning rate or more data, before the way in which they are fused can matter."
        )
    return text + _why(found)


def _why(found: Findings) -> str:
    best = found.best
    strong = found.best_single
    weak = next(model for model in found.of_kind("unimodal") if model.name != strong.name)
    sensors = (
        f"Alone, {TITLES[strong.name]} reaches {strong.balanced_accuracy:.3f} and {TITLES[weak.name]} "
        f"{weak.balanced_accuracy:.3f}. "
    )
    if best.against_single == "not decided" and not found.enough_seeds:
        return sensors + (
            "Whether the second sensor pays is open all the same, however far apart these means are: "
            f"{_seeds(found.num_seeds)} can't show it, while {found.seeds_needed} might."
        )
    if best.against_single != "better":
        shown = {
            "worse": "So the second sensor has done harm here",
            "tied": "So the second sensor has not paid here",
        }.get(best.against_single or "", "So it is not shown that the second sensor pays here")
        return sensors + (
            f"{shown}. A plausible reason, which these numbers do not test, is that a fusion has more to fit "
            "and only so many samples to fit it to."
        )
    if best.kind == "late" and best.trained == 0:
        return sensors + (
            "A plausible reason is that two nets, each trained on its own sensor, err on different samples, so that "
            "together they err less."
        )
    if best.kind == "late" and not best.is_head_alone:
        return sensors + (
            "A plausible reason is that each of its nets starts from what it has learned of its own sensor and goes "
            "on to learn what the other one misses; that this is the longest training of all may be another."
        )
    if best.kind == "late":
        return sensors + (
            "A plausible reason is that each of its nets learns from its own sensor alone, so that the head "
            "only has to learn which opinion to trust; that all of this is more training than "
            "one intermediate net gets may be another."
        )
    if best.kind == "early":
        return sensors + (
            "A plausible reason is that a single encoder reads both sensors place by place, so that what only "
            "shows where they are seen together is not lost."
        )
    return sensors + (
        "A plausible reason is that an intermediate fusion sees both sensors' feature maps before it "
        "decides, so one sensor can stand in where the other fails."
    )


def _size_and_success(found: Findings) -> str:
    fusions = sorted(found.fusions, key=lambda model: model.parameters_m or 0)
    smallest, largest = fusions[0], fusions[-1]
    if _are_alike(smallest, largest):
        return _same_size(found)
    # Of several of like size the one with the least loss.
    largest = _least_loss([model for model in fusions if _are_alike(model, largest)])
    smallest = _least_loss([model for model in fusions if _are_alike(model, smallest)])
    text = (
        f"Of the largest fusions {largest.name}, with {largest.parameters_m:.3g} million parameters, has the least "
        f"loss, {largest.loss:.3f}; of the smallest it is {smallest.name}, with {smallest.parameters_m:.3g} million, "
        f"and its loss is {smallest.loss:.3f}. "
    )
    if largest.loss < smallest.loss:
        text += "Here the larger has the lower mean, which alone does not show that size is the cause. "
    else:
        text += "Here the parameters that the larger one adds did not lower its mean loss. "
    single = found.best_single
    leaner = [
        model
        for model in fusions
        if (model.parameters_m or 0) < (single.parameters_m or 0) and model.loss < single.loss
    ]
    if leaner:
        text += (
            f"Size alone does not order them: {_join(leaner)}, with fewer parameters than the net of {single.name} "
            f"alone ({single.parameters_m:.3g} million), {'has' if len(leaner) == 1 else 'have'} a lower mean "
            "loss than it. None of these losses is tested against another. "
        )
    else:
        text += (
            f"No fusion with fewer parameters than the net of {single.name} alone "
            f"({single.parameters_m:.3g} million) has a lower mean loss than it. "
        )
    if found.of_kind("late"):
        text += "A late model's count includes both unimodal nets. "
    heads = sorted(
        model.trained for model in found.of_kind("late") if model.is_head_alone and model.trained is not None
    )
    if heads:
        sizes = f"{heads[0]:,}" if heads[0] == heads[-1] else f"{heads[0]:,} to {heads[-1]:,}"
        text += f"Where these stay frozen, its own head has {sizes} weights."
    return text.rstrip()


def _are_alike(one: Finding, other: Finding) -> bool:
    """Whether two models have the same number of parameters within two hundredths."""
    sizes = sorted([one.parameters_m or 0, other.parameters_m or 0])
    return sizes[1] <= 1.02 * sizes[0]


def _least_loss(models: list[Finding]) -> Finding:
    return min(models, key=lambda model: model.loss)


def _same_size(found: Findings) -> str:
    """In place of size against success, where size was taken out of it, or is the same for all."""
    fusions = sorted(found.fusions, key=lambda model: model.loss)
    single = found.best_single
    if len(fusions) > 1:
        text = (
            f"All fusions carry about {found.best.parameters_m:.3g} million parameters, so that size explains none "
            f"of the differences between them: mean losses go from {fusions[0].loss:.3f} ({fusions[0].name}) to "
            f"{fusions[-1].loss:.3f} ({fusions[-1].name}). "
        )
    else:
        text = (
            f"{found.best.name}, the only fusion here, carries {found.best.parameters_m:.3g} million parameters; "
            "whether its size or its operator matters, only further fusions could show. "
        )
    text += (
        f"The net of {single.name} alone has {single.parameters_m:.3g} million and a mean loss of {single.loss:.3f}; "
        "against it, size and the second sensor can't be told apart by these numbers. None of these losses is tested "
        "against another. "
    )
    if found.of_kind("late"):
        text += (
            "A late model's count includes both unimodal nets, which learned apart; what trains after them may be "
            "a few weights only."
        )
    return text.rstrip()


def _recommendations(found: Findings) -> str:
    text = (
        "Rules of thumb, beside which a verdict of this run counts more: take intermediate fusion when both "
        "sensors are recorded together and there are samples enough to learn how they relate. "
    )
    if "concatenation" in found.models:
        text += (
            "Within it, concatenation is the choice when memory allows and nothing is known about the "
            "sensors: it discards nothing. "
        )
    if {"addition", "hadamard"} & found.models.keys():
        text += (
            "An element-wise operator suits when parameters are dear and the two rasters are aligned, a "
            "product only where neither sensor can fall silent, since it would silence the other too. "
        )
    if found.of_kind("late"):
        text += (
            "Take late fusion when the nets exist already, or when sensors are developed and replaced apart. "
        )
    else:
        text += (
            "Late fusion, of which none was trained here, is worth a try when the nets exist already, or when "
            "sensors are developed and replaced apart: only a small head then learns from both, and "
            "either net can go on being improved alone. "
        )
    if found.enough_seeds:
        return text + "Where two models are not decided, let cost choose between them."
    return text + (
        f"Before trusting any order in this table, run at least {found.seeds_needed} seeds; until then let "
        "cost choose."
    )


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _join(models: list[Finding]) -> str:
    names = [model.name for model in models]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_SOLVED_SHARE = 0.95  # of the best fusion's gain over guessing


def trivial_task(found: Findings) -> str | None:
    """A sentence when the size of the scan alone tells the classes about as well as the best fusion."""
    trivial, chance = found.models["return_count"], found.models["prior"].balanced_accuracy
    gain = found.best.balanced_accuracy - chance
    if not trivial.beats_prior or trivial.balanced_accuracy - chance < _SOLVED_SHARE * gain:
        return None
    return (
        f"a logistic regression on the number of LiDAR returns and their mean range alone reaches a balanced "
        f"accuracy of {trivial.balanced_accuracy:.3f} on the {found.split} split, where {found.reference} "
        f"reaches {found.best.balanced_accuracy:.3f}: this task says little about fusion"
    )
