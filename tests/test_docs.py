"""What pages say exists: links, files, modules, verbs, options, extras; and their examples run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from pathlib import Path

import click
import pytest
import typer.main
from pages import PAGES, ROOT, RUN, blocks, make_place, name_of, run_python
from test_imports import LAYERS

import audiosep
from audiosep.cli import VERBS
from audiosep.weights import catalogue
from research.root_pages import on_page_markdown

EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
OPTION = re.compile(r"(?<![\w./=-])--?[A-Za-z][\w-]*")

pages = pytest.mark.parametrize("page", PAGES, ids=name_of)
# A changelog also names what is gone.
present = pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)


def inline(page: Path) -> list[str]:
    """Code within sentences and tables."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", text)]


def commands(page: Path, start: str) -> list[str]:
    """What follows `start` in every command of a page, without what it is piped to, and comments."""
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    found = [rest for text in [*lines, *inline(page)] for rest in re.findall(rf"(?<![\w./-]){start} (\S.*)", text)]
    return [re.split(r" [|#<>] |  +#| && |; ", rest + " ")[0].strip() for rest in found]


def relative_links(text: str) -> list[str]:
    """Files that a text links to."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in relative_links(page.read_text(encoding="utf-8")):
        assert (page.parent / link).is_file(), link


@pytest.mark.parametrize("name", ["changelog", "contributing"])
def test_links_of_pages_of_the_root_lead_somewhere_in_the_site(name: str) -> None:
    page = ROOT / "docs" / f"{name}.md"
    text = on_page_markdown(page.read_text(encoding="utf-8"))
    assert text.startswith(f"# {name.capitalize()}\n")
    for link in relative_links(text):
        assert (page.parent / link).is_file(), link


@present
def test_files_that_are_named_exist(page: Path) -> None:
    folders = r"(?:audiosep|research|tests|docs|examples|checkpoints|\.ci)"
    for code in inline(page):
        for path, test in re.findall(rf"(?<![\w/.-])({folders}/[\w./-]*\w/?)(?:::(\w+))?", code):
            assert (ROOT / path).exists(), code
            assert not test or f"def {test}(" in (ROOT / path).read_text(), code
        assert not re.fullmatch(r"[\w/]+\.py", code) or (ROOT / code).is_file() or "/" not in code, code


@present
def test_modules_and_names_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(name) is not None, name
    for code in inline(page):
        for name in re.findall(r"(?<![\w./-])(?:audiosep|research)(?:\.[A-Za-z_]\w*)+", code):
            assert resolves(name), code


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@present
def test_verbs_and_options_of_the_command_line_exist(page: Path) -> None:
    for rest in commands(page, r"(?:python -m )?audiosep"):
        verb, *words = rest.split()
        if verb in ("VERB", "--help", "--version") or not re.fullmatch(r"[a-z]+", verb):
            continue
        assert verb in VERBS, rest
        assert set(OPTION.findall(" ".join(words))) <= options(verb, words) | {"--help"}, rest


def options(verb: str, words: list[str]) -> set[str]:
    """Every option of a verb, or of the command within it that the words name."""
    command: click.Command = typer.main.get_command(importlib.import_module(f"audiosep.cli.{verb}").app)
    within = getattr(command, "commands", {})
    command = within.get(words[0], command) if words else command
    return {option for one in command.params for option in [*one.opts, *one.secondary_opts]}


def _is_package(module: str) -> bool:
    return importlib.util.find_spec(module).submodule_search_locations is not None


@present
def test_options_of_modules_that_are_run_exist(page: Path) -> None:
    for rest in commands(page, "python -m"):
        module, *words = rest.split()
        if module.startswith(("research.", "audiosep.")):
            found = importlib.util.find_spec(f"{module}.__main__") if _is_package(module) else None
            source = Path((found or importlib.util.find_spec(module)).origin).read_text(encoding="utf-8")
            for option in OPTION.findall(" ".join(words)):
                assert f'"{option}"' in source, rest


@pages
def test_extras_are_installed_from_the_checkout(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"audiosep\[", text)
    for names in re.findall(r'pip install (?:-\S+ (?:constraints\.txt )?)*[\'"]?\.\[([\w,]+)\]', text):
        assert set(names.split(",")) <= EXTRAS, names


@pages
def test_python_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    entries = set(re.findall(r"^::: audiosep\.(\w+)$", text, re.M))
    assert entries == set(audiosep.__all__) - {"__version__"}
    assert "`audiosep.__version__`" in text


def test_the_layers_are_those_that_imports_are_held_to() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.M)
    assert [set(re.findall(r"`(\w+)`", parts)) for _, parts in reversed(rows)] == list(map(set, LAYERS))
    assert [int(number) for number, _ in rows] == list(range(len(LAYERS), 0, -1))


def test_the_diagram_names_classes_of_the_package() -> None:
    text = (ROOT / "docs" / "assets" / "path.svg").read_text()
    classes = re.findall(r">(\w+): ([A-Z]\w+)", text)
    assert len(classes) >= 6
    for part, name in classes:
        sources = (path.read_text() for path in (ROOT / "audiosep" / part).glob("*.py"))
        assert any(re.search(rf"^class {name}\b", source, re.M) for source in sources), f"{part}: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, tiny_folder: Path) -> None:
    place = make_place(tmp_path)
    shipped = page.name == "README.md" and catalogue.installed("mini")  # one page with mini is enough
    run_python(place, None if shipped else tiny_folder, f"import pages; pages.run_blocks({name_of(page)!r})")
    text = "".join(blocks(page, "(?:python|bash)"))
    for folder in re.findall(r"--out (out/[\w-]+)|\"(out/[\w-]+)\"", text):
        out = place / "".join(folder)
        assert any(out.iterdir()) if out.is_dir() else out.with_suffix(".wav").stat().st_size
    for file in re.findall(r"reading \(\w+\)\.flac", text):
        assert (place / "out" / file).is_file()


def test_the_site_loads_nothing_from_elsewhere() -> None:
    site = ROOT / "site"
    if not (site / "index.html").is_file():
        pytest.skip("`make docs` builds the site")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:[^"]*)"', text)
        assert loaded == [], page
