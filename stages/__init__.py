"""The pipeline: one module a stage, each run as `python -m stages.NAME`."""

import sys

_usual_hook = sys.excepthook


def _show(kind: type[BaseException], *rest: object) -> None:
    """Ctrl-C while a stage's modules are still being imported ends with a word, not with a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        _usual_hook(kind, *rest)


sys.excepthook = _show
