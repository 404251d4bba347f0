"""Docstrings that mkdocstrings can read: all parameters, one a line, and none that does not exist."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

griffe = pytest.importorskip("griffe", reason="the extra [docs] is not installed")

ROOT = Path(__file__).parents[1]


def documented(package: str) -> Iterator[Any]:
    """Every module, class and function with a docstring."""
    waiting = [griffe.load(package, search_paths=[ROOT], allow_inspection=False)]
    while waiting:
        one = waiting.pop()
        if not one.is_alias:
            waiting += one.members.values()
            if one.docstring is not None:
                yield one


@pytest.mark.parametrize("package", ["audiosep", "research"])
def test_parameters_are_documented_one_a_line(package: str, caplog: pytest.LogCaptureFixture) -> None:
    lacking = []
    with caplog.at_level(logging.WARNING, "griffe"):
        for one in documented(package):
            for section in one.docstring.parse("google", returns_multiple_items=False, returns_named_value=False):
                named = {item.name.lstrip("*") for item in section.value} if section.kind in KINDS else set()
                lacking += [f"{one.path}: {name}" for name in expected(one, section) if name not in named]
    assert [record.getMessage() for record in caplog.records] == []
    assert lacking == []


KINDS = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes)


def expected(one: Any, section: Any) -> list[str]:
    """What a section must name: all parameters, or all public fields of a dataclass that it does not inherit."""
    if section.kind is griffe.DocstringSectionKind.parameters and (one.is_function or one.is_class):
        return [p.name for p in one.parameters if p.name not in ("self", "cls") and not p.name.startswith("_")]
    if section.kind is griffe.DocstringSectionKind.attributes and one.is_class and "dataclass" in one.labels:
        return [p.name for p in one.parameters if p.name in one.members and not p.name.startswith("_")]
    return []
