"""The page of a learning curve: what the template fills in."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.studies.learning_curve import answer as answers
from scripts.studies.learning_curve.answer import groups_of, named
from scripts.studies.learning_curve.results import Change, Curve, Size
from stages.lib.core.names import TITLES
from stages.lib.report import answer, format, tables
from stages.lib.report.page import templates
from stages.lib.report.tables import Column

FIGURE = "learning_curve.png"


def render(curve: Curve, overrides: Sequence[str]) -> str:
    """The page as Markdown.

    Args:
        overrides: settings of the runs that are not those of params.yaml.
    """
    compared, manifest = curve.sizes[-1].compared, curve.manifest
    counts = {split: sum(manifest.counts[split].values()) for split in manifest.splits()}
    return (
        templates("scripts.studies.learning_curve")
        .get_template("page.md.j2")
        .render(
            source=format.code(manifest.source),
            classes=[format.escaped(name) for name in manifest.classes],
            counts=", ".join(f"{count:,} {split}" for split, count in counts.items()),
            seeds=format.plural(len(compared.seeds), "seed"),
            sizes=format.join([named(size) for size in curve.sizes]),
            answer=answers.answer(curve),
            figure=FIGURE,
            accuracies_table=_accuracies(curve),
            split=compared.split,
            confidence=f"{compared.confidence:.0%}",
            margin=format.points(compared.margin),
            by_size=[_of_size(size) for size in curve.sizes],
            gains_table=_changes(curve, curve.gains, "Balanced accuracy", ("higher", "lower")),
            changes_table=_changes(curve, curve.changes, "Difference in points", ("rises", "falls")),
            smallest=groups_of(curve.sizes[0]),
            largest=groups_of(curve.sizes[-1]),
            has_whole=curve.sizes[-1].share == 1,
            epochs=", ".join(f"{size.epochs} epochs with {groups_of(size)} groups" for size in curve.sizes),
            timing=curve.timing,
            overrides=overrides,
            digest=manifest.digest[:16],
        )
    )


def _accuracies(curve: Curve) -> str:
    """Balanced accuracy of every model at every size."""

    def column(size: Size) -> Column[str]:
        title = f"{groups_of(size)} groups ({size.share:.0%})"
        return Column(title, lambda name: format.with_interval(size.accuracies[name]))

    columns = [Column("Model", format.label), *map(column, curve.sizes)]
    return tables.markdown(curve.sizes[-1].accuracies, columns)


def _of_size(size: Size) -> tuple[str, str, str]:
    """Heading and both families of one size."""
    confidence = f"{size.compared.confidence:.0%}"
    reference, single = format.label(size.compared.reference), f"{TITLES[size.compared.single]} alone"
    heading = named(size)
    return (
        heading[0].upper() + heading[1:],
        tables.contrasts(size.contrasts, f"Against {reference}", confidence),
        tables.contrasts(size.singles, f"Against {single}", confidence),
    )


def _changes(curve: Curve, changes: list[Change], title: str, words: tuple[str, str]) -> str:
    """A family of changes; `words` are the outcomes above and below zero. Empty where there is none."""
    if not changes:
        return ""
    is_difference = changes == curve.changes
    outcomes = dict(zip(("better", "worse"), words, strict=True))

    def value(share: float) -> str:
        return format.points(share, sign=True) if is_difference else format.number(share, 3)

    def outcome(change: Change) -> str:
        return outcomes.get(change.claim.outcome, format.outcome(change.claim.outcome))

    columns: list[Column[Change]] = [
        Column(title, lambda change: format.label(change.what)),
        Column(f"With {groups_of(curve.sizes[0])} groups", lambda change: value(change.small)),
        Column(f"With {groups_of(curve.sizes[-1])} groups", lambda change: value(change.large)),
        Column("Change (points)", lambda change: format.points(change.claim.difference, sign=True)),
        Column(
            f"{curve.sizes[0].compared.confidence:.0%} interval", lambda change: format.interval(change.claim)
        ),
        Column("p", lambda change: format.p_value(change.claim.p)),
        Column("p (Holm)", lambda change: format.p_value(change.claim.p_holm)),
        Column("Outcome", outcome),
        Column("To decide it", lambda change: answer.plan_words(change.claim)),
    ]
    return tables.markdown(changes, columns)
