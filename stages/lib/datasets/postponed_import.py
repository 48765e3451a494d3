"""Imports of other packages' dependencies, postponed until they are used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Inside this context, who imports these modules gets stand-ins, which import them at the first use.

    Args:
        names: of a package and of its modules, each after the package that contains it. Nothing is postponed if one
            of them is imported already.
    """
    stand_ins = {} if set(names) & set(sys.modules) else {name: _StandIn(name) for name in names}
    for name, stand_in in stand_ins.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(stand_ins[parent], own, stand_in)
        else:
            stand_in.__spec__ = importlib.util.find_spec(name)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        _remove_stand_ins()


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        _remove_stand_ins()
        return getattr(importlib.import_module(self.__name__), name)


def _remove_stand_ins() -> None:
    """From now on, an import of these modules gives the modules themselves."""
    for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
        del sys.modules[name]
