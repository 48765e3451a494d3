"""The zoo's variants in its report: two sections, and reports/zoo/variants.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scripts.studies.zoo.variants import Matched, Places, RunResults
from stages.lib.report import format, tables
from stages.lib.report.tables import Column
from stages.lib.statistics.results import LEAST_SEEDS, Contrast

BEFORE = "\n## Cost\n"  # the section of the report that follows
_FIGURE = (
    "![Balanced accuracy at one number of parameters, and by the place of the fusion](figures/variants.png)"
)


def insert(report: str, matched: Matched | None, places: Places | None) -> str:
    """The report with the sections of the variants that there are."""
    sections = [*([] if matched is None else _matched(matched)), *([] if places is None else _places(places))]
    if not sections:
        return report
    assert report.count(BEFORE) == 1, "the report's template has another section of this name, or none"
    return report.replace(BEFORE, "\n" + "\n\n".join([*sections, _FIGURE, _LEGEND]) + f"\n{BEFORE}")


_LEGEND = (
    "*Circles are means over seeds, lines their intervals over seeds and scenes, each model by itself; overlapping "
    "intervals decide nothing.*"
)


def _matched(found: Matched) -> list[str]:
    compared = found.run.compared
    reference = format.label(compared.reference)

    def against(name: str) -> str:
        contrast = found.run.model(name).contrast
        return format.difference(contrast) if contrast else "the reference"

    def change(name: str) -> str:
        same_size = found.run.model(name).parameters == found.main.model(name).parameters
        is_same = same_size and found.changes[name].difference == 0
        return "the same network" if is_same else _cell(found.changes[name])

    columns: list[Column[str]] = [
        Column("Fusion", format.label),
        Column(
            f"Balanced accuracy ({compared.split})",
            lambda name: format.with_interval(found.run.accuracy(name)),
        ),
        Column(f"Against {reference}", against),
        Column("Parameters (M)", lambda name: format.millions(found.run.model(name).parameters)),
        Column("In the main run (M)", lambda name: format.millions(found.main.model(name).parameters)),
        Column("Change to the main run", change),
    ]
    return [
        "## At one number of parameters",
        tables.markdown(found.names, columns),
        "*Differences in size are no reason for a difference here.* The same seeds and data as above, with "
        "`network.match_parameters`: every fusion has the number of parameters of addition, within 1%, by the width "
        "of its head. The column *Against* is a family of comparisons with the reference of this run, the fusion "
        "with the lowest validation loss; *Change* is another: each fusion here less the same one in the main run.",
        " ".join([_against_reference(found.run), _change_words(found)]),
    ]


def _against_reference(run: RunResults) -> str:
    compared = run.compared
    if nothing := _no_claims(run):
        return nothing
    reference = format.label(compared.reference)
    contrasts = [contrast for name in compared.fusions if (contrast := run.model(name).contrast)]
    parts = [
        f"{words}: {_names(chosen)}"
        for outcome, words in {
            "better": f"significantly better than {reference}",
            "tied": f"tied with it, within {format.points(compared.margin)} points",
            "not decided": "open",
            "worse": f"significantly worse than {reference}",
        }.items()
        if (chosen := [contrast.model for contrast in contrasts if contrast.outcome == outcome])
    ]
    return f"At one size, {reference} has the lowest validation loss; {'; '.join(parts)}."


def _change_words(found: Matched) -> str:
    """Which fusions do better or worse at this size, and which outcomes against the reference are others."""
    if _no_claims(found.run):
        return ""
    significant = {name: c for name, c in found.changes.items() if c.outcome in ("better", "worse")}
    listed = [
        f"{format.label(name)} is {contrast.outcome} ({_numbers(contrast)})"
        for name, contrast in significant.items()
    ]
    text = (
        f"Compared with the main run, {'; '.join(listed)}; no other change is significant."
        if listed
        else "No fusion's change to the main run is significant."
    )
    references = found.main.compared.reference, found.run.compared.reference
    if references[0] != references[1]:
        return (
            f"{text} The reference of the main run is {format.label(references[0])}, so outcomes against it are not "
            "those against the reference here."
        )
    others = [
        f"{format.label(name)} ({format.outcome(before.outcome)} there, {format.outcome(now.outcome)} here)"
        for name in found.names
        if (before := found.main.model(name).contrast)
        and (now := found.run.model(name).contrast)
        and before.outcome != now.outcome
    ]
    if others:
        text += f" Against {format.label(references[0])}, another outcome: {format.join(others)}."
    return text


def _places(found: Places) -> list[str]:
    rows = [(name, place) for name in found.names for place in found.runs]
    earlier = list(found.runs)[:-1]

    def against(place: int) -> Column[tuple[str, int]]:
        def cell(row: tuple[str, int]) -> str:
            contrast = found.contrasts.get((*row, place))
            return _cell(contrast) if contrast else "-"

        return Column(f"Against after block {place}", cell)

    split = found.runs[found.default].compared.split
    columns: list[Column[tuple[str, int]]] = [
        Column("Fusion", lambda row: format.label(row[0])),
        Column(
            "Fused after block",
            lambda row: f"{row[1]} (main run)" if row[1] == found.default else str(row[1]),
        ),
        Column(
            f"Balanced accuracy ({split})",
            lambda row: format.with_interval(found.runs[row[1]].accuracy(row[0])),
        ),
        *map(against, earlier),
        Column("Parameters (M)", lambda row: format.millions(found.runs[row[1]].model(row[0]).parameters)),
    ]
    return [
        "## Where to fuse",
        tables.markdown(rows, columns),
        '*Compare the columns "Against".* Each holds the difference in points of balanced accuracy to the same '
        "fusion at an earlier place (`network.fuse_after`), paired by seed and scene, with its interval and p by "
        f"Holm's method over all {len(found.contrasts)} comparisons of this table. The earlier the fusion, the fewer "
        "blocks process each sensor alone. Where sizes differ, too (last column), a difference may come from size.",
        _place_words(found),
    ]


def _place_words(found: Places) -> str:
    run = found.runs[found.default]
    if nothing := _no_claims(run):
        return nothing
    sentences = []
    for name in found.names:
        own = {key[1:]: contrast for key, contrast in found.contrasts.items() if key[0] == name}
        listed = [
            f"fusing after block {later} is significantly {contrast.outcome} than after block {earlier} "
            f"({_numbers(contrast)})"
            for (later, earlier), contrast in own.items()
            if contrast.outcome in ("better", "worse")
        ]
        tied = [f"blocks {earlier} and {later}" for (later, earlier), c in own.items() if c.outcome == "tied"]
        parts = listed or ["no difference between the places is significant"]
        if tied:
            margin = format.points(run.settings.report.margin)
            parts.append(f"tied within {margin} points: {format.join(tied)}")
        sentences.append(f"With {format.label(name)}, {'; '.join(parts)}.")
    return " ".join(sentences)


def _no_claims(run: RunResults) -> str | None:
    count = len(run.compared.seeds)
    if count >= LEAST_SEEDS and run.compared.num_scenes > 1:
        return None
    return f"Nothing can be claimed with {format.plural(count, 'seed')}" + (
        "." if run.compared.num_scenes > 1 else " and a single scene."
    )


def _names(models: list[str]) -> str:
    return format.join([format.label(name) for name in models])


def _numbers(contrast: Contrast) -> str:
    points = format.points(contrast.difference, sign=True)
    return f"{points} points, {format.interval(contrast)}, p {format.p_value(contrast.p_holm)}"


def _cell(contrast: Contrast) -> str:
    """Points, interval, p and outcome."""
    points = format.points(contrast.difference, sign=True)
    if contrast.interval is None:
        return points
    p = "" if contrast.p_holm is None else f", p {format.p_value(contrast.p_holm)}"
    return f"{points} ({format.interval(contrast)}){p}, {format.outcome(contrast.outcome)}"


def numbers(matched: Matched | None, places: Places | None) -> dict[str, Any]:
    """All numbers of the sections, for variants.json."""
    found: dict[str, Any] = {}
    if matched is not None:
        found["matched"] = {
            "reference": matched.run.compared.reference,
            "seeds": matched.run.compared.seeds,
            "models": {
                name: {
                    "here": _model_numbers(matched.run, name),
                    "main": _model_numbers(matched.main, name),
                    "contrast": asdict(contrast) if (contrast := matched.run.model(name).contrast) else None,
                    "change": asdict(matched.changes[name]),
                }
                for name in matched.names
            },
        }
    if places is not None:
        found["fuse_after"] = {
            "main": places.default,
            "seeds": places.runs[places.default].compared.seeds,
            "models": {
                name: {str(place): _model_numbers(run, name) for place, run in places.runs.items()}
                for name in places.names
            },
            "contrasts": [
                {"fusion": name, "later": later, "earlier": earlier, **asdict(contrast)}
                for (name, later, earlier), contrast in places.contrasts.items()
            ],
        }
    return found


def _model_numbers(run: RunResults, name: str) -> dict[str, Any]:
    summary = run.accuracy(name)
    accuracy = {"mean": summary.mean, "low": summary.low, "high": summary.high}
    return {"parameters": run.model(name).parameters, "balanced_accuracy": accuracy}
