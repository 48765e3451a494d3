"""Speed of the export, how its time grows, and its memory, compared with a plain loop.

    python -m benchmarks.export [--json FILE] [--groups 1000 5000 20000] [--rounds 3]

For each size, writes a dataset like the built-in one into a temporary folder and reads it in turn, each time in
a separate process: by the export, and by a loop like that of the notebook's dataset class (one process; takes
groups from FiftyOne one after another, opens images with PIL, makes float tensors), which checks and writes
nothing. FiftyOne's import of the folder, the same for both, is timed separately. Times are medians of the
rounds, memory is the maximum. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # so that `python benchmarks/export.py` works as well
    sys.path.insert(0, str(ROOT))

from stages import export
from stages.lib import params
from stages.lib.core import console
from stages.lib.datasets import database, rendering, synthetic
from stages.lib.datasets.writer import NewGroup, write
from stages.lib.lidar import depth_image, geometry
from stages.lib.params import Params
from stages.lib.tensors import manifest as manifests

SIZES = [1000, 5000, 20000]
_IMAGE_SIZE = 64
_NUM_SCENES = 100  # rendered; their groups are degraded differently each time, so all groups differ
_SPLITS = ("train", "train", "train", "validation", "test")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--groups", type=int, nargs="+", default=SIZES, help="sizes of the datasets")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    if given.measure:
        print(json.dumps(MEASUREMENTS[given.measure](given.dataset, settings)))
        return
    rows = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        views = render(settings)
        for size in sorted(given.groups):
            dataset = Path(folder) / f"{size}"
            write_dataset(dataset, [_SPLITS[i % len(_SPLITS)] for i in range(size)], views, settings)
            rows[size] = repeat(dataset, given.rounds)
    figures = summarize(rows)
    print(table(rows, figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


View = tuple[str, np.ndarray, np.ndarray]  # class, image, range image


def render(settings: Params) -> list[View]:
    """Cubes and spheres of the built-in dataset, before sensor failures."""
    renderer = rendering.Renderer(_IMAGE_SIZE)
    views = []
    for number in range(_NUM_SCENES):
        rng = np.random.default_rng(number)
        scene = synthetic.draw_scene(rng, settings.synthetic)
        for label in ("cubes", "spheres"):
            rotation = rendering.draw_rotation(rng, settings.synthetic)
            image, range_m = (look(label, scene, rotation) for look in (renderer.image, renderer.range_image))
            views.append((label, image, range_m))
    return views


def write_dataset(folder: Path, splits: list[str], views: list[View], settings: Params) -> None:
    """Writes a FiftyOneDataset with one group for each entry of `splits`."""
    groups = make_groups(folder, splits, views, settings)
    groups = console.track(groups, "writing", len(splits), "group")
    write(folder, f"benchmark {len(splits)}", groups, seed=0)


def make_groups(folder: Path, splits: list[str], views: list[View], settings: Params) -> Iterator[NewGroup]:
    """Writes the media of groups, all different."""
    (folder / "data").mkdir(parents=True)
    angles_rad = synthetic.angles_rad(_IMAGE_SIZE)
    for number, split in enumerate(splits):
        label, image, range_m = views[number % len(views)]
        rng = np.random.default_rng([1, number])
        scan_m, _ = rendering.degrade_ranges(range_m, rng, settings.synthetic.lidar)
        raster = geometry.raster_from_range(scan_m, angles_rad, angles_rad, settings.synthetic.max_range_m)
        files = {
            "rgb": folder / "data" / f"{number:05d}.png",
            "lidar_img": folder / "data" / f"{number:05d}.depth.png",
        }
        shown, _ = rendering.degrade_image(image, rng, settings.synthetic.rgb)
        Image.fromarray(shown).save(files["rgb"])
        Image.fromarray(depth_image.from_raster(raster)).save(files["lidar_img"])
        yield NewGroup(f"scene-{number}", label, split, files, raster)


def measure_export(dataset: Path, settings: Params) -> dict[str, float]:
    """Seconds of the export as in `python -m stages.export`, and of its import by FiftyOne."""
    import_s = time_imports()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        manifests.FOLDER = Path(folder) / "tensors"
        source = replace(settings.dataset, path=str(dataset))
        start_s = time.perf_counter()
        export.export(source, settings.export)
        total_s = time.perf_counter() - start_s
        size = sum(file.stat().st_size for file in manifests.FOLDER.glob("*") if file.is_file())
    return {"import_s": sum(import_s), "seconds": total_s - sum(import_s), "bytes": size}


def measure_plain_loop(dataset: Path, settings: Params) -> dict[str, float]:
    """Seconds of a plain loop over all groups, and of FiftyOne's import before it; `settings` are the export's."""
    import_s = time_imports()
    fo = database.connect()
    loaded = fo.Dataset.from_dir(dataset_dir=str(dataset), dataset_type=fo.types.FiftyOneDataset)
    start_s = time.perf_counter()
    for group in loaded.iter_groups():
        image = Image.open(group["rgb"].filepath).resize((_IMAGE_SIZE, _IMAGE_SIZE))
        rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        raster = torch.from_numpy(group["lidar_img"].xyza.copy())
        assert rgb.shape == raster.shape and group["rgb"].ground_truth.label
    total_s = time.perf_counter() - start_s
    loaded.delete()
    return {"import_s": sum(import_s), "seconds": total_s}


MEASUREMENTS: dict[str, Callable[[Path, Params], dict[str, float]]] = {
    "export": measure_export,
    "plain loop": measure_plain_loop,
}


def time_imports() -> list[float]:
    """Seconds of each call of FiftyOne's import from now on."""
    import_s = []
    dataset_class = database.connect().Dataset  # the start of the database is not part of the import
    from_dir = dataset_class.from_dir

    def timed(*arguments: object, **named: object) -> object:
        start_s = time.perf_counter()
        dataset = from_dir(*arguments, **named)
        import_s.append(time.perf_counter() - start_s)
        return dataset

    dataset_class.from_dir = timed
    return import_s


def repeat(dataset: Path, rounds: int) -> dict[str, dict[str, float]]:
    """All measurements in turn, several times: medians, and the maximum of the memory."""
    measured = [{what: measure(what, dataset) for what in MEASUREMENTS} for _ in range(rounds)]
    return {
        what: {
            key: float((max if key == "peak_mib" else np.median)([row[what][key] for row in measured]))
            for key in measured[0][what]
        }
        for what in MEASUREMENTS
    }


def measure(what: str, dataset: Path) -> dict[str, float]:
    """Runs one measurement in a fresh process; adds the peak memory of all its processes in MiB."""
    command = [sys.executable, "-m", "benchmarks.export", "--measure", what, "--dataset", str(dataset)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak_mib = 0.0
    while process.poll() is None:
        peak_mib = max(peak_mib, memory_mib(process.pid))
        time.sleep(0.1)
    output, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{what} of {dataset}:\n{errors}")
    return json.loads(output.splitlines()[-1]) | {"peak_mib": peak_mib}


def memory_mib(pid: int) -> float:
    """Resident memory of a process and all its descendants, without MongoDB's server.

    Shared memory is counted in each process, so the sum is an upper bound.
    """
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in processes:
        try:
            total += process.memory_info().rss if process.name() != "mongod" else 0
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total / 2**20


def summarize(rows: dict[int, dict[str, dict[str, float]]]) -> dict[str, object]:
    """The figures of the JSON file."""
    sizes = list(rows)
    seconds = [rows[size]["export"]["seconds"] + rows[size]["export"]["import_s"] for size in sizes]
    largest = rows[sizes[-1]]
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(sizes) > 1 else None
    return {
        "groups_per_s": {str(size): size / rows[size]["export"]["seconds"] for size in sizes},
        "exponent": exponent,
        "peak_mib": max(row["export"]["peak_mib"] for row in rows.values()),
        "plain_loop_ratio": largest["plain loop"]["seconds"] / largest["export"]["seconds"],
        "kilobytes_per_group": largest["export"]["bytes"] / sizes[-1] / 1000,
        "fiftyone_import_s": {str(size): rows[size]["export"]["import_s"] for size in sizes},
    }


def table(rows: dict[int, dict[str, dict[str, float]]], figures: dict[str, object]) -> str:
    cells = [
        [
            f"{size:,}",
            f"{size / row['export']['seconds']:,.0f}",
            f"{size / row['plain loop']['seconds']:,.0f}",
            f"{row['plain loop']['seconds'] / row['export']['seconds']:.2f}",
            f"{row['export']['import_s']:.1f}",
            f"{row['export']['peak_mib']:,.0f}",
        ]
        for size, row in rows.items()
    ]
    headers = [
        "Groups",
        "Export (groups/s)",
        "Plain loop (groups/s)",
        "Ratio",
        "FiftyOne's import (s)",
        "Peak memory (MiB)",
    ]
    lines = [tabulate(cells, headers, tablefmt="github", disable_numparse=True)]
    if figures["exponent"] is not None:
        lines.append(
            f"Time, import included, grows with the number of groups to the power of {figures['exponent']:.2f}."
        )
    lines.append(f"The cache takes {figures['kilobytes_per_group']:.1f} kB a group.")
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()
