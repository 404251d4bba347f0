"""CPU threads: what a container allows, and what is set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiosep.errors import InputError
from audiosep.inference.threads import available_cpus, free_cpus, use_threads


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [("max 100000", None), ("150000 100000", 1), ("50000 100000", 1), ("?", None), ("9990000 100000", None)],
)
def test_the_cpu_quota_of_a_container_counts(tmp_path: Path, limit: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert available_cpus(tmp_path) == (cpus or available_cpus(tmp_path / "none"))


def test_the_cpu_quota_of_cgroups_version_1_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == 1


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr("audiosep.inference.threads.available_cpus", lambda: 4)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(("running", "free"), [(1, 4), (5, 4), (6, 3), (8, 1), (40, 1)])
def test_cpus_that_other_programs_compute_on_are_not_free(tmp_path: Path, running: int, free: int) -> None:
    (tmp_path / "stat").write_text(f"cpu  1 2 3\nprocesses 7\nprocs_running {running}\nprocs_blocked 0\n")
    assert free_cpus(tmp_path / "stat") == free


@pytest.mark.usefixtures("eight_cpus")
def test_all_cpus_are_free_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert free_cpus(tmp_path / "stat") == 4
    (tmp_path / "stat").write_text("cpu  1 2 3\n")
    assert free_cpus(tmp_path / "stat") == 4


def test_a_number_of_threads_in_the_environment_is_not_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiosep.inference.threads.free_cpus", lambda: 1)
    monkeypatch.setattr("audiosep.inference.threads.available_cpus", lambda: 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert use_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert use_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1", "OMP_DYNAMIC": "FALSE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE", "OMP_DYNAMIC": "true"}, {"OMP_WAIT_POLICY": "ACTIVE", "OMP_DYNAMIC": "FALSE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "OMP_DYNAMIC": "FALSE"}),
    ],
)
def test_waiting_threads_spin_shortly_unless_the_user_says_otherwise(
    given: dict[str, str], found: dict[str, str]
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_DYNAMIC")
    code = f"import json, os, audiosep; print(json.dumps({{n: os.environ[n] for n in {names} if n in os.environ}}))"
    outer = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=outer | given, capture_output=True, check=True)
    assert json.loads(done.stdout) == found


def test_threads_are_set_and_never_raised_by_default() -> None:
    before = torch.get_num_threads()
    try:
        assert use_threads(1) == 1
        assert use_threads() == 1
        with pytest.raises(InputError):
            use_threads(0)
        with pytest.raises(InputError, match="the number of CPUs of this machine, got 100000"):
            use_threads(100_000)
    finally:
        torch.set_num_threads(before)
