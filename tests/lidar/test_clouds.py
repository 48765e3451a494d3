"""Point clouds as tools write them, and scenes around them; what no cloud is, is named."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.export import scans
from stages.lib.export.scans import Job, ScanSettings
from stages.lib.lidar import plausibility, readers

POINTS = np.array([[1.5, 20.25, -3.0], [0.5, 7.0, 0.125]], dtype=np.float32)
MOST = 1000


def ascii_file(
    *,
    fields: str = "FIELDS x y z",
    size: str = "SIZE 4 4 4",
    types: str = "TYPE F F F",
    more: str = "COUNT 1 1 1\n",
    rows: str = "1.5 20.25 -3\n0.5 7 0.125\n",
) -> bytes:
    head = f"# made by hand\nVERSION 0.7\n{fields}\n{size}\n{types}\n{more}WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n"
    return (head + rows).encode()


def binary_file(fields: str, size: str, types: str, count: str, body: bytes) -> bytes:
    return (
        f"VERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {types}\nCOUNT {count}\nWIDTH 2\nHEIGHT 1\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA binary\n"
    ).encode() + body


FILES = {
    "capitals": ascii_file(fields="fields X Y Z"),
    "other order": ascii_file(
        fields="FIELDS intensity z y x",
        size="SIZE 4 4 4 4",
        types="TYPE F F F F",
        more="",
        rows="9 -3 20.25 1.5\n9 0.125 7 0.5\n",
    ),
    "blank lines and mixed space": ascii_file(rows="\n \t1.5\t 20.25  -3 \r\n\n0.5 7 0.125"),
    "a field of three": ascii_file(
        fields="FIELDS normal x y z",
        size="SIZE 4 4 4 4",
        types="TYPE F F F F",
        more="COUNT 3 1 1 1\n",
        rows="0 0 1 1.5 20.25 -3\n0 0 1 0.5 7 0.125\n",
    ),
    "without POINTS": ascii_file().replace(b"POINTS 2\n", b""),
    "padding": binary_file(
        "x _ y z",
        "4 1 4 4",
        "F U F F",
        "1 3 1 1",
        b"".join(struct.pack("<f3xff", *point) for point in POINTS.tolist()),
    ),
    "an empty field": binary_file("x y z _", "4 4 4 1", "F F F U", "1 1 1 0", POINTS.tobytes()),
    "doubles and a tail": binary_file(
        "x y z", "8 8 8", "F F F", "1 1 1", POINTS.astype(np.float64).tobytes() + bytes(100)
    ),
    "CRLF in the header": binary_file("x y z", "4 4 4", "F F F", "1 1 1", b"").replace(b"\n", b"\r\n")
    + POINTS.tobytes(),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_writer_is_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(FILES[kind])
    assert np.array_equal(readers.read_cloud(tmp_path / "a.pcd", MOST), POINTS)


@pytest.mark.parametrize("word", ["nan", "-nan", "-nan(ind)", "1.#QNAN", "inf", "-1.#IND"])
def test_rays_without_a_return_as_compilers_print_them(word: str, tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(ascii_file(rows=f"{word} {word} {word}\n0.5 7 0.125\n"))
    points = readers.read_cloud(tmp_path / "a.pcd", MOST)
    assert not np.isfinite(points[0]).any() and np.array_equal(points[1], POINTS[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ascii_file(rows="1.5 20.25 -3 9\n0.5 7\n"), "a line of 4 values; its header declares 3"),
        (ascii_file(rows="1.5 20.25 -3\n"), "1 points, but its header declares 2"),
        (ascii_file(fields="FIELDS a b c"), "no field x; its fields are a b c"),
        (ascii_file(more="COUNT 1 1\n"), "its header is damaged"),
    ],
)
def test_what_is_no_cloud_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """Also a file whose number of values is right but whose lines are not: it would be read shifted."""
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(UserError, match=message):
        readers.read_cloud(tmp_path / "a.pcd", MOST)


@pytest.mark.parametrize("suffix", [".ply", ".bin", ".LAZ"])
def test_another_format_is_named_with_its_file(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"ply\n")
    with pytest.raises(
        UserError, match=rf"a{suffix}: a {suffix.lower()} file; dataset.lidar.format: pcd reads"
    ):
        readers.read_cloud(tmp_path / f"a{suffix}", MOST)


def write_scene(folder: Path, **change: object) -> Path:
    (folder / "a.pcd").write_bytes(FILES["padding"])
    still = {"position": [0, 0, 0], "quaternion": [0, 0, 0, 1], "scale": [1, 1, 1]}
    cloud = {"_type": "PointCloud", "pcdPath": "a.pcd", "children": []} | still | change
    scene = {"_type": "Scene", "children": [{"_type": "Object3D", "children": [cloud]} | still]} | still
    (folder / "a.fo3d").write_text(json.dumps(scene))
    return folder / "a.fo3d"


def test_the_cloud_of_a_scene_is_read(tmp_path: Path) -> None:
    assert np.array_equal(readers.read_cloud(write_scene(tmp_path), MOST), POINTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": [0, 0, 2]}, "moves, turns or scales its objects"),
        ({"pcdPath": "../../secret.pcd"}, "lies outside the scene's folder"),
        ({"_type": "PlyMesh"}, "a .fo3d scene with 0 point clouds"),
        ({"children": 7}, "unreadable .fo3d scene"),
    ],
)
def test_a_scene_that_would_be_misread_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        readers.read_cloud(write_scene(tmp_path, **change), MOST)


@pytest.mark.parametrize(
    ("viewpoint", "is_moved"),
    [
        ("", False),
        ("0 0 0 1 0 0 0", False),
        ("0 0 0 -1 0 0 0", False),
        ("0 0 0 0 0 0 0", False),
        ("nothing", False),
        ("0 0 1.7 1 0 0 0", True),
        ("0 0 0 0.7071 0 0 0.7071", True),
    ],
)
def test_a_sensor_that_was_elsewhere_is_told(viewpoint: str, is_moved: bool, tmp_path: Path) -> None:
    """Points are read as they are stored, whatever the header says."""
    path = tmp_path / "cloud.pcd"
    path.write_bytes(ascii_file(more=f"COUNT 1 1 1\nVIEWPOINT {viewpoint}\n" if viewpoint else ""))
    (tmp_path / "scene.fo3d").write_text(
        json.dumps({"children": [{"_type": "PointCloud", "pcdPath": path.name}]})
    )
    settings = ScanSettings("pcd", "lidar", "m", "as-is", MOST, 50.0)
    for name in ("cloud.pcd", "scene.fo3d"):
        facts, _, _ = scans.facts(Job("", str(tmp_path / name), None, None, 0, ""), settings)
        assert (plausibility.moved_sensor(facts + facts) is not None) == is_moved
        assert np.array_equal(readers.read_cloud(tmp_path / name, MOST), POINTS)
