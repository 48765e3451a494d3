"""What tests of studies share."""

from __future__ import annotations

import json
from functools import reduce

from ruamel.yaml import YAML

from scripts.studies import notebook
from support.project import Project


def mark_environment_ready(clone: Project) -> None:
    """Makes `make` use the environment of these tests instead of installing one."""
    (clone.path(".venv") / "bin").mkdir(parents=True)
    (clone.path(".venv") / "bin" / "activate").touch()
    clone.path(".venv/.ready").touch()


def own_settings(clone: Project) -> list[str]:
    """The project's own values of all settings of `make notebook`, so that its results are in the cache."""
    content = YAML(typ="safe").load(clone.path("params.yaml"))
    known = []
    for setting in notebook.SETTINGS:
        key = setting.split("=")[0]
        value = reduce(lambda group, name: group[name], key.split("."), content)
        known.append(f"{key}={json.dumps(value)}".replace(" ", "").replace('"', ""))
    return known
