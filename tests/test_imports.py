"""The house: dependencies flow down only, without a circle, and importing is cheap."""

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

# From the ground up: a part imports parts of lower floors, and its own modules. Function-level imports count too.
FLOORS = (
    {"errors"},
    {"atomic", "metrics"},
    {"audio"},
    {"models"},
    {"weights"},
    {"inference"},
    {"output", "convert"},
    {"query", "data"},
    {"separator"},
    {"api"},
    {"evaluation", "training"},
    {"export", "live"},
    {"bench", "cluster"},
    {"cli"},
    {"__main__"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# Who works for users through the public names.
CUSTOMERS = {"cli", "bench", "cluster", "export", "live", "evaluation", "__main__"}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]  # the lazy public names
    return found


MODULES = modules()
NAMED = re.compile(r"(?P<module>audiosep(\.\w+)+):\w+")


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, in functions and by name too, but not for type checking only."""
    names: set[str] = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names |= {f"{base}.{alias.name}" for alias in node.names} if base.split(".")[0] == "audiosep" else set()
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and (named := NAMED.fullmatch(str(node.value))):
            names.add(named["module"])  # a registry names it for importlib
    own = {name.removeprefix("audiosep").removeprefix(".") for name in names if name.split(".")[0] == "audiosep"}
    return {module_of(name) for name in own}


def walk(tree: ast.AST) -> list[ast.AST]:
    nodes = [tree]
    for child in ast.iter_child_nodes(tree):
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        nodes += [] if checking else walk(child)
    return nodes


def module_of(name: str) -> str:
    """The module that `from audiosep.<name>` reaches: a module itself, or a name in one."""
    return name if name in MODULES else name.rpartition(".")[0]


def floor(module: str) -> int:
    return FLOOR.get(module, FLOOR[module.split(".")[0]])


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    part = module.split(".")[0]
    assert part in FLOOR, f"{module}: give {part!r} a floor in this test"
    for other in imports(MODULES[module]):
        if other == "":
            assert part in CUSTOMERS, f"{module} imports the public names, which import it"
        elif other.split(".")[0] != part:
            assert floor(other) < floor(module), f"{module} imports {other}, which is not below it"


def test_there_is_no_circle() -> None:
    graph = {module: imports(path) - {"", module} for module, path in MODULES.items()}
    # A package and its modules: `import a.b` runs `a` first, which may import `a.b` itself.
    order = list(
        TopologicalSorter({m: {i for i in found if i in MODULES} for m, found in graph.items()}).static_order()
    )
    assert set(order) == set(MODULES)


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
