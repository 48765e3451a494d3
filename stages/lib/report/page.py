"""What the report's templates fill in: tables, and sentences that depend on the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from stages.lib import fusions
from stages.lib.comparison.measured import MeasuredCost
from stages.lib.comparison.results import Comparison, trained_rates
from stages.lib.core.names import TITLES
from stages.lib.params import OwnSettings, Params, Train
from stages.lib.report import analysis, answer, card, conditions, doubtful, format, gains, tables
from stages.lib.tensors.manifest import Manifest

PAGES = ("report.md", "details.md")


@dataclass(frozen=True)
class Results:
    """All that the report shows, as other stages found it."""

    settings: Params
    manifest: Manifest
    compared: Comparison
    costs: dict[str, MeasuredCost]  # by model
    headline: dict[str, float]  # reports/metrics.json
    timing: dict[str, Any]  # reports/timing/train-NAME.json of the first model


def templates(package: str) -> jinja2.Environment:
    """The templates in the folder of a package."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(results: Results) -> dict[str, str]:
    """The pages as Markdown, by their path in the folder of the reports; and a card for each model."""
    environment = templates("stages.lib.report")
    environment.filters |= {
        "code": format.code,
        "escaped": format.escaped,
        "fixed": format.number,
        "label": format.label,
        "percent": format.percent,
        "plural": format.plural,
        "points": format.points,
        "thousands": "{:,}".format,
    }
    filled = context(results)
    pages = {page: environment.get_template(f"{page}.j2").render(filled) for page in PAGES}
    template = environment.get_template("card.md.j2")
    for row in tables.models(results.compared, results.costs):
        if row.cost:
            own = results.settings.train.per_model.get(row.name, OwnSettings())
            values = {
                "own": own,
                "additions": additions(results.settings.train, filled["epochs"], own),
                **card.context(row, results.compared, results.manifest),
            }
            pages[f"cards/{row.name}.md"] = template.render(filled | values)
    return pages


def context(results: Results) -> dict[str, Any]:
    settings, manifest, compared = results.settings, results.manifest, results.compared
    models = tables.models(compared, results.costs)
    shown = [row for row in models if row.name in settings.fusion_names()]
    contrasts = [row.result.contrast for row in models if row.result.contrast]
    singles = [row.result.single for row in models if row.result.single]
    confidence = f"{compared.confidence:.0%}"
    epochs = max(len(seed["epoch_s"]) for seed in results.timing["seeds"].values())
    on_gpu = results.timing["device"] == "cuda"
    reference, single = format.label(compared.reference), f"{TITLES[compared.single]} alone"
    return {
        "settings": settings,
        "manifest": manifest,
        "compared": compared,
        "reference": reference,
        "single": single,
        "confidence": confidence,
        "timing": results.timing,
        "on_gpu": on_gpu,
        "sizes": ", ".join(f"{sum(manifest.counts[s].values()):,} {s}" for s in manifest.splits()),
        "answer": answer.answer(compared),
        "headline": ", ".join(
            f"{name.replace('_', ' ')} {results.headline[name]:.3f}"
            for name in ("val_loss", "test_loss", "test_balanced_accuracy")
            if name in results.headline
        ),
        "models_table": tables.all_models(models, compared),
        "notebook_table": tables.notebook(shown, on_gpu),
        "has_late": any(row.result.kind == "late" for row in shown),
        "peak_memory_mib": max(results.costs[row.name].peak_memory_mib for row in shown),
        "analysis": analysis.written_analysis(compared),
        "contrasts_table": tables.contrasts(contrasts, f"Against {reference}", confidence)
        if contrasts
        else "",
        "singles_table": tables.contrasts(singles, f"Against {single}", confidence),
        "matched": matched_widths(compared),
        "costs_table": tables.costs(models),
        "sensors_table": tables.sensors(models),
        "robustness_tables": [table for sensor in TITLES for table in tables.robustness(models, sensor)],
        "late_scan_groups": late_scan_groups(compared),
        "failures_tables": [
            table
            for case, rate in trained_rates(compared.sensor_dropout).items()
            for table in tables.failures(models, case, rate)
        ],
        "warnings": [*map(format.escaped, manifest.warnings), *filter(None, [answer.trivial_task(compared)])],
        "groups_table": tables.groups(manifest),
        "returns_table": tables.returns(manifest),
        "prior": compared.models["prior"].metrics,
        "operators": [
            (format.architecture(row.name, row.result.kind), fusions.describe(row.name)) for row in shown
        ],
        "epochs": epochs,
        "additions": additions(settings.train, epochs),
        "metrics_table": tables.all_metrics(models, compared.split, compared.rarest_class),
        "absent": [name for name, count in manifest.counts[compared.split].items() if not count],
        "conditions_tables": conditions.accuracies(compared),
        "gains_tables": conditions.gains(compared),
        "gains_tested": conditions.num_claims(compared),
        "gains_hold": gains.where_fusing_helps(compared) is not None,
        "gains_withheld": conditions.withheld(compared),
        "calibration_table": tables.calibration(models),
        "not_scaled": [
            format.label(row.name)
            for row in models
            if row.result.calibration and row.result.calibration.after.ece > row.result.calibration.before.ece
        ],
        "last_best": {name: count for name, count in compared.last_epoch_best.items() if count},
        "failure_rate": 1 - 0.05 ** (1 / len(compared.seeds)),
        "orientation": orientation(manifest),
        "near_copies_table": doubtful.near_copies_table(manifest),
        "near_copy_counts": doubtful.near_copy_counts(manifest),
        "num_near_copies": sum(sum(others.values()) for others in manifest.near_copy_counts.values()),
        "labels_table": doubtful.labels_table(compared),
        "label_checks": doubtful.label_checks(compared),
        "num_doubtful_labels": doubtful.num_doubtful_labels(compared),
    }


def matched_widths(compared: Comparison) -> dict[str, Any] | None:
    """How wide heads became, where they were made to differ (`network.match_parameters`)."""
    widths = {
        name: model.head_width for name, model in compared.models.items() if model.head_width is not None
    }
    if len(set(widths.values())) < 2:
        return None
    counts = [model.parameters for model in compared.models.values() if model.sensor_use and model.parameters]
    return {"widths": widths, "least": min(counts), "most": max(counts)}


def late_scan_groups(compared: Comparison) -> int:
    """Number of groups that got the scan of another group; 0 where late scans were not tested."""
    curves = (model.curves.get("lidar", {}).get("late_scan") for model in compared.models.values())
    return next((curve.num_groups for curve in curves if curve), 0)


def orientation(manifest: Manifest) -> str:
    """How LiDAR rasters lie on images, and how well."""
    text = f"Orientation of the rasters (`dataset.lidar.orientation`): {manifest.orientation}"
    fits = manifest.orientation_fits
    if fits:
        others = {name: fit for name, fit in fits.items() if name != manifest.orientation}
        best = max(others, key=lambda name: others[name])
        text += (
            f". The correlation of returns with the image's foreground is {fits[manifest.orientation]:.2f}; the best "
            f"other orientation, {best}, has {others[best]:.2f}"
        )
    if manifest.field_of_view_deg is not None:
        bounds = " and ".join(
            f"{name}s from {low:.2f} to {high:.2f}"
            for name, (low, high) in manifest.field_of_view_deg.items()
        )
        text += f". Point clouds are projected with {bounds} degrees"
    return f"{text}."


def _own_settings(train: Train) -> str:
    """What `train.per_model` sets."""
    return "; ".join(
        f"{name}: "
        + " and ".join(
            f"{key.replace('_', ' ')} {value:g}" for key, value in vars(own).items() if value is not None
        )
        for name, own in train.per_model.items()
    )


def additions(train: Train, epochs: int, own: OwnSettings | None = None) -> str:
    """What training of so many epochs has beyond the notebook's, in words.

    Args:
        own: what `train.per_model` sets for the model in question; None for words about all models.
    """
    weight_decay = train.weight_decay if own is None or own.weight_decay is None else own.weight_decay
    flips = {"horizontal": "left-right", "vertical": "upside-down", "both": "left-right and upside-down"}
    parts = {
        f"weight decay {weight_decay:g}": weight_decay > 0,
        f"gradient norm clipped to {train.clip_norm}": train.clip_norm is not None,
        f"early stopping after {train.patience} epochs without improvement": (
            train.patience is not None and train.patience < epochs
        ),
        "class weights in the loss": train.class_weights == "balanced",
        f"label smoothing {train.label_smoothing:g}": train.label_smoothing > 0,
        f"random {flips.get(train.augment.flip)} mirror images": train.augment.flip != "none",
        f"random shifts of up to {train.augment.shift} pixels": train.augment.shift > 0,
        f"one sensor hidden in {train.augment.sensor_dropout:.0%} of the samples": (
            train.augment.sensor_dropout > 0
        ),
        f"own settings of single models ({_own_settings(train)})": own is None and bool(train.per_model),
    }
    return "".join(f", {words}" for words, is_on in parts.items() if is_on)
