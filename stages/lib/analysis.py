"""The report's sentences, written from the comparison's numbers and never beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What the comparison found about one model, on the split that verdicts stand on."""

    name: str
    kind: str
    parameters_m: float | None
    loss: float
    balanced_accuracy: float
    beats_prior: bool | None
    mean_below_prior: bool  # whether at least its mean loss is lower than the class prior's
    decided: bool  # whether its difference from the reference is claimed


@dataclass(frozen=True)
class Findings:
    """The comparison as the text needs it."""

    models: dict[str, Finding]  # baselines included
    reference: str
    split: str
    num_seeds: int
    seeds_needed: int

    def of_kind(self, *kinds: str) -> list[Finding]:
        return [model for model in self.models.values() if model.kind in kinds]

    @property
    def fusions(self) -> list[Finding]:
        return self.of_kind("intermediate", "late")

    @property
    def best(self) -> Finding:
        """The reference: the fusion that is best on validation, as seen on the verdicts' split."""
        return self.models[self.reference]

    @property
    def enough_seeds(self) -> bool:
        return self.num_seeds >= self.seeds_needed


def findings(statistics: dict[str, Any]) -> Findings:
    """Reads the content of reports/statistics.json."""
    split = statistics["split"]
    models = {}
    for name, model in statistics["models"].items():
        figures = model["metrics"][split]
        contrast = model["contrast"]
        parameters = model["parameters"]
        models[name] = Finding(
            name=name,
            kind=model["kind"],
            parameters_m=None if parameters is None else parameters / 1e6,
            loss=figures["loss"]["mean"],
            balanced_accuracy=figures["balanced_accuracy"]["mean"],
            beats_prior=model["beats_prior"],
            mean_below_prior=model["mean_below_prior"],
            decided=contrast is not None and contrast["decided"],
        )
    return Findings(
        models=models,
        reference=statistics["reference"],
        split=split,
        num_seeds=len(statistics["seeds"]),
        seeds_needed=statistics["seeds_needed"],
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
            f"its loss is {best.loss:.3f} and its balanced accuracy {best.balanced_accuracy:.3f}."
        )
    lines.append(_undecided(found))
    lines.append(_against_unimodal(found))
    if found.split != "test":
        lines.append(
            "There is no test split: epochs were selected on the very data that these figures come "
            "from, so they flatter every model; `dataset.test_fraction` holds some training groups out."
        )
    return lines


def _undecided(found: Findings) -> str:
    """Which models differ from the reference, and whether so few seeds could have shown it."""
    others = [model for model in found.fusions if model.name != found.reference]
    worse = [model for model in others if model.decided and model.loss > found.best.loss]
    better = [model for model in others if model.decided and model.loss < found.best.loss]
    open_ = [model for model in others if not model.decided]
    parts = []
    if worse:
        parts.append(f"It is significantly better than {_join(worse)}.")
    if better:
        parts.append(f"On the {found.split} split it is significantly worse than {_join(better)}.")
    if open_:
        parts.append(f"Against {_join(open_)} it is not decided.")
    if not found.enough_seeds:
        parts.append(
            f"With {_seeds(found.num_seeds)} no difference of this family can be significant, however "
            f"large; that takes at least {found.seeds_needed}."
        )
    return " ".join(parts)


def _against_unimodal(found: Findings) -> str:
    single = min(found.of_kind("unimodal"), key=lambda model: model.loss)
    gain = single.loss - found.best.loss
    if gain <= 0:
        return (
            f"Fusing did not pay: {single.name} alone has a mean loss of {single.loss:.3f} and a balanced "
            f"accuracy of {single.balanced_accuracy:.3f}."
        )
    certainty = "is significant" if single.decided else "is not decided either"
    return (
        f"The better single sensor, {single.name}, has a loss of {single.loss:.3f} and a balanced accuracy "
        f"of {single.balanced_accuracy:.3f}; its difference from {found.reference} {certainty}."
    )


def written_analysis(found: Findings) -> list[str]:
    """Three paragraphs, 200 to 400 words: which is best and why, size against success, when to use what."""
    return [_best_and_why(found), _size_and_success(found), _recommendations(found)]


def _best_and_why(found: Findings) -> str:
    best = found.best
    others = [model for model in found.fusions if model.name != best.name]
    text = (
        f"Judged on validation, {best.name} ({best.kind} fusion) did best. On the {found.split} split its "
        f"mean loss over {_seeds(found.num_seeds)} is {best.loss:.3f}"
    )
    if others:
        rival = min(others, key=lambda model: model.loss)
        text += f", that of the nearest other fusion, {rival.name}, {rival.loss:.3f}"
        if rival.decided:
            side = "in its favour" if rival.loss > best.loss else "in the rival's favour"
            text += f", a significant difference {side}"
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
    rgb, lidar = found.models["rgb"], found.models["lidar"]
    strong, weak = sorted((rgb, lidar), key=lambda model: model.loss)
    sensors = (
        f"Alone, {strong.name} reaches a balanced accuracy of {strong.balanced_accuracy:.3f} and "
        f"{weak.name} {weak.balanced_accuracy:.3f}, against {best.balanced_accuracy:.3f} for {best.name}. "
    )
    if best.loss >= strong.loss:
        return sensors + (
            "So the second sensor has not paid here: a fusion has more to fit and, on this many samples, "
            "fits it no better than the stronger sensor's own net."
        )
    if best.kind == "late":
        return sensors + (
            "A plausible reason is that each of its nets is larger and learns from its own sensor alone, so "
            "that the head only has to learn which opinion to trust; that all of this is more training than "
            "one intermediate net gets may be another."
        )
    return sensors + (
        "A plausible reason is that an intermediate fusion sees both sensors' feature maps before it "
        "decides, so one sensor can stand in where the other fails."
    )


def _size_and_success(found: Findings) -> str:
    fusions = sorted(found.fusions, key=lambda model: model.parameters_m or 0)
    smallest, largest = fusions[0], fusions[-1]
    text = (
        f"The largest fusion, {largest.name}, carries {largest.parameters_m:.3g} million parameters and has a "
        f"loss of {largest.loss:.3f}; the smallest, {smallest.name}, carries {smallest.parameters_m:.3g} "
        f"million and has {smallest.loss:.3f}. "
    )
    if largest.loss < smallest.loss:
        text += "Here the larger has the lower mean, which alone does not show that size is the cause. "
    else:
        text += "Here the parameters that the larger one adds did not lower its mean loss. "
    single = min(found.of_kind("unimodal"), key=lambda model: model.loss)
    leaner = [
        model
        for model in fusions
        if (model.parameters_m or 0) < (single.parameters_m or 0) and model.loss < single.loss
    ]
    if leaner:
        text += (
            f"Size is not the whole story: {_join(leaner)}, with fewer parameters than the net of {single.name} "
            f"alone ({single.parameters_m:.3g} million), {'has' if len(leaner) == 1 else 'have'} a lower mean "
            "loss than it. "
        )
    else:
        text += (
            f"No fusion with fewer parameters than the net of {single.name} alone "
            f"({single.parameters_m:.3g} million) has a lower mean loss than it. "
        )
    if found.of_kind("late"):
        text += (
            "A late model's count includes both unimodal nets, of which none is trained again: its own head "
            "is a few dozen weights."
        )
    return text


def _recommendations(found: Findings) -> str:
    text = (
        "As a rule of thumb, which these numbers do not test: take intermediate fusion when both sensors are "
        "recorded together and there are samples enough to learn how they relate. "
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
