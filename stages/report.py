"""Renders the report from what the other stages found; computes nothing.

    python -m stages.report

Reads reports/comparison.csv, statistics.json, metrics.json, timing/ and data/tensors/manifest.json;
writes reports/report.md.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from stages.lib import fusions, params
from stages.lib.core import console
from stages.lib.core.names import TITLES
from stages.lib.params import Params, Train
from stages.lib.report import findings
from stages.lib.report.findings import Findings
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors.manifest import Manifest

REPORTS = Path("reports")
NO_TEST_SPLIT = "no test split"
_MOST_COLUMNS = 6  # of architectures that fit side by side
_MB = 2**20 / 1e6  # of a MiB
_PROPER_NAMES = {"film": "FiLM", "mmtm": "MMTM"}

Row = dict[str, str]


def main(arguments: Sequence[str] = ()) -> None:
    console.no_arguments(arguments)
    settings = params.load()
    manifest = manifests.load(manifests.FOLDER)
    rows = read_rows(REPORTS / "comparison.csv")
    statistics = json.loads((REPORTS / "statistics.json").read_text())
    headline = json.loads((REPORTS / "metrics.json").read_text())
    timing = json.loads((REPORTS / "timing" / f"train-{settings.unimodal[0]}.json").read_text())
    found = findings.findings(statistics)
    sections = [
        title(manifest),
        answer(found, settings.fusion, headline),
        notebook_table(settings, rows, statistics, timing),
        full_table(rows, statistics, manifest),
        significance(statistics),
        costs(rows, statistics),
        sensors(statistics),
        robustness(statistics),
        calibration(statistics),
        curves(statistics),
        data(manifest, statistics, found),
        errors(statistics),
        advantages(settings),
        written_analysis(found),
        reproduction(settings, timing, manifest),
    ]
    (REPORTS / "report.md").write_text("\n\n".join(sections) + "\n")


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of comparison.csv by model."""
    with path.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def title(manifest: Manifest) -> str:
    sizes = ", ".join(f"{sum(manifest.counts[s].values()):,} {s}" for s in manifest.splits())
    return (
        f"# Which fusion of RGB and LiDAR works best on `{manifest.source}`?\n\n"
        f"{len(manifest.classes)} classes ({', '.join(manifest.classes)}); groups: {sizes}."
    )


def answer(found: Findings, fusion: str, headline: dict[str, float]) -> str:
    lines = [f"- {line}" for line in findings.answer(found) if line]
    figures = ", ".join(
        f"{name.replace('_', ' ')} {headline[name]:.3f}"
        for name in ("val_loss", "test_loss", "test_balanced_accuracy")
        if name in headline
    )
    lines.append(f"- Headline fusion (`fusion` in params.yaml): **{fusion}**, {figures}.")
    return (
        "## The answer\n\n"
        + "\n".join(lines)
        + "\n\n"
        + picture(
            "balanced_accuracy", "Balanced accuracy of every model with its interval over seeds and scenes"
        )
    )


def notebook_table(
    settings: Params, rows: dict[str, Row], statistics: dict[str, Any], timing: dict[str, Any]
) -> str:
    """The notebook's table: metrics as rows, architectures as columns."""
    names = settings.fusion_names()
    on_gpu = timing["device"] == "cuda"
    seconds = [number(rows[name]["epoch_s"], 2) for name in names]
    with_nets = [
        f"{cell} ({number(rows[name]['epoch_with_nets_s'], 2)})" if rows[name]["kind"] == "late" else cell
        for name, cell in zip(names, seconds, strict=True)
    ]
    losses = [statistics["models"][name]["metrics"]["validation"]["loss"] for name in names]
    table = [
        ["Validation Loss", *(spread(loss) for loss in losses)],
        ["Parameters (M)", *(millions(rows[name]["parameters"]) for name in names)],
        ["Training Time / epoch (s)", *with_nets],
        [
            "GPU Memory (MB)",
            *(f"{float(rows[name]['peak_memory_mib']) * _MB:,.0f}" if on_gpu else "no GPU" for name in names),
        ],
    ]
    headers = ["Metrics", *(architecture_title(name, rows[name]["kind"]) for name in names)]
    notes = ["One seed; best epoch by validation loss."]
    if len(settings.seeds) > 1:
        notes = [
            f"Mean ± standard deviation over {len(settings.seeds)} seeds; best epoch by validation loss."
        ]
    if any(rows[name]["kind"] == "late" for name in names):
        notes.append(
            "Late fusion's time is that of its own training, over cached logits where the nets are frozen; in "
            "brackets the mean over all epochs of it and of both unimodal nets, as the notebook reckons it: the "
            "fewer epochs a head takes, the nearer that is to the nets' own."
        )
    if not on_gpu:
        peak = max(float(rows[name]["peak_memory_mib"]) for name in names)
        notes.append(
            f"Trained without a GPU; the peak resident memory of a worker was {peak:,.0f} MiB at most."
        )
    if len(names) > _MOST_COLUMNS:  # the same table with an architecture in each row
        headers, *table = map(list, zip(headers, *table, strict=True))
    return "## The notebook's table\n\n" + markdown(table, headers) + "\n\n" + " ".join(notes)


def architecture_title(name: str, kind: str) -> str:
    """As the notebook has them: `Intermediate Fusion (Concatenation)`, `Late Fusion`."""
    if name == kind:
        return f"{kind.title()} Fusion"
    operator = name.removeprefix(f"{kind}_")
    return f"{kind.title()} Fusion ({_PROPER_NAMES.get(operator, operator.replace('_', ' ').title())})"


def full_table(rows: dict[str, Row], statistics: dict[str, Any], manifest: Manifest) -> str:
    """All models and baselines, with intervals."""
    split = statistics["split"]
    shown = {
        "balanced_accuracy": "Balanced accuracy",
        "accuracy": "Accuracy",
        "f1": "F1",
        "f1_rare": f"F1 of {statistics['rarest_class']}",
        "auroc": "AUROC",
        "average_precision": "Average precision",
        "brier": "Brier score",
        "ece": "ECE",
    }
    table, details = [], []
    for name, model in statistics["models"].items():
        measured = model["metrics"]
        table.append(
            [
                label(name),
                interval(measured[split]["balanced_accuracy"]),
                seeds_interval(measured[split]["balanced_accuracy"]),
                interval(measured["test"]["loss"]) if manifest.has_test_split else NO_TEST_SPLIT,
                interval(measured["validation"]["loss"]),
                millions(rows[name]["parameters"]),
                model["verdict"],
            ]
        )
        details.append([label(name), *(spread(measured[split][metric]) for metric in shown)])
    headers = [
        "Model",
        f"Balanced accuracy ({split})",
        "over seeds (t)",
        "Test loss",
        "Validation loss",
        "Parameters (M)",
        "Verdict",
    ]
    confidence = f"{statistics['confidence']:.0%}"
    over = "seeds and scenes (a bootstrap of both at once), and Student's over seeds alone"
    if len(statistics["seeds"]) == 1:
        over = "scenes alone (one seed tells nothing about others)"
    ranked = f"those of {manifest.classes[1]}" if len(manifest.classes) == 2 else "means over classes"
    absent = [name for name, count in manifest.counts[split].items() if not count]
    missing = (
        f" **No group of the {split} split is of class {' or '.join(absent)}**: balanced accuracy and F1 are "
        "means over the classes that occur."
        if absent
        else ""
    )
    return (
        "## All models\n\n"
        + markdown(table, headers)
        + f"\n\nMeans over seeds with {confidence} intervals over {over}. Losses are cross-entropies in nats. *class "
        "prior* always predicts the class frequencies of the training split; *return count* is a logistic regression "
        "on the number of LiDAR returns and their mean range. A model is better than the class prior when the 95% "
        "interval of their difference in loss lies below zero, each model for itself; else it is not shown to be "
        f"better.{missing}\n\n"
        + markdown(details, ["Model", *shown.values()])
        + f"\n\n{split.capitalize()} split, mean ± standard deviation over seeds. F1 is a mean over classes; "
        f"AUROC and average precision are {ranked}; ECE is the expected calibration error over 15 bins of equal "
        "mass. statistics.json holds the intervals of all of them; those of AUROC and average precision, which "
        "cost a sort a draw, rest on up to 2,000 of the draws.\n\n"
        + picture("confusion", "Share of each true class that each model predicts as each class")
    )


def curves(statistics: dict[str, Any]) -> str:
    last = statistics["last_epoch_best"]
    counts = ", ".join(f"{name} {count}" for name, count in last.items() if count)
    note = "In no run was the last epoch the best one."
    if counts:
        note = (
            f"Runs, of {len(statistics['seeds'])} each, whose best epoch was the last one: {counts}. Those might "
            "have gone on improving, and with more epochs the order might change."
        )
    return (
        "## Learning\n\n"
        + picture("loss_curves", "Training and validation loss over the epochs")
        + f"\n\nWhat lies above a panel is cut off. {note}"
    )


def significance(statistics: dict[str, Any]) -> str:
    """The family of claims, what fusing adds, and all other pairs."""
    reference, single = statistics["reference"], statistics["single"]
    models = statistics["models"]
    claims = [model["contrast"] for model in models.values() if model["contrast"]]
    singles = [model["single"] for model in models.values() if model["single"]]
    confidence, seeds = f"{statistics['confidence']:.0%}", len(statistics["seeds"])
    chosen = (
        "The test split had no say in choosing it. "
        if statistics["split"] == "test"
        else "It was chosen on the very split that it is judged on here, for want of a test split. "
    )
    parts = [
        "## What is significant, and what is tied",
        contrasts(claims, f"Against {reference}", confidence),
        f"The reference, {reference}, is the fusion with the least mean validation loss. {chosen}Differences are "
        f"in balanced accuracy on the {statistics['split']} split, the model's less the reference's, paired by "
        "seed and scene. P(better) is the share of seeds in which the model did better, equal ones counted "
        "half; p comes from flipping the signs of the "
        "differences over seeds, exact up to 20, and is corrected for the family by Holm's method. A difference is "
        "claimed only when the corrected p is below 0.05 and the 95% interval over seeds and scenes "
        "excludes zero; models count as tied only when two one-sided tests put their difference within "
        f"±{statistics['margin']:g} (`report.margin`), over seeds and over both; all else is not decided. In this "
        f"family a claim takes at least {statistics['seeds_needed']} seeds; this run has {seeds}.",
        contrasts(singles, f"Against {single} alone", confidence),
        f"Fusions against the more accurate sensor on validation, {single}; a family of its own, but for "
        f"{reference}, whose row is the first table's.{matched_singles(statistics)}",
        picture("differences", "Matrix of the differences in balanced accuracy between all models"),
        f"Exploratory: all pairs, row less column, in points of balanced accuracy, with {confidence} intervals over "
        "seeds and scenes where there is room (statistics.json has all), not corrected for their number. Nothing is "
        "claimed from it.",
    ]
    narrow = findings.narrow_intervals(statistics)
    if narrow:
        parts.append(f"**Warning:** {narrow}")
    return "\n\n".join(parts)


def contrasts(family: list[dict[str, Any]], title: str, confidence: str) -> str:
    table = [
        [
            contrast["model"],
            f"{contrast['difference']:+.4f}",
            between(contrast["two_way"]),
            between(contrast["over_seeds"]),
            f"{contrast['probability']:.2f}",
            p_value(contrast["p"]),
            p_value(contrast["p_holm"]),
            p_value(contrast["p_tied"]),
            contrast["outcome"],
        ]
        for contrast in family
    ]
    headers = [
        title,
        "Difference",
        f"{confidence} over seeds and scenes",
        f"{confidence} over seeds (t)",
        "P(better)",
        "p",
        "p (Holm)",
        "p (not tied)",
        "Outcome",
    ]
    return markdown(table, headers)


def p_value(p: float | None) -> str:
    return "-" if p is None else f"{p:.3f}"


def costs(rows: dict[str, Row], statistics: dict[str, Any]) -> str:
    table = [
        [
            label(name),
            millions(rows[name]["parameters"]),
            f"{model['trainable_parameters']:,}",
            number(rows[name]["weights_mib"], 1),
            number(rows[name]["flops_m"], 1),
            number(rows[name]["epoch_s"], 2),
            number(rows[name]["peak_memory_mib"], 0),
            number(rows[name]["latency_ms"], 2),
            number(rows[name]["latency_32_ms"], 1),
        ]
        for name, model in statistics["models"].items()
        if model["parameters"]
    ]
    headers = [
        "Model",
        "Parameters (M)",
        "Trained here",
        "Weights (MiB)",
        "MFLOP a sample",
        "Epoch (s)",
        "Peak memory (MiB)",
        "Latency (ms)",
        "of 32 (ms)",
    ]
    return (
        "## Cost\n\n"
        + markdown(table, headers)
        + matched_widths(statistics)
        + "\n\nOperations are those of one forward pass. Seconds, memory and latency were measured on the machine "
        "named below; latency is the median of 7 to 50 passes, of one sample and of 32, with as many threads as in "
        "training. Late fusion counts its two nets, but for the seconds and memory of training, where they are "
        "frozen.\n\n"
        + picture("pareto", "Loss of every model over parameters and operations")
        + "\n\n"
        + picture("pareto_time", "Loss of every model over seconds of training")
        + "\n\nThe line joins the models that no other undercuts in both cost and mean loss; vertical lines are "
        f"{statistics['confidence']:.0%} intervals."
    )


def matched_singles(statistics: dict[str, Any]) -> str:
    """What a fusion has more than a single sensor's net, where all fusions have the same size."""
    if not matched_widths(statistics):
        return ""
    return " Fusions have twice the parameters of a single sensor's net here, so a gain over it may be one of size."


def matched_widths(statistics: dict[str, Any]) -> str:
    """How wide heads became, where they were made to differ (`network.match_parameters`)."""
    models = statistics["models"].items()
    widths = {name: model["head_width"] for name, model in models if model["head_width"] is not None}
    if len(set(widths.values())) < 2:
        return ""
    told = ", ".join(f"{name} {width:,}" for name, width in widths.items())
    counts = [model["parameters"] for _, model in models if model["sensor_use"]]
    return (
        f"\n\nHeads were made as wide as gives all fusions like sizes (`network.match_parameters`): from "
        f"{min(counts):,} to {max(counts):,} parameters; nets of a single sensor, of which late fusions carry two, "
        f"have half as many. Units of the heads' first layer: {told}."
    )


def sensors(statistics: dict[str, Any]) -> str:
    """Which sensor each fusion uses."""
    table = []
    for name, model in statistics["models"].items():
        if not model["sensor_use"]:
            continue
        row = [name]
        for use in model["sensor_use"].values():
            row += [signed(use[key]) for key in ("lost_missing", "lost_shuffled", "shapley")]
        table.append([*row, "; ".join(findings.sensor_verdicts(model["sensor_use"]))])
    headers = ["Fusion"]
    for sensor in TITLES.values():
        headers += [f"Without {sensor}", f"{sensor} shuffled", f"Shapley value of {sensor}"]
    return (
        "## Which sensor each fusion uses\n\n"
        + markdown(table, [*headers, ""])
        + f"\n\nBalanced accuracy lost on the {statistics['split']} split when a sensor is missing "
        "(`evaluate.missing`), or shows another group (mean over permutations); the Shapley value is what a sensor "
        "adds, averaged over who comes first. In brackets the interval over seeds. A fusion ignores a sensor when "
        f"neither costs or gains it {statistics['margin']:g} on average, and uses one when the interval of "
        "either loss lies above zero.\n\n"
        + picture(
            "sensor_use", "Balanced accuracy that each fusion loses without a sensor, or with it shuffled"
        )
    )


def robustness(statistics: dict[str, Any]) -> str:
    """What is left of each model under corrupted inputs."""
    curves = {name: model["curves"] for name, model in statistics["models"].items() if model["curves"]}
    kinds = dict.fromkeys(
        (sensor, corruption)
        for by_sensor in curves.values()
        for sensor, by_name in by_sensor.items()
        for corruption in by_name
    )
    if not kinds:
        return "## Robustness\n\nNo corruptions were asked for (`evaluate.severities`)."
    table = []
    for sensor, corruption in kinds:
        cells = []
        for by_sensor in curves.values():
            curve = by_sensor.get(sensor, {}).get(corruption)
            cells.append(
                ""
                if curve is None
                else "not defined"
                if curve["relative_area"] is None
                else f"{curve['relative_area']:.2f}"
            )
        table.append([f"{TITLES[sensor]}: {corruption.replace('_', ' ')}", *cells])
    return (
        "## Robustness\n\n"
        + markdown(table, ["Corruption", *curves])
        + "\n\nShare of the balanced accuracy above chance that is left, as the area under the curve from no "
        f"corruption to the worst severity, mean over seeds, on {statistics['corrupted_groups']:,} groups "
        "(`evaluate.corrupted_groups`); strengths stand in params.yaml. Without intervals: read differences of a "
        "few hundredths as none.\n\n"
        + picture("corruptions", "Balanced accuracy of every model over the severity of each corruption")
    )


def calibration(statistics: dict[str, Any]) -> str:
    table = [
        [
            name,
            f"{model['calibration']['before']['ece']:.3f}",
            f"{model['calibration']['after']['ece']:.3f}",
            f"{model['calibration']['temperature']:.2f}",
        ]
        for name, model in statistics["models"].items()
        if model["calibration"]
    ]
    own = "" if statistics["split"] == "test" else " Here that is the very split it is judged on."
    worse = [
        name
        for name, model in statistics["models"].items()
        if model["calibration"]
        and model["calibration"]["after"]["ece"] > model["calibration"]["before"]["ece"]
    ]
    told = f"Scaling did not help {', '.join(worse)}." if worse else "Scaling helped every model."
    return (
        "## Calibration\n\n"
        + markdown(table, ["Model", "ECE", "ECE after scaling", "Temperature"])
        + f"\n\nExpected calibration error on the {statistics['split']} split, means over seeds. The temperature "
        f"that logits are divided by is fitted on validation; above 1, a model is too sure of itself.{own} {told}\n\n"
        + picture("reliability", "Share of right predictions over their confidence, before and after scaling")
    )


def errors(statistics: dict[str, Any]) -> str:
    return (
        "## Errors\n\n"
        + picture("errors", "The worst errors of each fusion: pictures over depth, with label and prediction")
        + f"\n\nThe {statistics['split']} groups that most seeds of a fusion get wrong, the surest errors first: "
        "what they are, what they are taken for, and by how many seeds. Dark pictures are shown with up to "
        "eight times their light; depth is on each scan's own scale."
    )


def signed(interval: dict[str, Any] | None) -> str:
    """A gain or loss and its interval."""
    if interval is None:
        return "-"
    if interval["low"] is None:
        return f"{interval['mean']:+.3f}"
    return f"{interval['mean']:+.3f} ({interval['low']:+.3f} to {interval['high']:+.3f})"


def between(bounds: list[float | None]) -> str:
    low, high = bounds
    return "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"


def advantages(settings: Params) -> str:
    """What each operator's own file says of it."""
    paragraphs = []
    for name in settings.fusion_names():
        told = fusions.describe(name)
        heading = architecture_title(name, fusions.spec(name).kind)
        facts = {"Formula": f"`{told.formula}`", "Advantage": told.strength, "Limitation": told.limitation}
        listed = "\n".join(f"- {title}: {text}" for title, text in facts.items())
        paragraphs.append(f"**{heading}.** {told.summary}\n\n{listed}")
    legend = (
        "In the formulas, of one sample, C are channels of one sensor's maps where they meet, H and W their height "
        "and width, K logits, h `network.late_hidden`; other letters with sizes in brackets are learned."
    )
    return "## Advantages and limitations\n\n" + "\n\n".join([*paragraphs, legend])


def written_analysis(found: Findings) -> str:
    return "## Analysis\n\n" + "\n\n".join(findings.written_analysis(found))


def data(manifest: Manifest, statistics: dict[str, Any], found: Findings) -> str:
    """What the models learned from and were judged on, and what is wrong or odd about it."""
    table = [
        [split, *(manifest.counts[split][name] for name in manifest.classes), manifest.scenes[split]]
        for split in manifest.splits()
    ]
    warnings = [*manifest.warnings, *filter(None, [findings.trivial_task(found)])]
    parts = [
        "## Data",
        markdown(table, ["Groups", *manifest.classes, "Scenes"]),
        guessing(statistics),
        "\n".join(f"- **Warning:** {warning}." for warning in warnings)
        or "The checks of the export found nothing to warn of.",
        f"{rasters(manifest)} {inputs(manifest)}",
        picture("class_balance", "Share of each class in each split"),
        picture("histograms", "Ranges, returns per scan and brightness, by class and by split"),
    ]
    parts.append(
        "Samples, at most ten of each class and of the ten commonest classes: pictures over depth (near is "
        "bright, on each scan's own scale; no return is black)."
    )
    for split in manifest.splits():
        parts.append(
            f"{split.capitalize()} split:\n\n" + picture(f"samples_{split}", f"Samples, {split} split")
        )
    return "\n\n".join(parts)


def guessing(statistics: dict[str, Any]) -> str:
    """What the least informed guess gives, which every figure has to be read against."""
    figures = [
        f"a loss of {split['loss']['mean']:.3f} and an accuracy of {split['accuracy']['mean']:.3f} on the "
        f"{name} split"
        for name, split in statistics["models"]["prior"]["metrics"].items()
    ]
    return f"Always guessing the training split's class frequencies gives {' and '.join(figures)}."


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


def inputs(manifest: Manifest) -> str:
    if not manifest.normalized:
        return "Inputs are raw: colours in 0..1, coordinates in metres."
    return (
        "Colours are standardised; coordinates are taken from the centroid of each scan and scaled; both "
        "by statistics of the training split."
    )


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


def reproduction(settings: Params, timing: dict[str, Any], manifest: Manifest) -> str:
    train = settings.train
    machine = timing["gpu"] or f"{timing['cpu_cores']} CPU cores, no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in timing["versions"].items())
    recipe = (
        f"{plural(train.epochs, 'epoch')}, batches of {train.batch_size}, Adam with a {train.schedule} "
        f"learning rate of {train.learning_rate:g}, {train.precision}{extras(train)}; late fusion's head over "
        f"frozen nets {plural(train.late.epochs, 'epoch')} at {train.late.learning_rate:g}"
    )
    machinery = (
        f"{machine}, {plural(timing['workers'], 'seed')} at a time with "
        f"{plural(timing['threads'], 'thread')} each; {versions}; {timing['platform']}"
    )
    revision = timing["revision"] or "not known"
    if revision.endswith("+"):
        revision = f"{revision[:-1]} with changes that were not committed"
    return (
        "## How to reproduce\n\n"
        f"`make repro` in a clone of the Git revision that trained: {revision}. "
        f"Seeds {', '.join(map(str, settings.seeds))}; {recipe}. "
        f"Measured on {machinery}. Data digest `{manifest.digest[:16]}`."
    )


def picture(name: str, description: str) -> str:
    return f"![{description}](figures/{name}.png)"


def plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def markdown(table: list[list[Any]], headers: list[str]) -> str:
    return tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)


def spread(summary: dict[str, Any]) -> str:
    """Mean and standard deviation of a metric over seeds."""
    if summary["mean"] is None:
        return "not defined"
    if summary["sd"] is None:
        return f"{summary['mean']:.3f}"
    return f"{summary['mean']:.3f} ± {summary['sd']:.3f}"


def interval(summary: dict[str, Any]) -> str:
    """Mean of a metric and its interval over seeds and scenes."""
    if summary["mean"] is None:
        return "not defined"
    if summary["low"] is None:
        return f"{summary['mean']:.3f}"
    return f"{summary['mean']:.3f} ({summary['low']:.3f} to {summary['high']:.3f})"


def seeds_interval(summary: dict[str, Any]) -> str:
    """A metric's interval over seeds alone."""
    if summary["seeds_low"] is None:
        return "-"
    return f"{summary['seeds_low']:.3f} to {summary['seeds_high']:.3f}"


def label(name: str) -> str:
    return name.replace("prior", "class prior").replace("_", " ")


def millions(cell: str) -> str:
    """A count of parameters in millions, to the digits that the notebook prints; a dash for none."""
    return f"{float(cell) / 1e6:.6g}" if cell else "-"


def number(cell: str, digits: int) -> str:
    """A cell of comparison.csv, rounded; a dash where a baseline has none."""
    return f"{float(cell):,.{digits}f}" if cell else "-"


if __name__ == "__main__":
    console.run(main)
