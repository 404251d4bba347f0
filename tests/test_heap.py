"""Heaps of the GNU C library, counted by its own report in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from audiosep.inference import heap

COUNT = """
import ctypes, sys, threading
from audiosep.inference import heap

shared = heap.share_heaps() if sys.argv[1] == "shared" else None
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
everyone = threading.Barrier(9)

def hold():
    assert libc.malloc(1000)
    everyone.wait()  # no thread ends before all have begun
    everyone.wait()

for _ in range(8):
    threading.Thread(target=hold).start()
everyone.wait()
libc.fopen.restype = ctypes.c_void_p
report = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(report))
libc.fclose(ctypes.c_void_p(report))
everyone.wait()
heap.give_back()
print(shared, open(sys.argv[2]).read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_threads_share_two_heaps(tmp_path: object) -> None:
    def count(how: str) -> list[str]:
        command = [sys.executable, "-c", COUNT, how, f"{tmp_path}/report.xml"]
        mine = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=mine).stdout.split()

    assert count("shared") == ["True", "2"]
    own, heaps = count("own")
    assert own == "None"
    assert int(heaps) > 2


def test_other_systems_have_no_such_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not heap.share_heaps()
    heap.give_back()
