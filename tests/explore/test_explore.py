"""The dataset of the App: fields, views, evaluations and slices, read back through FiftyOne."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.datasets import fo, write_dataset
from support.project import ROOT, Project, as_user, clone_of

from scripts import explore
from scripts.explore import dataset_copy, embeddings, fields, fingerprint, pictures, results, views
from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.datasets import reader
from stages.lib.evaluation import predictions
from stages.lib.evaluation.predictions import Predictions
from stages.lib.lidar import depth_image, pcd
from stages.lib.tensors import groups as stored_groups
from stages.lib.tensors import manifest as manifests
from stages.lib.tensors import samples
from stages.lib.tensors.manifest import Manifest

SEEDS = (0, 51)
FUSIONS = ("concatenation", "addition", "hadamard", "late")
# In turn for the groups of a split: the models whose mean prediction is right. A star: one of its seeds is wrong.
RIGHT = (
    "rgb lidar concatenation addition hadamard late",
    "",
    "late",
    "rgb",
    "lidar",
    "rgb lidar concatenation addition",
    "rgb lidar concatenation* addition hadamard late",
)


def made_up(name: str, manifest: Manifest) -> list[Predictions]:
    """Predictions of one model that are right where `RIGHT` says so."""
    found = []
    for split in ("validation", "test"):
        groups = stored_groups.read(manifests.FOLDER, split)
        for seed in SEEDS:
            logits = np.empty((len(groups), manifest.num_logits), dtype=np.float32)
            for i, group in enumerate(groups):
                right = RIGHT[i % len(RIGHT)].split()
                size = 2.0 + i / 10
                if f"{name}*" in right and seed == SEEDS[1]:
                    size = -1.0
                is_right = name in right or f"{name}*" in right
                logits[i] = size if is_right == (group.label == 1) else -size
            found.append(Predictions(seed, split, groups, logits))
    return found


def kept_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def project(tiny_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A clone of the tiny run with made-up predictions; it is the current folder."""
    clone = clone_of(tiny_run, tmp_path_factory.mktemp("explore") / "clone")
    before = Path.cwd()
    os.chdir(clone.folder)
    try:
        manifest = manifests.load(manifests.FOLDER)
        for name in params.load().model_names():
            (predictions.FOLDER / f"{name}.parquet").unlink()  # it may be a link into the cache
            predictions.write(name, made_up(name, manifest))
        yield clone
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def dataset(project: Project) -> Iterator[Any]:
    """The App's dataset."""
    before = kept_files(project.path("data"))
    explore.main(["--no-launch"])
    assert kept_files(project.path("data")) == before, "the user's files have changed"
    built = fo.load_dataset(explore.dataset_name())
    yield built
    built.delete()


def flat(dataset: Any, name: str = "rgb") -> Any:
    return dataset.select_group_slices(name)


def by_path(dataset: Any, *fields: str) -> dict[str, Any]:
    """Values of the images, by the group's key."""
    folder = f"{Path(params.load().dataset.path).resolve()}{os.sep}"
    paths = [os.path.splitext(path.removeprefix(folder))[0] for path in flat(dataset).values("filepath")]
    rows = zip(*flat(dataset).values(list(fields)), strict=True)
    return dict(zip(paths, rows, strict=True))


@pytest.mark.parametrize("name", ["rgb", "late"])
def test_predictions_are_means_over_the_seeds(dataset: Any, name: str) -> None:
    found = by_path(dataset, f"{name}.label", f"{name}.confidence", f"{name}.logits", f"{name}_wrong_seeds")
    classes = manifests.load(manifests.FOLDER).classes
    seen = 0
    for split in ("validation", "test"):
        stored = predictions.read(name, split)
        for i, group in enumerate(stored.groups):
            label, confidence, logits, wrong_seeds = found[group]
            mean = stored.logits[:, i, 0].mean()
            assert logits[0] == 0 and np.sign(logits[1]) == np.sign(mean)
            softmax = np.exp(logits) / np.exp(logits).sum()
            assert label == classes[int(mean > 0)]
            assert confidence == pytest.approx(softmax[int(mean > 0)])
            assert wrong_seeds == ((stored.logits[:, i, 0] > 0) != stored.labels[i]).sum()
            seen += 1
    # The temperatures of the two seeds differ from one, but are those of all groups.
    assert seen == sum(value[0] is not None for value in found.values())


def test_all_slices_have_the_same_fields(dataset: Any) -> None:
    fields = [
        "late.label",
        "late.confidence",
        "fusions_wrong",
        "mistakenness",
        "split",
        "scene",
        "ground_truth.label",
    ]

    def rows(name: str) -> dict[str, tuple[Any, ...]]:
        values = flat(dataset, name).values(["group.id", *fields])
        return {group: tuple(row) for group, *row in zip(*values, strict=True)}

    assert set(dataset.group_slices) == {"rgb", "lidar_img", "lidar_pcd", "raster"}
    expected = rows("rgb")
    assert len(expected) == 40 and any(row[0] for row in expected.values())
    for name in dataset.group_slices:
        assert rows(name) == expected, name


def test_training_groups_have_no_predictions(dataset: Any) -> None:
    found = by_path(dataset, "split", "late", "fusions_wrong", "tags")
    train = [row for row in found.values() if row[0] == "train"]
    assert len(train) == 20 and all(late is None and wrong is None for _, late, wrong, _ in train)
    assert all(tags == [split] for split, _, _, tags in found.values())


def test_how_many_fusions_err(dataset: Any) -> None:
    found = by_path(dataset, "fusions_wrong", "fusions_disagree", "split")
    for split in ("validation", "test"):
        for i, group in enumerate(stored_groups.read(manifests.FOLDER, split)):
            right = RIGHT[i % len(RIGHT)].replace("*", "").split()
            wrong = sum(name not in right for name in FUSIONS)
            assert found[group.group] == (wrong, 0 < wrong < len(FUSIONS), split)


VIEWS = {
    "All fusions wrong": lambda right: not set(FUSIONS) & right,
    "Fusions disagree": lambda right: 0 < len(set(FUSIONS) & right) < len(FUSIONS),
    "Only one fusion right": lambda right: len(set(FUSIONS) & right) == 1,
    "Only RGB right": lambda right: right == {"rgb"},
    "Only LiDAR right": lambda right: right == {"lidar"},
}


@pytest.mark.parametrize("name", VIEWS)
def test_saved_views_hold_what_they_say(dataset: Any, name: str) -> None:
    expected = {
        group.group
        for split in ("validation", "test")
        for i, group in enumerate(stored_groups.read(manifests.FOLDER, split))
        if VIEWS[name](set(RIGHT[i % len(RIGHT)].replace("*", "").split()))
    }
    view = dataset.load_saved_view(name)
    assert view.media_type == "group", "camera and LiDAR must stay side by side"
    keys = set(by_path(view, "id"))
    assert keys == expected and expected
    doubt = view.values("mistakenness")
    assert doubt == sorted(doubt, reverse=True)


def test_likely_label_errors_come_first(dataset: Any) -> None:
    view = dataset.load_saved_view("Likely label errors")
    doubt = view.values("mistakenness")
    assert doubt and doubt == sorted(doubt, reverse=True) and min(doubt) > 0.5
    assert len(doubt) == sum(value is not None and value > 0.5 for value in dataset.values("mistakenness"))


def test_the_worst_value_of_each_condition(project: Project, tmp_path: Path) -> None:
    """`late` is wrong in most groups of `RIGHT` with these places: 1, 3, 4 and 5 of seven."""
    settings, manifest = params.load(), manifests.load(manifests.FOLDER)
    found = results.read(settings, manifest)
    is_wrong = found.is_wrong("late")
    groups = [
        replace(group, conditions={"weather": "fog" if wrong and i % 2 else "sun"})
        for i, (group, wrong) in enumerate(zip(found.groups, is_wrong, strict=True))
    ]
    recorded = replace(found, groups=groups)
    media = tmp_path / "media" / "one"
    pictures.write(media, manifest, 1)
    with reader.loaded(Path(settings.dataset.path)) as dataset:
        given = fields.names(recorded, settings.dataset, dataset)
        copied = dataset_copy.make(dataset, settings.dataset, media)
        fields.write(copied, recorded, given)
        views.save_views(copied, recorded, given, "late")
        view = dataset.load_saved_view("Worst weather: fog")
        expected = {group.group for group in groups if group.conditions["weather"] == "fog"}
        assert expected and set(by_path(view, "id")) == expected
        seeds = view.values("late_wrong_seeds")
        assert seeds == sorted(seeds, reverse=True) and set(view.values("condition_weather")) == {"fog"}


def test_evaluations_are_those_of_the_test_split(dataset: Any) -> None:
    names = params.load().model_names()
    assert set(dataset.list_evaluations()) == {f"eval_{name}" for name in names}
    for name in names:
        report = dataset.load_evaluation_results(f"eval_{name}").report()
        groups = stored_groups.read(manifests.FOLDER, "test")
        right = [name in RIGHT[i % len(RIGHT)].replace("*", "").split() for i in range(len(groups))]
        assert report["accuracy"] == pytest.approx(np.mean(right))
        assert report["macro avg"]["support"] == len(groups)


def test_raster_and_cloud_are_what_the_networks_see(dataset: Any) -> None:
    manifest = manifests.load(manifests.FOLDER)
    folder = Path(f".fiftyone/app/media/{manifest.digest[:16]}").resolve()
    rasters = dict(zip(*flat(dataset, "raster").values(["group.id", "filepath"]), strict=True))
    keys = {row[0]: key for key, row in by_path(dataset, "group.id").items()}
    places = {keys[group]: path for group, path in rasters.items()}
    index, group = 1, stored_groups.read(manifests.FOLDER, "test")[1]
    _, raster = samples.read(manifests.FOLDER, manifest, "test", index)
    files = pictures.files(folder, "test", index)
    assert places[group.group] == str(files.raster)
    shown = np.asarray(Image.open(files.raster))
    assert (shown == depth_image.from_raster(raster)).all()
    points = pcd.parse(files.cloud.read_bytes(), "cloud", 10**6)
    assert (points == raster[:3, raster[3] > 0].T).all() and len(points) == group.returns
    thumbnails = flat(dataset, "lidar_pcd").values("orthographic_projection_metadata.filepath")
    assert len(thumbnails) == 40 and all(Image.open(path).size == (96, 96) for path in thumbnails)
    assert not list(folder.glob("*.tmp"))


def test_thumbnail_shows_the_points_from_above() -> None:
    image = pictures.from_above(np.array([[-1.0, 10.0, 0.0], [1.0, 12.0, 1.0]], dtype=np.float32))
    rows, columns = np.nonzero(image.any(axis=-1))
    low, high = image[rows.max(), columns.min()], image[rows.min(), columns.max()]
    assert low[2] > low[0] and high[0] > high[2], "the low point is blue, the high one yellow"
    assert len(rows) == 2 * 9
    assert not pictures.from_above(np.zeros((0, 3), dtype=np.float32)).any()


def test_embeddings_have_a_point_per_group(dataset: Any) -> None:
    found = dataset.load_brain_results("concatenation_features")
    groups = [
        *stored_groups.read(manifests.FOLDER, "validation"),
        *stored_groups.read(manifests.FOLDER, "test"),
    ]
    assert found.points.shape == (len(groups), 2) and np.isfinite(found.points).all()
    keys = {row[0]: key for key, row in by_path(dataset, "id").items()}
    assert {keys[id_] for id_ in found.sample_ids} == {group.group for group in groups}
    # The features belong to their groups: the last layer makes the stored logits of them.
    settings, manifest = params.load(), manifests.load(manifests.FOLDER)
    vectors = embeddings.features(settings, manifest, ["validation", "test"], [0, 7, 9])
    assert vectors.shape == (3, settings.network.hidden[-1])


def test_many_groups_are_spaced_evenly() -> None:
    chosen = embeddings.chosen_groups(13_000)
    assert len(chosen) == embeddings.MOST and (chosen[0], chosen[-1]) == (0, 12_999)
    assert set(np.diff(chosen)) <= {6, 7} and embeddings.chosen_groups(3) == [0, 1, 2]


def test_sidebar_has_each_field_once_and_one_open_group(dataset: Any) -> None:
    groups = dataset.app_config.sidebar_groups
    paths = [path.split(".")[0] for group in groups for path in group.paths if "." not in path]
    assert len(paths) == len(set(paths))
    embedded = {"metadata", "group", "orthographic_projection_metadata"}
    assert set(paths) | embedded == set(dataset.get_field_schema())
    assert [group.name for group in groups if group.expanded] == ["label and agreement"]
    assert dataset.app_config.active_fields.paths == ["ground_truth", "concatenation"]


def test_each_class_has_one_color_in_all_fields(dataset: Any) -> None:
    scheme = dataset.app_config.color_scheme
    by_field = {field["path"]: field["valueColors"] for field in scheme.fields}
    assert scheme.color_by == "value"
    assert by_field.keys() == {"ground_truth", "rgb", "lidar", *FUSIONS}
    (colors,) = {
        tuple((entry["value"], entry["color"]) for entry in entries) for entries in by_field.values()
    }
    assert [name for name, _ in colors] == manifests.load(manifests.FOLDER).classes
    assert len({color for _, color in colors}) == len(colors)


def test_run_is_registered(dataset: Any) -> None:
    config = dataset.get_run_info("comparison").config
    revision = json.loads(Path("reports/timing/train-concatenation.json").read_text())["revision"]
    assert (config.data_digest, config.revision) == (manifests.load(manifests.FOLDER).digest, revision)
    assert config.seeds == list(SEEDS)


def test_nothing_is_built_again_unless_something_changed(
    dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name, built = explore.dataset_name(), dataset._doc.id
    explore.main(["--no-launch"])
    assert "importing" not in capsys.readouterr().err and fo.load_dataset(name)._doc.id == built
    path = predictions.FOLDER / "late.parquet"
    before = path.read_bytes()
    manifest = manifests.load(manifests.FOLDER)
    first = fingerprint.of_inputs(params.load())
    turned = [Predictions(p.seed, p.split, p.groups, -p.logits) for p in made_up("late", manifest)]
    predictions.write("late", turned)
    assert fingerprint.of_inputs(params.load()) != first
    path.write_bytes(before)
    assert fingerprint.of_inputs(params.load()) == first


def test_saved_folder_is_a_whole_dataset(dataset: Any, tmp_path: Path) -> None:
    explore.main(["--no-launch", "--save", str(tmp_path / "saved")])
    with reader.loaded(tmp_path / "saved") as loaded:
        assert set(loaded.list_saved_views()) == set(dataset.list_saved_views())
        assert set(loaded.list_evaluations()) == set(dataset.list_evaluations())
        assert set(loaded.group_slices) == set(dataset.group_slices)
        for name in dataset.group_slices:
            paths = flat(loaded, name).values("filepath")
            assert paths == flat(dataset, name).values("filepath") and all(map(os.path.isfile, paths))
    with pytest.raises(UserError, match="saved: exists already"):
        explore.main(["--no-launch", "--save", str(tmp_path / "saved")])


def test_a_dataset_without_clouds_and_with_our_names(
    tmp_path: Path, run_export: Callable[..., Manifest]
) -> None:
    """Clouds are made of the rasters; the user's own slice and field of our names stay as they are."""

    def change(number: int, rgb: Any, scan: Any) -> None:
        rgb["split"] = scan["split"] = f"mine {number}"

    folder = write_dataset(tmp_path / "mine", slices=("rgb", "raster"), change=change)
    manifest = run_export(folder, dataset__lidar__slice="raster")
    settings = params.load(tmp_path / "params.yaml")
    media = tmp_path / "media" / "one"
    pictures.write(media, manifest, 1)
    with reader.loaded(folder) as dataset:
        dataset_copy.make(dataset, settings.dataset, media)
        assert set(dataset.group_slices) == {"rgb", "raster", "raster_of_networks", "point_cloud"}
        assert dataset.group_media_types["point_cloud"] == "point-cloud"
        clouds = flat(dataset, "point_cloud")
        assert len(clouds) == 30 and sorted(clouds.values("split")) == sorted(f"mine {i}" for i in range(30))
        assert all(Path(path).is_file() for path in clouds.values("filepath"))
        labels = [
            dict(zip(*flat(dataset, name).values(["group.id", "ground_truth.label"]), strict=True))
            for name in ("point_cloud", "rgb")
        ]
        assert labels[0] == labels[1]


def test_only_missing_pictures_are_written(tmp_path: Path, project: Project) -> None:
    manifest = manifests.load(manifests.FOLDER)
    folder, old = tmp_path / "media" / "new", tmp_path / "media" / "old"
    old.mkdir(parents=True)
    pictures.write(folder, manifest, 1)
    assert not old.exists()
    before = kept_files(folder)
    assert len(before) == 3 * 40
    lost = pictures.files(folder, "test", 3).raster
    lost.unlink()
    pictures.write(folder, manifest, 1)
    changed = {path for path, facts in kept_files(folder).items() if before[path] != facts}
    assert changed == {str(path) for path in vars(pictures.files(folder, "test", 3)).values()}


@pytest.fixture
def own(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the project that a test may spoil; it is the current folder."""
    copy = clone_of(project, tmp_path / "own")
    for name in ("reports/predictions", "models"):  # links into the cache become files
        shutil.copytree(copy.path(name), copy.path(f"{name}.new"), symlinks=False)
        shutil.rmtree(copy.path(name))
        copy.path(f"{name}.new").rename(copy.path(name))
    monkeypatch.chdir(copy.folder)
    return copy


def lose_predictions(project: Project) -> None:
    project.path("reports/predictions/late.parquet").unlink()


def change_digest(project: Project) -> None:
    path = project.path("models/late/seed-51.json")
    path.unlink()
    path.write_text(json.dumps({"data_digest": "0123456789abcdef"}))


def leave_out_a_group(project: Project) -> None:
    parts = made_up("late", manifests.load(manifests.FOLDER))
    project.path("reports/predictions/late.parquet").unlink()
    predictions.write("late", [Predictions(p.seed, p.split, p.groups[1:], p.logits[1:]) for p in parts])


def rename_dataset(project: Project) -> None:
    project.set(dataset__path="data/other")


def lose_tensors(project: Project) -> None:
    project.path("data/tensors/manifest.json").unlink()


def lose_dataset(project: Project) -> None:
    (project.path("data/synthetic") / "samples.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lose_predictions, r"reports/predictions/late\.parquet: no predictions yet; run `dvc repro`"),
        (
            change_digest,
            r"models/late/seed-51\.json: trained on other data than data/tensors \(digest 0123456789ab",
        ),
        (leave_out_a_group, r"late\.parquet: holds other groups of the validation split than data/tensors"),
        (rename_dataset, r"dataset\.path is 'data/other', but data/tensors holds 'data/synthetic'"),
        (lose_tensors, r"data/tensors/manifest\.json: no such file"),
        (lose_dataset, r"is not a FiftyOneDataset \(it has no samples\.json\)"),
    ],
)
def test_bad_input_is_one_line(own: Project, spoil: Callable[[Project], None], text: str) -> None:
    spoil(own)
    with pytest.raises(UserError, match=text) as caught:
        explore.main(["--no-launch"])
    assert "\n" not in str(caught.value)
    assert not fo.dataset_exists(explore.dataset_name())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "x"], "argument --port: invalid int value: 'x'; usage: "),
        (["--port", "70000"], "--port 70000: a port is a number from 1 to 65535"),
        (["--launch-not"], "unrecognized arguments: --launch-not; usage: "),
        (["--address", "nowhere.invalid"], "--address nowhere.invalid: no address of this machine"),
        (["--address", "192.0.2.1"], "--address 192.0.2.1: no address of this machine"),
    ],
)
def test_wrong_options_are_one_line(project: Project, arguments: list[str], text: str) -> None:
    with pytest.raises(UserError) as caught:
        explore.main(arguments)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_a_port_in_use_is_one_line(project: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            UserError, match=f"port {port} of 127.0.0.1 is in use .*; name another one with --port"
        ):
            explore.main(["--port", str(port)])


def test_a_full_disk_is_one_line_and_leaves_nothing(own: Project) -> None:
    """No file of this process may be larger than 300 bytes; the database's server is that of the tests."""
    options = as_user(own.folder)
    options["env"] |= {
        "FIFTYONE_DATABASE_URI": os.environ["FIFTYONE_DATABASE_URI"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",  # otherwise Python leaves compiled files that are cut off
    }
    shutil.rmtree(own.path(".fiftyone/app"), ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.explore", "--no-launch"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),
        **options,
    )
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and last.endswith("file too large"), (
        done.stdout
    )
    assert "Traceback" not in done.stdout
    assert not list(own.path(".fiftyone/app").rglob("*.tmp"))
    assert not [name for name in fo.list_datasets() if name.startswith(explore.dataset_name())]
