"""Memory that stays with the process: without the system's page after page for every large block."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from audiosep.inference import memory

PAGES = """
import resource, sys
import numpy as np
from audiosep.inference.memory import keep_freed_memory

if sys.argv[1] == "bf16" and not keep_freed_memory("cpu", "bf16"):
    sys.exit(3)
assert not keep_freed_memory("cpu", "fp32")
assert not keep_freed_memory("cuda:0", "bf16")
for _ in range(10):
    np.ones(16_000_000, np.float32)  # 64 MB, more than the C library would keep
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(16_000_000, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library")
def test_freed_memory_is_used_again() -> None:
    faults = {}
    for way in ("bf16", "fp32"):
        answer = subprocess.run([sys.executable, "-c", PAGES, way], capture_output=True, text=True, check=False)
        if answer.returncode == 3:
            pytest.skip("a C library that keeps no blocks as large as these")
        faults[way] = int(answer.stdout)
    assert faults["bf16"] < 100
    assert faults["fp32"] > 10 * max(1, faults["bf16"])


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(memory.sys, "platform", system)
    assert not memory.keep_freed_memory("cpu", "bf16")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed_memory("cpu", "bf16")
