"""The fusion operators: one file each, and the file's name is the operator's name in params.yaml.

A module `NAME.py` holds one class, its name in CamelCase, that derives from a class of base.py. Nothing registers
it: the folder is the registry. This file reads source text only, so asking which names exist costs no import of
torch. What operators share lies in base.py and tokens.py, which every model depends on.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    from stages.lib.fusions.base import IntermediateFusion, LateFusion, StreamFusion

_FOLDER = Path(__file__).parent
_SHARED = ("base", "tokens")  # files that hold no operator
_KIND_OF_BASE = {
    "EarlyFusion": "early",
    "StreamFusion": "intermediate",
    "IntermediateFusion": "intermediate",
    "LateFusion": "late",
    "PerceptronFusion": "late",
}
KINDS = ("early", "intermediate", "late")
_FIELDS = ("Formula", "Strength", "Limitation", "Parameters", "Source")  # of an operator's docstring
JOINT = ("early", "intermediate")  # whose nets are trained as a whole; params.yaml lists both as intermediate


def names(*kinds: str) -> list[str]:
    """Names of all operators of these kinds.

    Raises:
        UserError: when a file holds an operator that can't be one of them.
    """
    return [name for name in _files() if _kind(_FOLDER / f"{name}.py") in kinds]


def kind(name: str) -> str:
    """The kind of an operator, one of `KINDS`.

    Raises:
        ValueError: when there is no operator of this name.
        UserError: when its file does not hold what it should.
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
    formula: str  # with the shapes of one sample
    strength: str
    limitation: str
    parameters: str  # number of its own, as a Python expression; base.py explains its names
    source: str


def describe(name: str) -> Description:
    """The operator in words, from its class's docstring; "not told" for what that leaves out."""
    node = _operator(_FOLDER / f"{name}.py")
    text = (node and ast.get_docstring(node)) or ""
    parts = dict(
        re.findall(rf"^({'|'.join(_FIELDS)}): (.+?)(?=^(?:{'|'.join(_FIELDS)}): |\Z)", text, re.M | re.S)
    )
    told = {field.lower(): " ".join(parts.get(field, "not told").split()) for field in _FIELDS}
    prose = re.split(rf"^(?:{'|'.join(_FIELDS)}): ", text, flags=re.M)[0]
    paragraphs = [" ".join(part.split()) for part in prose.split("\n\n") if part.strip()]
    return Description(summary=paragraphs[0] if paragraphs else "", paragraphs=paragraphs, **told)


def _files() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("[a-z]*.py") if path.stem not in _SHARED)


def _kind(path: Path) -> str | None:
    """The kind of the operator in a file, by the base class that its source names; None if it holds no operator."""
    node = _operator(path)
    found = _kind_of(node) if node else None
    if found is None and (node or any(_kind_of(other) for other in _classes(path))):
        raise UserError(
            f"{_shown(path)}: its fusion has to be a class named {_class_name(path.stem)} that derives from "
            "IntermediateFusion, StreamFusion, EarlyFusion or LateFusion of "
            "stages/lib/fusions/base.py"
        )
    return found


def _kind_of(node: ast.ClassDef) -> str | None:
    bases = [getattr(base, "id", None) or getattr(base, "attr", None) for base in node.bases]
    return next((_KIND_OF_BASE[base] for base in bases if base in _KIND_OF_BASE), None)


def _operator(path: Path) -> ast.ClassDef | None:
    """The syntax tree of the class that a file is named after."""
    return next((node for node in _classes(path) if node.name == _class_name(path.stem)), None)


def _classes(path: Path) -> list[ast.ClassDef]:
    """The syntax trees of a file's classes."""
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise UserError(f"{_shown(path)}, line {error.lineno}: {error.msg}") from None
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _shown(path: Path) -> str:
    return f"stages/lib/fusions/{path.name}"


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
