"""What the report's template fills in: tables, and sentences that depend on the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from stages.lib import fusions
from stages.lib.comparison.measured import MeasuredCost
from stages.lib.comparison.results import Comparison
from stages.lib.core.names import TITLES
from stages.lib.params import Params, Train
from stages.lib.report import findings, format, tables
from stages.lib.tensors.manifest import Manifest


@dataclass(frozen=True)
class Results:
    """All that the report shows, as other stages found it."""

    settings: Params
    manifest: Manifest
    compared: Comparison
    costs: dict[str, MeasuredCost]  # by model
    headline: dict[str, float]  # reports/metrics.json
    timing: dict[str, Any]  # reports/timing/train-NAME.json of the first model


def render(results: Results) -> str:
    """The page as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stages.lib.report", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plural": format.plural, "percent": "{:.0%}".format, "thousands": "{:,}".format}
    return environment.get_template("report.md.j2").render(context(results))


def context(results: Results) -> dict[str, Any]:
    settings, manifest, compared = results.settings, results.manifest, results.compared
    found = findings.findings(compared)
    models = tables.models(compared, results.costs)
    shown = [row for row in models if row.name in settings.fusion_names()]
    contrasts = [row.result.contrast for row in models if row.result.contrast]
    singles = [row.result.single for row in models if row.result.single]
    confidence = f"{compared.confidence:.0%}"
    on_gpu = results.timing["device"] == "cuda"
    return {
        "settings": settings,
        "manifest": manifest,
        "compared": compared,
        "confidence": confidence,
        "timing": results.timing,
        "sizes": ", ".join(f"{sum(manifest.counts[s].values()):,} {s}" for s in manifest.splits()),
        "answer": [line for line in findings.answer(found) if line],
        "headline": ", ".join(
            f"{name.replace('_', ' ')} {results.headline[name]:.3f}"
            for name in ("val_loss", "test_loss", "test_balanced_accuracy")
            if name in results.headline
        ),
        "notebook_table": tables.notebook(shown, on_gpu),
        "on_gpu": on_gpu,
        "has_late": any(row.result.kind == "late" for row in shown),
        "peak_memory_mib": max(results.costs[row.name].peak_memory_mib for row in shown),
        "models_table": tables.all_models(models, compared.split),
        "metrics_table": tables.all_metrics(models, compared.split, compared.rarest_class),
        "absent": [name for name, count in manifest.counts[compared.split].items() if not count],
        "contrasts_table": tables.contrasts(contrasts, f"Against {compared.reference}", confidence),
        "singles_table": tables.contrasts(singles, f"Against {compared.single} alone", confidence),
        "matched": matched_widths(compared),
        "narrow": findings.narrow_intervals(compared),
        "costs_table": tables.costs(models),
        "sensors_table": tables.sensors(models),
        "robustness_table": tables.robustness(models),
        "calibration_table": tables.calibration(models),
        "not_scaled": [
            row.name
            for row in models
            if row.result.calibration and row.result.calibration.after.ece > row.result.calibration.before.ece
        ],
        "last_best": {name: count for name, count in compared.last_epoch_best.items() if count},
        "groups_table": tables.groups(manifest),
        "prior": compared.models["prior"].metrics,
        "trivial_task": findings.trivial_task(found),
        "rasters": rasters(manifest),
        "operators": [
            (format.architecture(row.name, row.result.kind), fusions.describe(row.name)) for row in shown
        ],
        "analysis": findings.written_analysis(found),
        "extras": extras(settings.train),
        "titles": TITLES,
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


def rasters(manifest: Manifest) -> str:
    """How scans lie on pictures, and how well."""
    text = f"Orientation of the rasters: {manifest.orientation}"
    fits = manifest.orientation_fits
    if fits:
        others = {name: fit for name, fit in fits.items() if name != manifest.orientation}
        best = max(others, key=lambda name: others[name])
        text += (
            f"; returns and the picture's foreground correlate with {fits[manifest.orientation]:.2f} so, and "
            f"with {others[best]:.2f} in the best other orientation, {best}"
        )
    if manifest.field_of_view_deg is not None:
        bounds = " and ".join(
            f"{name}s from {low:.2f} to {high:.2f}"
            for name, (low, high) in manifest.field_of_view_deg.items()
        )
        text += f". Point clouds are projected with {bounds} degrees"
    return f"{text}."


def extras(train: Train) -> str:
    """What the recipe has beyond the notebook's, in words."""
    flips = {"horizontal": "mirrored", "vertical": "turned upside down", "both": "mirrored both ways"}
    told = {
        f"weight decay {train.weight_decay:g}": train.weight_decay > 0,
        f"gradients of a norm up to {train.clip_norm}": train.clip_norm is not None,
        f"stopped after {train.patience} epochs without improvement": train.patience is not None,
        "classes weighed alike": train.class_weights == "balanced",
        f"samples {flips.get(train.augment.flip)}": train.augment.flip != "none",
        f"samples moved by up to {train.augment.shift} pixels": train.augment.shift > 0,
        f"one sensor left out of {train.augment.sensor_dropout:.0%} of the samples": (
            train.augment.sensor_dropout > 0
        ),
    }
    return "".join(f", {words}" for words, is_on in told.items() if is_on)
