"""The fusion operators: one file each, and the file's name is the operator's name in params.yaml.

A module `NAME.py` holds one class, its name in CamelCase, that derives from a class of base.py.
Nothing registers it: the folder is the registry. This file reads source text only, so asking which
names exist costs no import of torch.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.lib.fusions.base import IntermediateFusion, LateFusion, StreamFusion

_FOLDER = Path(__file__).parent
_KIND_OF_BASE = {
    "EarlyFusion": "early",
    "StreamFusion": "intermediate",
    "IntermediateFusion": "intermediate",
    "LateFusion": "late",
}
KINDS = ("early", "intermediate", "late")
JOINT = ("early", "intermediate")  # whose nets are trained as a whole; params.yaml lists both as intermediate


def names(*kinds: str) -> list[str]:
    """Names of all operators of these kinds."""
    return [name for name in _files() if _kind(_FOLDER / f"{name}.py") in kinds]


def kind(name: str) -> str:
    """The kind of an operator, one of `KINDS`.

    Raises:
        ValueError: when there is no operator of this name.
    """
    found = _kind(_FOLDER / f"{name}.py") if name in _files() else None
    if found is None:
        raise ValueError(f"no fusion named '{name}' in {_FOLDER}")
    return found


def load(name: str) -> type[IntermediateFusion] | type[StreamFusion] | type[LateFusion]:
    """The operator's class.

    Raises:
        ValueError: when there is no operator of this name.
    """
    kind(name)
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, _class_name(name))


@dataclass(frozen=True)
class Description:
    """What an operator's docstring says of it."""

    summary: str  # its first paragraph
    paragraphs: list[str]  # that and what follows it
    strength: str
    limitation: str
    parameters: str  # number of its own, as a Python expression; base.py explains its names
    source: str


def describe(name: str) -> Description:
    """The operator in words, from its class's docstring; "not told" for what that leaves out."""
    node = _operator(_FOLDER / f"{name}.py")
    text = (node and ast.get_docstring(node)) or ""
    parts = dict(
        re.findall(r"^(Strength|Limitation|Parameters|Source): (.+?)(?=^\w+: |\Z)", text, re.M | re.S)
    )
    told = {
        field: " ".join(parts.get(field.capitalize(), "not told").split())
        for field in ("strength", "limitation", "parameters", "source")
    }
    prose = re.split(r"^(?:Strength|Limitation|Parameters|Source): ", text, flags=re.M)[0]
    paragraphs = [" ".join(part.split()) for part in prose.split("\n\n") if part.strip()]
    return Description(summary=paragraphs[0] if paragraphs else "", paragraphs=paragraphs, **told)


def _files() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("[a-z]*.py"))


def _kind(path: Path) -> str | None:
    """The kind of the operator in a file, by the base class that its source names."""
    node = _operator(path)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)] if node else []
    return next((_KIND_OF_BASE[base] for base in bases if base in _KIND_OF_BASE), None)


def _operator(path: Path) -> ast.ClassDef | None:
    """The syntax tree of the class that a file is named after."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == _class_name(path.stem):
            return node
    return None


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
