"""Speed of two checkouts in turns, with packages that only count."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiosep.errors import InputError, ModelError
from research import version_speed

PACKAGE = """
import pathlib

class Separator:
    def stems(self, samples, sample_rate):
        assert samples.shape == (2, 60 * sample_rate)
        with (pathlib.Path(__file__).parent / "calls").open("a") as file:
            file.write("stems ")

def load(name, device):
    return Separator()
"""


def checkout(folder: Path, text: str) -> Path:
    (folder / "audiosep").mkdir(parents=True)
    (folder / "audiosep" / "__init__.py").write_text(text)
    return folder


def test_both_versions_do_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, before = (checkout(tmp_path / name, PACKAGE) for name in ("now", "before"))
    page = tmp_path / "page.md"
    page.write_text("<!-- versions -->\n<!-- end of versions -->\n")
    recording = version_speed.ROOT / "examples" / "audio" / "song.flac"
    monkeypatch.setattr(version_speed, "ROOT", now)
    arguments = [str(before), "--threads", "1", "--runs", "2", "--tasks", "stems"]
    version_speed.main([*arguments, "--recording", str(recording), "--into", str(page)])
    assert page.read_text().count("| stems |") == capsys.readouterr().out.count("| stems |") == 1
    for version in (now, before):
        assert (version / "audiosep" / "calls").read_text().split() == ["stems"] * 3  # one of them is not timed


def test_a_version_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no checkout"):
        version_speed.main([str(tmp_path)])
    broken = checkout(tmp_path / "broken", "raise ImportError")
    with pytest.raises(ModelError, match="broken fails at 'stems'"):
        version_speed.Version(broken, "stems", 1, version_speed.ROOT / "examples" / "audio" / "song.flac")
