"""The fusions: one file each, and the file's name is the fusion's name in params.yaml.

A module `NAME.py` holds one class, its name in CamelCase, that derives from a class of base.py. There is no other
registration. This file only parses the source text of the others, so listing names and kinds does not import
PyTorch. What fusions share is in base.py and tokens.py, on which every model depends.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.core.errors import UserError
from stages.lib.core.names import SENSORS

if TYPE_CHECKING:
    from stages.lib.fusions.base import IntermediateFusion, LateFusion, StreamFusion

    Operator = type[IntermediateFusion] | type[StreamFusion] | type[LateFusion]

_FOLDER = Path(__file__).parent
_SHARED = ("base", "tokens")  # files that hold no fusion
_KIND_OF_BASE = {
    "EarlyFusion": "early",
    "StreamFusion": "intermediate",
    "IntermediateFusion": "intermediate",
    "LateFusion": "late",
    "PerceptronFusion": "late",
}
KINDS = ("early", "intermediate", "late")
_FIELDS = ("Formula", "Strength", "Limitation", "Parameters", "Source")  # of a fusion's docstring
JOINT = (
    "early",
    "intermediate",
)  # kinds whose networks train as a whole; params.yaml lists both as intermediate


@dataclass(frozen=True)
class ModelSpec:
    """What a model's name in params.yaml stands for: one sensor's network, or a fusion."""

    name: str
    kind: str  # "unimodal", or one of `KINDS`
    sensors: tuple[str, ...]  # that the model sees

    @property
    def operator(self) -> Operator | None:
        """The class of the fusion, whose module is imported here, and PyTorch with it; None if unimodal."""
        if self.kind == "unimodal":
            return None
        module = importlib.import_module(f"{__name__}.{self.name}")
        return getattr(module, _class_name(self.name))

    @property
    def has_frozen_nets(self) -> bool:
        """Whether the model is a head over two trained unimodal networks that its own training does not change."""
        return self.kind == "late" and not getattr(self.operator, "trains_nets", False)


def spec(name: str) -> ModelSpec:
    """What a model's name stands for: the one look-up of a model's kind.

    Raises:
        ValueError: when the name is neither a sensor nor a fusion.
        UserError: when the fusion's file does not hold what it should.
    """
    if name in SENSORS:
        return ModelSpec(name, "unimodal", (name,))
    kind = _kind(_FOLDER / f"{name}.py") if name in _files() else None
    if kind is None:
        raise ValueError(f"no fusion named '{name}' in {_FOLDER}")
    return ModelSpec(name, kind, SENSORS)


def load(name: str) -> Operator:
    """The class of a fusion.

    Raises:
        ValueError: when there is no fusion of this name.
    """
    operator = spec(name).operator
    if operator is None:
        raise ValueError(f"'{name}' is a sensor, not a fusion")
    return operator


def names(*kinds: str) -> list[str]:
    """Names of all fusions of these kinds.

    Raises:
        UserError: when a file holds a fusion whose name or base class is wrong.
    """
    return [name for name in _files() if _kind(_FOLDER / f"{name}.py") in kinds]


@dataclass(frozen=True)
class Description:
    """The parts of a fusion's docstring."""

    summary: str  # first paragraph
    paragraphs: list[str]  # all paragraphs before the fields below
    formula: str  # with the shapes of one sample
    strength: str
    limitation: str
    parameters: (
        str  # number of the fusion's own parameters, as a Python expression; see base.py for its names
    )
    source: str


def describe(name: str) -> Description:
    """A fusion's description, from its class's docstring; "not given" for fields that the docstring leaves out."""
    node = _operator(_FOLDER / f"{name}.py")
    text = (node and ast.get_docstring(node)) or ""
    parts = dict(
        re.findall(rf"^({'|'.join(_FIELDS)}): (.+?)(?=^(?:{'|'.join(_FIELDS)}): |\Z)", text, re.M | re.S)
    )
    fields = {field.lower(): " ".join(parts.get(field, "not given").split()) for field in _FIELDS}
    prose = re.split(rf"^(?:{'|'.join(_FIELDS)}): ", text, flags=re.M)[0]
    paragraphs = [" ".join(part.split()) for part in prose.split("\n\n") if part.strip()]
    return Description(summary=paragraphs[0] if paragraphs else "", paragraphs=paragraphs, **fields)


def _files() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("[a-z]*.py") if path.stem not in _SHARED)


def _kind(path: Path) -> str | None:
    """The kind of the fusion in a file, from the base class in its source; None if the file holds no fusion."""
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
