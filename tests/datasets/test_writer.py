"""The writer of datasets reads FiftyOne's samples.json piece by piece."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.lib.datasets import writer
from stages.lib.datasets.writer import NewGroup


@pytest.mark.parametrize("chunk", [13, 14, 17, 50, 1000])
def test_samples_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Wherever a piece ends: within a text, before or after a comma, within the closing brackets."""
    monkeypatch.setattr(writer, "_CHUNK", chunk)
    path = tmp_path / "samples.json"
    for count in range(6):
        samples = [{"name": "a, ]} \\" * number, "values": [number, {"x": 1.5}]} for number in range(count)]
        # FiftyOne writes no spaces between samples.
        text = '{"samples": [' + ",".join(map(json.dumps, samples)) + "]}"
        path.write_text(text)
        assert list(writer._read_samples(path)) == samples
    for end in range(13, len(text) - 1):
        path.write_text(text[:end])
        with pytest.raises(json.JSONDecodeError):
            list(writer._read_samples(path))


def test_the_size_of_a_piece_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for chunk in (100, 2**20):
        monkeypatch.setattr(writer, "_CHUNK", chunk)
        folder = tmp_path / str(chunk)
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "image.png")
        raster = np.ones((4, 8, 8), dtype=np.float32)
        files = {"rgb": folder / "image.png", "lidar_img": folder / "image.png"}
        groups = [NewGroup("a", "car", "train", files, raster, {"distance_m": 2.5}) for _ in range(3)]
        writer.write(folder, "name", groups, seed=1)
        written.append([(folder / name).read_text() for name in ("samples.json", "metadata.json")])
    assert written[0] == written[1]
    samples = json.loads(written[0][0])["samples"]
    assert len(samples) == 6 and all(sample["distance_m"] == 2.5 for sample in samples)
