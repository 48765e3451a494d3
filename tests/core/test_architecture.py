"""The rules of the architecture, checked on the source text: order of rooms, imports, deps in dvc.yaml."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from scripts import fusion_docs
from stages.lib import fusions
from stages.lib.models import architecture

ROOT = Path(__file__).parent.parent.parent
STAGES = sorted(path for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
LIBRARY = sorted((ROOT / "stages" / "lib").rglob("*.py"))
SOURCES = [
    path
    for folder in ("stages", "scripts", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.stat().st_size
]
# The order of the rooms: each imports only from itself and from rooms before it. A stage imports no other stage.
ROOMS = [
    "core",
    "params",
    "plots",
    "lidar",
    "tensors",
    "datasets",
    "export",
    "tracking",
    "fusions",
    "models",
    "training",
    "evaluation",
    "statistics",
    "comparison",
    "deployment",
    "report",
    "stages",
    "scripts",
    "benchmarks",
]
# The one place that may import a heavy library.
DOORS = {
    "fiftyone": "stages.lib.datasets.database",
    "pymongo": "stages.lib.datasets.database",
    "ruamel": "stages.lib.params",
    "matplotlib": "stages.lib.plots",
    "trimesh": "stages.lib.datasets.rendering",
    "sklearn": "stages.lib.evaluation.baselines",
    "statsmodels": "stages.lib.statistics",
    "onnxruntime": "stages.lib.deployment.onnx_file",
    "distributed": "stages.lib.training.parallel",
    "wandb": "stages.lib.tracking.wandb",
    "mlflow": "stages.lib.tracking.mlflow",
    "tensorboard": "stages.lib.tracking.tensorboard",
}
NEED_TORCH = {"train", "train_late", "evaluate"}
# Never imported during training, not even indirectly.
NOT_IN_TRAINING = {"fiftyone", "pandas", "matplotlib", "sklearn", "scipy"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_path(module: str) -> Path | None:
    """The file of a module of this project; None for any other module."""
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def imports(path: Path) -> set[str]:
    """Every module that a file imports at run time; imports for type checkers do not count."""
    found: set[str] = set()
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if source_path(name)} or {node.module}
            found.add(node.module)
    return found


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        nodes += [child, *runtime_nodes(child)]
    return nodes


def reachable(path: Path) -> set[str]:
    """All modules that a file imports, directly or through modules of this project."""
    seen: set[str] = set()
    queue = [path]
    while queue:
        for module in imports(queue.pop()) - seen:
            seen.add(module)
            local = source_path(module)
            if module.startswith("stages") and local:
                queue.append(local)
    return seen


def room(module: str) -> str:
    parts = module.split(".")
    if parts[:2] == ["stages", "lib"]:
        return parts[2] if len(parts) > 2 else "core"
    return parts[0]


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_import_only_those_before_them(name: str) -> None:
    files = [path for path in SOURCES if room(module_name(path)) == name]
    assert files
    for path in files:
        for module in imports(path):
            if module.split(".")[0] not in ("stages", "scripts", "benchmarks") or source_path(module) is None:
                continue
            itself = module_name(path)
            if name == "stages" and room(module) == "stages":
                assert module in (itself, "stages"), f"{itself} imports {module}, another stage"
            assert ROOMS.index(room(module)) <= ROOMS.index(name), f"{itself} imports {module}, a later room"


def test_every_room_has_its_rank() -> None:
    assert {room(module_name(path)) for path in SOURCES} == set(ROOMS)


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_have_one_door(library: str) -> None:
    users = {
        module_name(path)
        for path in [*STAGES, *LIBRARY]
        if any(module.split(".")[0] == library for module in imports(path))
    }
    assert users
    assert all(user == DOORS[library] or user.startswith(DOORS[library] + ".") for user in users), users


@pytest.mark.parametrize("stage", ["train", "train_late"])
def test_training_imports_nothing_that_it_does_not_need(stage: str) -> None:
    found = {module.split(".")[0] for module in reachable(ROOT / "stages" / f"{stage}.py")}
    assert not found & NOT_IN_TRAINING


@pytest.mark.parametrize("stage", sorted(path.stem for path in STAGES if path.stem not in NEED_TORCH))
def test_torch_is_imported_by_those_that_need_it(stage: str) -> None:
    """Because its import takes two seconds in every process."""
    found = {module.split(".")[0] for module in reachable(ROOT / "stages" / f"{stage}.py")}
    assert "torch" not in found


def test_counting_operations_imports_no_compiler() -> None:
    program = (
        "import sys, torch\nfrom scripts import fusion_docs\nfrom stages.lib.evaluation import cost\n"
        "from stages.lib.models import networks\n"
        "cost.count(networks.build('addition', fusion_docs.NOTEBOOK), fusion_docs.NOTEBOOK)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def stage_entries() -> dict[str, tuple[str, list[str]]]:
    """By name in dvc.yaml: module and `deps:` of the stage."""
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    entries = {}
    for name, entry in pipeline.items():
        definition = entry.get("do", entry)
        module = definition["cmd"].split()[3]
        entries[name] = (module, definition["deps"])
    return entries


@pytest.mark.parametrize("name", stage_entries())
def test_deps_list_every_local_module(name: str) -> None:
    module, deps = stage_entries()[name]
    path = source_path(module)
    assert path is not None
    needed = {path}
    for imported in reachable(path):
        local = source_path(imported) if imported.startswith("stages") else None
        if local:
            needed.add(local)
    listed = {ROOT / dep for dep in deps if "${" not in dep}
    folders = {dep for dep in listed if dep.is_dir()}
    missing = {
        file.relative_to(ROOT).as_posix()
        for file in needed
        if file not in listed
        and not folders & set(file.parents)
        and file.stat().st_size > 0
        and file.name != "params.py"
    }
    assert not missing, f"dvc.yaml: {name} does not depend on {sorted(missing)}"
    unused = {
        file.relative_to(ROOT).as_posix()
        for file in listed - needed - folders
        if file.suffix == ".py" and file.parent.name != "fusions"
    }
    # Fusions are loaded by name.
    unused |= {
        folder.relative_to(ROOT).as_posix()
        for folder in folders
        if folder.is_relative_to(ROOT / "stages") and folder.name != "fusions"
        if not any(folder in file.parents for file in needed)
    }
    assert not unused, f"dvc.yaml: {name} depends on {sorted(unused)} without importing it"


@pytest.mark.parametrize("left_out", [set(), {"synthesize"}], ids=["built-in dataset", "own dataset"])
def test_every_stage_comes_after_check(left_out: set[str]) -> None:
    """So that a wrong setting in params.yaml ends a run before anything is trained or deleted."""
    with Repo(ROOT) as repo:
        graph = repo.index.graph  # from a stage to those that it depends on
        graph = graph.subgraph(stage for stage in graph if stage.name not in left_out)
        checked = {stage.name for stage in graph if "check" in {s.name for s in nx.descendants(graph, stage)}}
        assert checked == {stage.name for stage in graph} - {"check"}
        assert len(graph) > len(STAGES)


@pytest.mark.parametrize("kind", ["intermediate", "late"])
@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_deps_list_what_operators_import(stage: str, kind: str) -> None:
    """Operators are loaded by name, so no import statement of a stage leads to them."""
    _, deps = stage_entries()[f"{stage}_{kind}"]
    assert "stages/lib/fusions/${item}.py" in deps
    names = fusions.names("late") if kind == "late" else fusions.names(*fusions.JOINT)
    for name in names:
        for module in reachable(ROOT / "stages" / "lib" / "fusions" / f"{name}.py"):
            local = source_path(module) if module.startswith("stages") else None
            if local and local.stat().st_size and local.name != "params.py":
                places = {place.relative_to(ROOT).as_posix() for place in (local, local.parent)}
                assert places & set(deps), f"{name} imports {module}"


@pytest.mark.parametrize("kind", ["unimodal", "intermediate", "late"])
def test_models_depend_on_every_setting_that_matters(kind: str) -> None:
    from stages.lib.params import Network, Train

    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    listed = set(pipeline[f"train_{kind}"]["do"]["params"])
    elsewhere = {
        "unimodal": {"late_hidden", "fuse_after"},
        "intermediate": {"unimodal_channels", "late_hidden"},
        "late": {"fuse_after"},
    }[kind]
    network = {f"network.{key}" for key in set(Network.__dataclass_fields__) - elsewhere}
    sample = {"unimodal": "rgb", "intermediate": "mmtm", "late": "late"}[kind]
    kept = architecture.facts(sample, fusion_docs.NOTEBOOK)
    assert network == {f"network.{key}" for key in kept if key in Network.__dataclass_fields__}
    evaluation = set(pipeline[f"evaluate_{kind}"]["do"]["params"])
    # All other settings are in the weights' metadata.
    assert evaluation == {"seeds", "evaluate", "train.device", "train.threads"}
    without_effect = {"workers", "backend", "scheduler", "save_every_s"}
    assert "data/per_model/${item}.json" in pipeline[f"train_{kind}"]["do"]["deps"]
    expected = set(Train.__dataclass_fields__) - without_effect - {"per_model"}
    expected -= set() if kind == "late" else {"late"}
    assert listed == {"seeds"} | network | {f"train.{key}" for key in expected}


def test_every_setting_is_explained() -> None:
    """Each key of params.yaml has a comment in the line above or after it."""
    lines = (ROOT / "params.yaml").read_text().splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if ":" in line and not line.strip().startswith(("#", "-")):
            assert "#" in line or above.strip().startswith("#"), f"no comment: {line}"


def test_no_pickle_anywhere() -> None:
    for path in [*STAGES, *LIBRARY]:
        text = path.read_text()
        for word in ("import pickle", "torch.load(", "torch.save(", "joblib.dump", "allow_pickle=True"):
            assert word not in text, f"{path}: {word}"
