"""Layers of the package: a module imports lower layers only, without a cycle, and importing is cheap."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import audiosep

ROOT = Path(audiosep.__file__).parent

# From the lowest: a part imports parts of lower layers, and its own modules. Imports inside functions count too.
LAYERS = (
    {"errors"},
    {"atomic", "metrics", "progress"},
    {"audio"},
    {"models"},
    {"weights"},
    {"hearing"},
    {"inference"},
    {"output", "convert"},
    {"query", "data"},
    {"separator"},
    {"api"},
    {"evaluation", "training"},
    {"export", "live"},
    {"bench", "cluster", "studio"},
    {"cli"},
    {"__main__"},
)
# Parts inside `training`, in the same way.
TRAINING_LAYERS = (
    {"engine", "caption_table", "tower_files"},
    {"data_config"},
    {"separation"},
    {"finetune", "towers"},
    {"run_config"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
TRAINING_LAYER = {part: number for number, parts in enumerate(TRAINING_LAYERS) for part in parts}
# Parts that may import the public names.
PUBLIC_USERS = {"cli", "bench", "cluster", "export", "live", "evaluation", "__main__"}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]  # the public names, which are resolved on first use
    return found


MODULES = modules()
NAMED = re.compile(r"(?P<module>(audiosep|research)(\.\w+)+):\w+")


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, in functions and by name too, but not for type checking only.

    The name of a module that does not exist is returned as it is written.
    """
    found: set[str] = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {imported_from(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and (named := NAMED.fullmatch(str(node.value))):
            found.add(named["module"])  # a registry names it for importlib
    return found


def imported_from(module: str, name: str) -> str:
    """The module that `from module import name` reaches: a module of that name, or the one that holds the name."""
    whole = f"{module}.{name}"
    is_module = whole.removeprefix("audiosep.") in MODULES
    missing = module == "audiosep" and name not in audiosep.__all__
    return whole if is_module or missing else module


def own_imports(path: Path) -> set[str]:
    """The imported modules of the package, named below it; "" for the public names."""
    names = {name for name in imports(path) if name.split(".")[0] == "audiosep"}
    return {name.removeprefix("audiosep").removeprefix(".") for name in names}


def walk(tree: ast.AST) -> list[ast.AST]:
    nodes = [tree]
    for child in ast.iter_child_nodes(tree):
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        nodes += [] if checking else walk(child)
    return nodes


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_lower_layers_only(module: str) -> None:
    part = module.split(".")[0]
    assert part in LAYER, f"{module}: give {part!r} a layer in this test"
    for other in own_imports(MODULES[module]):
        if other == "":
            assert part in PUBLIC_USERS, f"{module} imports the public names, which import it"
            continue
        assert other in MODULES, f"{module} imports audiosep.{other}, which does not exist"
        if other.split(".")[0] != part:
            assert LAYER[other.split(".")[0]] < LAYER[part], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("training.")])
def test_a_module_of_training_imports_lower_layers_only(module: str) -> None:
    part = module.split(".")[1]
    assert part in TRAINING_LAYER, f"{module}: give {part!r} a layer in this test"
    for other in own_imports(MODULES[module]):
        if other.startswith("training.") and (imported := other.split(".")[1]) != part:
            assert TRAINING_LAYER[imported] < TRAINING_LAYER[part], f"{module} imports {other}, which is not below it"


def test_imports_have_no_cycle() -> None:
    # A package and its modules: `import a.b` runs `a` first, which may import `a.b` itself.
    graph = {module: own_imports(path) - {"", module} for module, path in MODULES.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_nothing_imports_research(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] == "research"}


def test_imports_of_what_does_not_exist_are_found(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "from audiosep import absent, load\n"
        "from audiosep.audio.absent import name\n"
        "def f():\n"
        "    import audiosep.models.absent\n"
        "    from research import pages\n"
        "NAME = 'audiosep.absent.model:Class'\n"
    )
    assert own_imports(file) == {"", "absent", "audio.absent", "models.absent", "absent.model"}
    assert "research" in imports(file)


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Top-level modules that are loaded after `code` ran in a fresh interpreter."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "transformers", "numpy", "soundfile", "typer", "rich", "huggingface_hub"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import audiosep; dir(audiosep); audiosep.__version__") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_the_command_without_a_verb_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from audiosep.cli import main; main({arguments!r})"
    assert not loaded_by(code) & HEAVY


def test_audio_and_catalogue_do_without_torch() -> None:
    assert not loaded_by("import audiosep.audio, audiosep.weights.catalogue") & {
        "torch",
        "transformers",
        "huggingface_hub",
    }


def test_no_two_rooms_share_the_name_of_a_module_or_class() -> None:
    homes: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = [node.name for node in body if isinstance(node, ast.ClassDef)]
        # A verb of the command line has the name of what it calls, a room may have that of a file elsewhere.
        if path.stem != "__init__" and not module.startswith("cli."):
            names.append(path.stem)
        for name in names:
            if not name.startswith("_"):
                homes.setdefault(name, set()).add(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
