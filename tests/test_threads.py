"""CPU threads: what a container allows, and what is set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audiosep.errors import InputError
from audiosep.inference.threads import available_cpus, use_threads


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


def test_threads_are_set_and_never_raised_by_default() -> None:
    before = torch.get_num_threads()
    try:
        assert use_threads(1) == 1
        assert use_threads() == 1
        with pytest.raises(InputError):
            use_threads(0)
    finally:
        torch.set_num_threads(before)
