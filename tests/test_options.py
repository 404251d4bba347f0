"""The two objects of options: their values are checked, and Python and the command line share them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import audiosep
from audiosep import InputError, Options, OutputOptions
from audiosep.cli.job import JobOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("overlap", value) for value in (-0.1, 1, 1.5, np.nan, "0.1", True, None)),
        *(("shifts", value) for value in (-1, 0.5, "1", True, None)),
        *(("batch", value) for value in (0, -1, 1.5, "1", True)),
    ],
)
def test_impossible_options(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} must be"):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", "xyz", "unknown format"),
        ("format", None, "unknown format"),
        ("template", "{file}.{ext}", "a template has"),
        ("residual", "yes", "residual must be True or False"),
        ("overwrite", 1, "overwrite must be True or False"),
        ("only", [], "at least one target"),
        ("only", [1], "at least one target"),
        ("on_clip", "wrap", "on_clip must be"),
        ("max_seconds", -1, "max_seconds must be"),
        ("max_seconds", np.nan, "max_seconds must be"),
        ("max_seconds", None, "max_seconds must be"),
    ],
)
def test_impossible_output_options(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OutputOptions(**{name: value})


def test_options_are_values() -> None:
    assert Options(overlap=0.5) == Options(0.5) != Options()
    assert OutputOptions(only="vocals") == OutputOptions(only=["vocals"])
    assert len({OutputOptions(only=["a", "b"]), OutputOptions(only=("a", "b")), OutputOptions()}) == 2
    with pytest.raises(AttributeError):
        Options().shifts = 1  # type: ignore[misc]


def test_the_command_line_and_python_have_the_same_defaults() -> None:
    assert JobOptions().options() == Options()
    assert JobOptions().output(None) == OutputOptions()
    saved = inspect.signature(audiosep.Separation.save).parameters
    for name in ("format", "template", "residual", "on_clip", "overwrite"):
        assert saved[name].default == getattr(OutputOptions(), name)


def test_each_option_of_the_command_line_reaches_the_library() -> None:
    job = JobOptions(
        format="flac", template="{stem}.{ext}", residual=False, on_clip="clip", overwrite=True, max_seconds=5.0,
        overlap=0.5, shifts=2, batch=3,
    )  # fmt: skip
    assert job.options() == Options(0.5, 2, 3)
    assert job.output(["vocals"]) == OutputOptions("flac", "{stem}.{ext}", False, "vocals", "clip", True, 5.0)
