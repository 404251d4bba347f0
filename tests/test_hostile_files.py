"""Hostile and odd files through the command line: no traceback, no hang, and no length that is lost without a word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hostile_files import Hostile, hostile_files

from audiosep.audio import read_audio
from audiosep.cli import main
from audiosep.cli.common import DONE, FAILED, ModelOptions
from audiosep.separator import Separator

pytest.importorskip("av")

_CODEC = 0.06  # seconds that codecs add


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with an ffmpeg on PATH")
@pytest.mark.parametrize(("seed", "count"), [(0, 60), pytest.param(1, 300, marks=pytest.mark.slow)])
def test_hostile_files_are_read_whole_or_with_a_word(
    seed: int,
    count: int,
    tmp_path: Path,
    tiny_folder: Path,
    separator: Separator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ModelOptions, "load", lambda self, **_: separator)  # loaded once
    codes = []
    for hostile in hostile_files(tmp_path, seed, count):
        path = hostile.path
        out = tmp_path / "out" / path.name.replace(".", " ")
        code = main(["separate", str(path), "piano", "--out", str(out), "--model", str(tiny_folder), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err, path.name
        document = json.loads(captured.out)
        codes.append(code)
        if code == FAILED:
            (failure,) = document["failures"]
            assert failure["type"] in ("AudioError", "InputError"), path.name
            assert len(failure["message"]) > 15
            assert not out.exists() or not list(out.iterdir())
            continue
        assert code == DONE, path.name
        (result,) = document["results"]
        seconds = result["samples"] / result["sample_rate"]
        if not re.search(r"warning: .*\d\.\d\d s", captured.err):
            least, most = length_of(hostile, seconds)
            assert least <= seconds <= most, f"{path.name}: {seconds} s, not {least} to {most} s"
        for output in result["outputs"].values():
            assert read_audio(output)[0].shape == (result["channels"], result["samples"]), path.name
    assert len(codes) == count
    assert count / 2 < codes.count(DONE) < count


def length_of(hostile: Hostile, seconds: float) -> tuple[float, float]:
    """The least and the most seconds that may be read from a file without a word, if `seconds` have been.

    Where all samples of a good file are in it, that is their length. Otherwise nothing may be lost that ffmpeg finds;
    ffmpeg may find less than was left of the good file, its versions differ in this.
    """
    if hostile.whole and abs(seconds - hostile.seconds) <= _CODEC:
        return hostile.seconds - _CODEC, hostile.seconds + _CODEC
    theirs = by_ffmpeg(hostile.path)
    tolerance = max(0.02 * theirs, _CODEC)
    return theirs - tolerance, max(theirs + tolerance, hostile.seconds + _CODEC)


def by_ffmpeg(path: Path) -> float:
    """Seconds of sound that ffmpeg finds."""
    command = ["ffmpeg", "-v", "quiet", "-nostdin", "-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    command += ["-map", "0:a:0", "-f", "s16le", "-ac", "1", "-ar", "8000", "-"]
    return len(subprocess.run(command, capture_output=True, timeout=60, check=False).stdout) / 16_000
