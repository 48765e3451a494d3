"""Converts other forms of data into a FiftyOne dataset, which the pipeline can read.

    python -m scripts.ingest RAW OUT                            raw folders as the course's
    python -m scripts.ingest kitti FOLDER OUT [options]         KITTI's object data: frames with labelled boxes
    python -m scripts.ingest detections FOLDER OUT [options]    a FiftyOne dataset with boxes in its pictures

`python -m scripts.ingest kitti --help` lists options. A raw folder may have the name of a command:
`python -m scripts.ingest kitti out` has no third argument, so it converts the raw folder `kitti`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.ingest import course, detections, kitti
from stages.lib.core.errors import UserError

_COMMANDS = {"kitti": kitti.main, "detections": detections.main}


def main(arguments: Sequence[str]) -> None:
    """Runs the command that the arguments name."""
    name = arguments[0] if arguments else ""
    if name not in _COMMANDS or (len(arguments) == 2 and Path(name).is_dir()):
        course.main(arguments)
    elif len(arguments) < 3 and not {"-h", "--help"} & set(arguments):
        raise UserError(
            f"usage: python -m scripts.ingest {name} FOLDER OUT [options]; --help lists the options"
        )
    else:
        _COMMANDS[name](arguments[1:])
