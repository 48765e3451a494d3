"""Stand-ins for modules that are imported at their first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.lib.datasets.postponed_import import postponed

NAMES = ("slow_package", "slow_package.part")


@pytest.fixture(autouse=True)
def slow_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("VERSION = 3\n")
    (folder / "part.py").write_text("NUMBER = 7\n")
    (folder / "other.py").write_text("NUMBER = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("slow_package")]:
        del sys.modules[name]


def is_imported(name: str) -> bool:
    return hasattr(sys.modules.get(name), "__file__")


def test_a_module_is_imported_at_its_first_use() -> None:
    with postponed(*NAMES):
        import slow_package.part as part
    assert "slow_package" not in sys.modules
    assert part.NUMBER == 7 and is_imported("slow_package.part")


def test_a_use_inside_the_context_imports_it_at_once() -> None:
    with postponed(*NAMES):
        import slow_package

        assert slow_package.VERSION == 3 and is_imported("slow_package")
        assert importlib.import_module("slow_package.part").NUMBER == 7


def test_a_module_without_stand_in_is_found() -> None:
    with postponed(*NAMES):
        assert importlib.import_module("slow_package.other").NUMBER == 8


def test_an_imported_module_stays() -> None:
    imported = importlib.import_module("slow_package")
    with postponed(*NAMES):
        assert importlib.import_module("slow_package") is imported
