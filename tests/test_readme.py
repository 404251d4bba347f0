"""What the README promises first, and the examples of this repository; test_docs.py holds what it shows to be true."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from pages import ROOT, blocks, make_place, run_python

from audiosep.weights import catalogue

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_first_lines_say_what_this_is_and_what_it_is_not() -> None:
    head = " ".join(TEXT.split("## ")[0].split())
    assert "independent implementation" in head
    assert "not affiliated" in head
    assert "Audio-AGI/AudioSep" in head


def test_the_commands_of_the_quickstart_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [line for block in blocks(README, "console") for line in block.splitlines()]
    assert lines[:2] == ["make demo", "make test"]
    for line in lines:
        words = shlex.split(line)
        assert (words[0] == "make" and words[1] in targets) or words[:2] == ["pip", "install"], line
    assert all(name in extras for name in re.findall(r'pip install "\.\[(\w+)\]"', TEXT))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo.py", "separate.py"])
def test_the_examples_run(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    place = make_place(tmp_path)
    run = f"import runpy, sys; sys.argv = ['{name}', '--out', 'results']; "
    stand_in = None if catalogue.installed("mini") else tiny_folder
    out = run_python(place, stand_in, f"{run} runpy.run_path('examples/{name}', run_name='__main__')")
    assert "reading (speech).flac" in out
    assert (place / "results" / "reading (speech).flac").is_file()
    if name == "demo.py":
        assert "SI-SDR" in out
        for picture in ("reading.png", "song.png"):
            assert (place / "results" / picture).read_bytes().startswith(b"\x89PNG")


def test_the_shipped_model_separates_the_demo() -> None:
    import soundfile
    import torch

    from audiosep import load
    from audiosep.metrics import si_sdr

    folder = ROOT / "examples" / "audio"
    out = load("mini", device="cpu").separate(folder / "reading.flac", ["speech", "guitar"])
    mixture = torch.from_numpy(soundfile.read(folder / "reading.flac", dtype="float32", always_2d=True)[0].T)
    for name in ("speech", "guitar"):
        truth = torch.from_numpy(soundfile.read(folder / f"{name}.flac", dtype="float32", always_2d=True)[0].T)
        gained = si_sdr(torch.as_tensor(out[name]), truth) - si_sdr(mixture, truth)
        assert float(gained.mean()) > 0.5, name  # 3.7 and 3.3 dB with the weights that ship


def test_the_mixtures_are_the_sums_of_their_sources() -> None:
    import numpy as np
    import soundfile

    sums = {"reading": ("speech", "guitar"), "song": ("vocals", "lead_guitar", "rhythm")}
    credits = (ROOT / "examples" / "CREDITS.md").read_text()
    for mixture, sources in sums.items():
        read = {
            name: soundfile.read(ROOT / "examples" / "audio" / f"{name}.flac", dtype="int16")[0].astype(np.int32)
            for name in (mixture, *sources)
        }
        assert np.array_equal(read[mixture], sum(read[name] for name in sources))
        assert all(f"`{name}.flac`" in credits for name in read)
    files = {path.stem for path in (ROOT / "examples" / "audio").glob("*.flac")}
    assert files == {name for mixture, sources in sums.items() for name in (mixture, *sources)}
