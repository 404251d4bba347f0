"""What a type checker knows of the public functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import audiosep

Numpy = NDArray[np.float32]
path, array, tensor = Path("song.mp3"), np.zeros((2, 100), np.int16), torch.zeros(2, 100)
separator = audiosep.load("mini", precision="fp32", engine="torch")
assert_type(audiosep.separate("song.mp3", "piano")["piano"], Numpy)
assert_type(audiosep.separate(path, "piano", device="cpu").residual, Numpy)
assert_type(audiosep.separate(array, "piano", sample_rate=8000), audiosep.Separation[Numpy])
assert_type(audiosep.stems(array, sample_rate=8000, options=audiosep.Options(shifts=1)).mix, Numpy)
assert_type(separator.separate(path, ["piano", audiosep.Query("dog")]).rest("dog"), Numpy)
assert_type(separator.stems(array, sample_rate=8000), audiosep.Separation[Numpy])
assert_type(audiosep.separate(tensor, "piano", sample_rate=8000), audiosep.Separation[torch.Tensor])
assert_type(audiosep.stems(tensor, sample_rate=8000)["bass"], torch.Tensor)
assert_type(separator.separate(tensor, "piano", sample_rate=8000).mix, torch.Tensor)
assert_type(list(separator.stems(tensor, sample_rate=8000).values()), list[torch.Tensor])
stream = separator.stream("piano", sample_rate=8000, channels=2)
assert_type(stream.push(tensor), torch.Tensor)
assert_type(stream.push(array.astype(np.float32)), Numpy)
report = separator.separate_files("in", None, "out", output=audiosep.OutputOptions(only="vocals"))
assert_type(report, audiosep.BatchReport)
audiosep.separate([0.0], "piano")  # type: ignore[call-overload]
audiosep.separate(array, "piano", devise="cpu")  # type: ignore[call-overload]
audiosep.load("mini", engine="tvm")  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_results_have_the_type_of_what_was_given(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", program],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
