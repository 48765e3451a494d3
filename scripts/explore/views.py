"""What the App offers on the fields: saved views, evaluation runs, groups of the sidebar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scripts.explore.dataset_copy import THUMBNAIL, Copy
from scripts.explore.fields import FieldNames
from scripts.explore.results import Results
from stages.lib.core.names import SENSORS, TITLES
from stages.lib.datasets import database
from stages.lib.plots import style

DOUBTFUL = 0.5  # from this mistakenness on, the models prefer another class than the label's
_CLASS_COLORS = style.PALETTE[2:]  # without the greys, which are hard to see on the App's dark page


def save_views(copied: Copy, found: Results, given: FieldNames, fusion: str) -> None:
    """Saves the views; each keeps whole groups, so that camera and LiDAR stay side by side.

    Args:
        fusion: whose errors show where a condition is hard.
    """
    for name, description, view in [
        *_views(copied, found, given),
        *_condition_views(copied, found, given, fusion),
    ]:
        copied.dataset.save_view(name, view, description=description, overwrite=True)


def _views(copied: Copy, found: Results, given: FieldNames) -> Iterator[tuple[str, str, Any]]:
    """Name, description and view; in the order of the App's list."""
    field = database.connect().ViewField
    dataset, fusions = copied.dataset, len(found.fusions)
    all_wrong = field(given.fusions_wrong) == fusions

    def is_right(sensor: str) -> Any:
        return field(f"{given.predictions[sensor]}.label") == field(f"{given.label}.label")

    def sorted_by_doubt(condition: Any) -> Any:
        return dataset.match(condition).sort_by(given.mistakenness, reverse=True)

    yield "All fusions wrong", f"errors of all {fusions} fusions", sorted_by_doubt(all_wrong)
    yield (
        "Fusions disagree",
        "fusions decide differently",
        sorted_by_doubt(field(given.fusions_disagree)),
    )
    if fusions > 1:
        one_right = field(given.fusions_wrong) == fusions - 1
        yield (
            "Only one fusion right",
            f"{fusions - 1} of {fusions} fusions are wrong",
            sorted_by_doubt(one_right),
        )
    for sensor, other in zip(SENSORS, reversed(SENSORS), strict=True):
        title = TITLES[sensor]
        alone = is_right(sensor) & ~is_right(other) & all_wrong
        yield f"Only {title} right", f"{title} alone is right; all fusions are wrong", sorted_by_doubt(alone)
    doubtful = field(given.mistakenness) > DOUBTFUL
    yield "Likely label errors", "the models prefer another class; likeliest first", sorted_by_doubt(doubtful)


def _condition_views(
    copied: Copy, found: Results, given: FieldNames, fusion: str
) -> Iterator[tuple[str, str, Any]]:
    """For each condition, the errors at the value where the chosen fusion is worst."""
    field = database.connect().ViewField
    is_wrong = found.is_wrong(fusion)
    for name, values in found.conditions.items():
        rates = {
            value: float(is_wrong[np.array([other == value for other in values])].mean())
            for value in dict.fromkeys(values)
            if value is not None
        }
        worst = max(rates, key=lambda value: rates[value])
        wrong = field(given.wrong_seeds[fusion]) > 0
        view = copied.dataset.match((field(given.conditions[name]) == worst) & wrong)
        about = f"{fusion} is worst at this value of {name}: {rates[worst]:.1%} errors; its errors, most seeds first"
        yield f"Worst {name}: {worst}", about, view.sort_by(given.wrong_seeds[fusion], reverse=True)


def evaluate(copied: Copy, found: Results, given: FieldNames, split: str) -> None:
    """Registers an evaluation run for each model on a split, which the Model Evaluation panel compares."""
    field = database.connect().ViewField
    # Slices first and filters after: a filter on grouped samples would look at the active slice alone.
    view = copied.dataset.select_group_slices(copied.image_slice).match(field(given.split) == split)
    for name in found.models:
        view.evaluate_classifications(
            given.predictions[name],
            gt_field=given.label,
            eval_key=given.evaluations[name],
            classes=found.classes,
        )


def color_by_class(copied: Copy, found: Results, given: FieldNames) -> None:
    """Gives each class one colour in the labels and in all predictions, so that an error shows as two colours.

    The App's own choice is a colour per field; by value, it would sometimes give two classes the same one.
    """
    fo = database.connect()
    colors = [
        {"value": name, "color": _CLASS_COLORS[place % len(_CLASS_COLORS)]}
        for place, name in enumerate(found.classes)
    ]
    copied.dataset.app_config.color_scheme = fo.ColorScheme(
        color_by="value",
        fields=[
            {"path": path, "colorByAttribute": "label", "valueColors": colors}
            for path in [given.label, *given.predictions.values()]
        ],
    )
    copied.dataset.save()


def arrange_sidebar(copied: Copy, found: Results, given: FieldNames, fusion: str) -> None:
    """Puts the fields into groups, of which only the first is open; the grid shows the label and one fusion's."""

    fo = database.connect()
    agreement = [given.fusions_wrong, given.fusions_disagree, given.mistakenness]
    groups = {
        "label and agreement": [
            given.label,
            *agreement,
            given.split,
            given.scene,
            *given.conditions.values(),
        ],
        "sensors": [given.predictions[name] for name in found.models if name not in found.fusions],
        "fusions": [given.predictions[name] for name in found.fusions],
        "wrong seeds": list(given.wrong_seeds.values()),
        "evaluations": list(given.evaluations.values()),
    }
    ours = {path for paths in groups.values() for path in paths}
    dataset = copied.dataset
    hidden = {
        "id",
        "filepath",
        "tags",
        "metadata",
        "created_at",
        "last_modified_at",
        dataset.group_field,
        THUMBNAIL,
    }
    own = [name for name in dataset.get_field_schema() if name not in ours | hidden]
    details = ["id", "filepath", "created_at", "last_modified_at"]
    for name in ("metadata", dataset.group_field, THUMBNAIL):
        details += [path for path in dataset.get_field_schema(flat=True) if path.startswith(f"{name}.")]
    groups |= {"tags": ["tags"], "of the dataset": own, "metadata": details}
    dataset.app_config.sidebar_groups = [
        fo.SidebarGroupDocument(name=name, paths=paths, expanded=number == 0)
        for number, (name, paths) in enumerate(groups.items())
    ]
    # With all models' labels, the grid shows no images any more.
    dataset.app_config.active_fields = fo.ActiveFields(paths=[given.label, given.predictions[fusion]])
    dataset.save()
