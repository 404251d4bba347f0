"""The record of the machine and the software that results are stored with."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from audiosep.inference import environment as module
from audiosep.inference.environment import environment


def test_it_is_complete_and_can_be_stored_as_json() -> None:
    found = environment()
    assert found.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found.threads == torch.get_num_threads()
    assert found.cpus >= 1
    assert json.loads(json.dumps(asdict(found))) == asdict(found)


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    assert list(environment().versions) == ["torch"]


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment().git is None


def test_the_name_of_the_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A Processor: fast\nmodel name\t: A Processor: fast\n")
    assert module._cpu_name(cpuinfo) == "A Processor: fast"
    cpuinfo.write_text("processor\t: 0\n")
    assert module._cpu_name(cpuinfo) == module._cpu_name(tmp_path / "missing") != ""
