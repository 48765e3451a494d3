"""Writes the objects of many frames as a dataset: frames are cut in parallel, a few at a time."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.command_line import Parser
from scripts.ingest import output
from scripts.ingest.cutting import Frame, FrameResult, LabelledObject, cut_frames
from stages.lib.core import console, errors
from stages.lib.core.errors import UserError
from stages.lib.datasets.writer import NewGroup, write
from stages.lib.export import decode, survey
from stages.lib.params import Params

_FRAMES = 8  # that a process cuts for one task


@dataclass(frozen=True)
class Tally:
    """What was cut, and what was left out."""

    groups: Counter[tuple[str, str]] = field(default_factory=Counter)  # by class and split
    objects: Counter[str] = field(default_factory=Counter)  # left out, by reason
    lines: list[str] = field(default_factory=list)  # about frames and labels that are left out


def of_classes(
    objects: dict[str, list[LabelledObject]], classes: list[str] | None, tally: Tally
) -> dict[str, list[LabelledObject]]:
    """The objects of these classes by frame, without frames that have none; None means all classes.

    Raises:
        UserError: when no object is of one of the classes.
    """
    if classes is not None:
        found = {item.label for of_frame in objects.values() for item in of_frame}
        for name in classes:
            if name not in found:
                raise UserError(
                    f"--classes: no object of class '{name}'; classes are {', '.join(sorted(found)) or 'none'}"
                )
    kept = {}
    for name, of_frame in objects.items():
        wanted = [item for item in of_frame if classes is None or item.label in classes]
        tally.objects["of other classes"] += len(of_frame) - len(wanted)
        if wanted:
            kept[name] = wanted
    return kept


def write_objects(
    frames: Iterable[Frame],
    picture_paths: list[Path],
    out: Path,
    source: Path,
    settings: Params,
    tally: Tally,
) -> None:
    """Cuts all objects and writes the dataset `out`; the tally counts them.

    Args:
        picture_paths: of all frames.

    Raises:
        UserError: when too few objects can be cut for training and validation, or the pictures are no pictures.
    """
    export = settings.export
    # In this order: after Ctrl-C the processes end first, so none writes into a folder that is being deleted.
    with output.new_folder(out) as folder, decode.started(export.workers) as pool:
        for name in ("data", "depth"):
            (folder / name).mkdir(parents=True)
        white, warning = survey.white_of_files(
            list(map(str, picture_paths)),
            settings.dataset.rgb.max_value,
            export.max_pixels,
            pool,
            str(source),
        )
        if warning:
            console.report_line(errors.printable(f"warning: {source}: {warning}"))
        # Absolute, because processes may have another current folder.
        work = partial(
            cut_frames,
            folder=folder.absolute(),
            size=export.image_size,
            max_pixels=export.max_pixels,
            white=white,
        )
        results = itertools.chain.from_iterable(decode.in_order(work, _batches(frames), pool))
        groups = _counted(console.track(results, "cutting", len(picture_paths), "frame"), tally)
        first = next(groups, None)
        if first is None:
            reasons = [*tally.lines[:1], *_reasons(tally)]
            raise UserError(f"{source}: no object can be cut; {'; '.join(reasons) or 'there is none'}")
        write(folder, out.name, itertools.chain([first], groups), seed=0)
        output.require_usable(tally.groups, source)
        output.write_left_out(folder, tally.lines)


def print_summary(out: Path, tally: Tally) -> None:
    output.print_summary(out, tally.lines, tally.groups, "frames and labels")
    for reason in _reasons(tally):
        print(f"left out: {reason}")


def parser(command: str, description: str, folder: str) -> argparse.ArgumentParser:
    """Reads the command line of `python -m scripts.ingest COMMAND`; its errors have one line.

    Args:
        folder: what FOLDER is.
    """
    reader = Parser(prog=f"python -m scripts.ingest {command}", description=description)
    reader.add_argument("folder", type=Path, metavar="FOLDER", help=folder)
    reader.add_argument("out", type=Path, metavar="OUT", help="the dataset to write: a new folder")
    return reader


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while batch := list(itertools.islice(remaining, _FRAMES)):
        yield batch


def _counted(results: Iterable[FrameResult], tally: Tally) -> Iterator[NewGroup]:
    for result in results:
        if result.error is not None:
            tally.lines.append(result.error)
        tally.objects.update(result.left_out)
        for group in result.groups:
            tally.groups[group.label, group.split] += 1
            yield group


def _reasons(tally: Tally) -> list[str]:
    return [f"{count:,} objects {reason}" for reason, count in sorted(tally.objects.items()) if count]
