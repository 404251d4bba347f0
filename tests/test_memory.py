"""Peak memory of a process: what Linux reports, and what other systems do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audiosep.inference import memory
from audiosep.inference.memory import peak_memory


def test_the_peak_stays_when_the_memory_is_freed() -> None:
    before = peak_memory()
    if before is None:
        pytest.skip("this system does not report it")
    block = np.ones(before // 8 + 25_000_000)  # bytes: more than the process has used, and 200 MB on top
    size = block.nbytes
    del block
    assert peak_memory() > size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_child_process_does_not_start_with_the_peak_of_its_parent() -> None:
    block = np.ones(50_000_000)  # 400 MB
    code = "from audiosep.inference.memory import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child < block.nbytes / 2


def test_the_file_of_the_kernel_is_read_in_kibibytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t   99 kB\nVmHWM:\t   12 kB\nVmRSS:\t    3 kB\n")
    assert peak_memory(tmp_path / "status") == 12 * 1024


def test_windows_does_not_report_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert peak_memory(tmp_path / "missing") is None
