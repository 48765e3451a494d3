"""The written analysis: three paragraphs of 200 to 400 words in all.

Which fusion is best and why; size against success; when to use which fusion.
"""

from __future__ import annotations

from stages.lib.comparison.results import Comparison
from stages.lib.core.names import TITLES
from stages.lib.report.format import join, label, plural


def written_analysis(compared: Comparison) -> list[str]:
    return [_best_and_why(compared), _size_and_success(compared), _recommendations(compared)]


def _best_and_why(compared: Comparison) -> str:
    reference, best = compared.reference, compared.models[compared.reference]
    others = [name for name in compared.fusions if name != reference]
    kind = "" if label(reference) == best.kind else f" ({best.kind} fusion)"
    text = (
        f"On validation, {label(reference)}{kind} has the lowest loss. On the {compared.split} split "
        f"its mean balanced accuracy over {plural(len(compared.seeds), 'seed')} is {compared.accuracy(reference):.3f}"
    )
    if others:
        rival = max(others, key=compared.accuracy)
        contrast = compared.models[rival].contrast
        assert contrast is not None
        comment = {
            "worse": "the difference is significant",
            "better": f"it is significantly better than {label(reference)}",
            "tied": "the two are tied",
            "not decided": "this run does not decide whether the two differ",
        }[contrast.outcome]
        text += f". Of the other fusions {label(rival)} has the highest, {compared.accuracy(rival):.3f}; {comment}"
    text += ". "
    if not best.beats_prior:
        shown = "is not shown to beat" if best.mean_below_prior else "does not beat"
        return text + (
            f"But it {shown} the class prior, which uses no sensor at all. To explain its rank would be to explain "
            "chance. The networks have to learn something first, with more epochs, a higher learning rate or more "
            "data. Only then can the way of fusion matter."
        )
    return text + _why(compared)


def _why(compared: Comparison) -> str:
    best = compared.models[compared.reference]
    strong = compared.single
    weak = next(
        name for name, model in compared.models.items() if model.kind == "unimodal" and name != strong
    )
    sensors = (
        f"Alone, {TITLES[strong]} has {compared.accuracy(strong):.3f} and {TITLES[weak]} "
        f"{compared.accuracy(weak):.3f}. "
    )
    outcome = best.single.outcome if best.single else "not decided"
    if outcome != "better":
        shown = {
            "worse": "So the second sensor does harm here",
            "tied": "So the second sensor does not pay here",
        }.get(outcome, "So it is not shown that the second sensor pays here")
        return sensors + (
            f"{shown}. A plausible reason, which these numbers do not test, is that a fusion has more weights to "
            "fit and no more samples to fit them to."
        )
    if best.kind == "late" and best.trainable_parameters == 0:
        reason = (
            "two networks, each trained on its own sensor, make their errors on different samples, so that their "
            "mean makes fewer"
        )
    elif best.kind == "late" and not is_head_alone(best.parameters, best.trainable_parameters):
        reason = (
            "each of its networks starts from what it has learned about its own sensor, and then learns what the "
            "other one misses. It also trains longest of all, which may be another reason"
        )
    elif best.kind == "late":
        reason = (
            "each network of a late fusion learns from one sensor alone, so that the head only has to learn which of "
            "the two to trust. Another reason may be training: the two networks and the head together train longer "
            "than one intermediate network"
        )
    elif best.kind == "early":
        reason = (
            "one encoder sees both sensors at every place, so that it can use patterns that show only where the two "
            "are seen together"
        )
    else:
        reason = (
            "an intermediate fusion sees the feature maps of both sensors before it decides, so that one sensor can "
            "stand in where the other fails"
        )
    return f"{sensors}A plausible reason, which these numbers do not test, is that {reason}."


def is_head_alone(parameters: int | None, trained: int | None) -> bool:
    """Whether its own training left most of its weights alone: a late fusion over frozen networks."""
    return trained is not None and parameters is not None and trained < parameters / 2


def _size_and_success(compared: Comparison) -> str:
    sizes = {name: compared.models[name].parameters or 0 for name in compared.fusions}
    by_size = sorted(sizes, key=lambda name: sizes[name])
    if _are_alike(sizes[by_size[0]], sizes[by_size[-1]]):
        return _same_size(compared)
    # Of several of like size the one with the lowest loss.
    small, large = (
        min((name for name in sizes if _are_alike(sizes[name], sizes[end])), key=compared.loss)
        for end in (by_size[0], by_size[-1])
    )
    text = (
        f"Of the largest fusions, {label(large)} with {_millions(compared, large)} million parameters has the "
        f"lowest loss, {compared.loss(large):.3f}. Of the smallest, it is {label(small)} with "
        f"{_millions(compared, small)} million and a loss of {compared.loss(small):.3f}. "
    )
    if compared.loss(large) < compared.loss(small):
        text += (
            "The larger one has the lower mean loss, but this alone does not show that size is the cause. "
        )
    else:
        text += "More parameters did not lower the mean loss here. "
    single = compared.single
    leaner = [
        name
        for name in by_size
        if sizes[name] < (compared.models[single].parameters or 0)
        and compared.loss(name) < compared.loss(single)
    ]
    if leaner:
        text += (
            f"Size alone does not explain the order: {join([label(name) for name in leaner])} "
            f"{'has' if len(leaner) == 1 else 'have'} fewer parameters than the network of {TITLES[single]} alone "
            f"({_millions(compared, single)} million) and a lower mean loss. None of these losses is tested against "
            "another. "
        )
    else:
        text += (
            f"No fusion with fewer parameters than the network of {TITLES[single]} alone "
            f"({_millions(compared, single)} million) has a lower mean loss than it. "
        )
    return (text + _late_sizes(compared)).rstrip()


def _late_sizes(compared: Comparison) -> str:
    late = [model for model in compared.models.values() if model.kind == "late"]
    if not late:
        return ""
    text = "The parameters of a late fusion include both unimodal networks. "
    heads = sorted(
        model.trainable_parameters
        for model in late
        if model.trainable_parameters and is_head_alone(model.parameters, model.trainable_parameters)
    )
    if heads:
        sizes = f"{heads[0]:,}" if heads[0] == heads[-1] else f"{heads[0]:,} to {heads[-1]:,}"
        text += f"Where these are frozen, its own head has {sizes} weights."
    return text


def _are_alike(one: int, other: int) -> bool:
    """Whether two sizes are the same within two hundredths."""
    return max(one, other) <= 1.02 * min(one, other)


def _millions(compared: Comparison, name: str) -> str:
    return f"{(compared.models[name].parameters or 0) / 1e6:.3g}"


def _same_size(compared: Comparison) -> str:
    """In place of size against success, where all fusions have the same size."""
    by_loss = sorted(compared.fusions, key=compared.loss)
    reference, single = compared.reference, compared.single
    if len(by_loss) > 1:
        first, last = by_loss[0], by_loss[-1]
        text = (
            f"All fusions have about {_millions(compared, reference)} million parameters, so size explains none of "
            f"the differences between them. Mean losses go from {compared.loss(first):.3f} ({label(first)}) to "
            f"{compared.loss(last):.3f} ({label(last)}). "
        )
    else:
        text = (
            f"{label(reference)}, the only fusion here, has {_millions(compared, reference)} million parameters. "
            "Only further fusions could show whether its size or its operator matters. "
        )
    text += (
        f"The network of {TITLES[single]} alone has {_millions(compared, single)} million and a mean loss of "
        f"{compared.loss(single):.3f}. Between it and the fusions, these numbers cannot tell the effect of size from "
        "the effect of the second sensor. None of these losses is tested against another. "
    )
    if any(model.kind == "late" for model in compared.models.values()):
        text += (
            "The parameters of a late fusion include both unimodal networks, which learn separately; what trains "
            "after them may be a few weights only."
        )
    return text.rstrip()


def _recommendations(compared: Comparison) -> str:
    text = (
        "Some rules of thumb follow; a claim of this run counts more than any of them. Take intermediate fusion when "
        "both sensors are recorded together and there are enough samples to learn how they relate. "
    )
    if "concatenation" in compared.models:
        text += (
            "Within it, concatenation is the choice when memory allows and nothing is known about the sensors: it "
            "discards nothing. "
        )
    if {"addition", "hadamard"} & compared.models.keys():
        text += (
            "An element-wise operator suits when parameters are expensive and the two rasters are aligned. Take a "
            "product only where neither sensor can fail, since a silent sensor silences the other one too. "
        )
    if any(model.kind == "late" for model in compared.models.values()):
        text += (
            "Take late fusion when the unimodal networks exist already, or when the sensors are developed and "
            "replaced separately. "
        )
    else:
        text += (
            "Late fusion, which this run does not include, is worth a try when the unimodal networks exist already, "
            "or when the sensors are developed and replaced separately: only a small head then learns from both, and "
            "either network can still be improved alone. "
        )
    return text + "Where a difference between two models is open, let cost decide."
