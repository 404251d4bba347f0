"""Folders as they lie around: hidden folders, trash, links, videos, other files, outputs of earlier runs."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import Mixture

from audiosep import OutputOptions
from audiosep.audio import FORMATS, write_audio
from audiosep.cli import main
from audiosep.errors import AudioError, InputError
from audiosep.output.recordings import find_recordings
from audiosep.separator import Separator

ROOT = Path(__file__).parents[1]


def found(folder: Path, out: str = "nowhere") -> list[str]:
    recordings, failures = find_recordings(folder, folder.parent / out)
    assert not failures
    return [recording.path.relative_to(folder).as_posix() for recording in recordings]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")


def test_hidden_folders_and_trash_stay_out(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    touch(folder / "a.wav", folder / ".Trash-1000" / "b.wav", folder / "$RECYCLE.BIN" / "c.wav")
    touch(folder / "disc" / "@eaDir" / "d.wav", folder / ".e.wav", folder / "disc" / "f.mp3")
    assert found(folder) == ["a.wav", "disc/f.mp3"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    touch(folder / "a.wav", tmp_path / "elsewhere" / "b.wav")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    (folder / "same.wav").symlink_to(folder / "a.wav")
    (folder / "broken.wav").symlink_to(tmp_path / "nothing")
    assert found(folder) == ["a.wav", "again/b.wav"]


def test_videos_are_seen_and_other_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "media"
    touch(*(folder / name for name in ("a.MKV", "b.mov", "c.ac3", "d.amr", "e.ts", "f.mid", "cover.jpg")))
    with caplog.at_level(logging.WARNING, "audiosep"):
        assert found(folder) == ["a.MKV", "b.mov", "c.ac3", "d.amr"]
    assert "left out by their suffix: 1 .mid, 1 .ts" in caplog.text
    assert ".jpg" not in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_lead_in_a_circle_are_one_failure(separator: Separator, tmp_path: Path, mixture: Mixture) -> None:
    write_audio(tmp_path / "song.wav", mixture(0.2, 16000, 1), 16000)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    inputs = [tmp_path / "loop.wav", tmp_path / "song.wav"]
    report = separator.separate_files(inputs, "piano", tmp_path / "out")
    assert [result.input.name for result in report.results] == ["song.wav"]
    assert [(path.name, type(error)) for path, error in report.failures.items()] == [("loop.wav", AudioError)]
    (tmp_path / "away").symlink_to("away")
    (error,) = separator.separate_files(inputs[1:], "piano", tmp_path / "away").failures.values()
    assert "cannot be made" in str(error)


def test_a_folder_of_outputs_that_may_not_be_read_is_one_failure(
    separator: Separator, tmp_path: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/one.wav", "b/two.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        write_audio(tmp_path / "in" / name, mixture(0.2, 16000, 1), 16000)
    exists = Path.exists

    def refused(path: Path) -> bool:  # as where the folder has no permissions; root has all
        if path.parent == tmp_path / "out" / "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    report = separator.separate_files(tmp_path / "in", "piano", tmp_path / "out")
    assert [result.input.name for result in report.results] == ["two.wav"]
    (error,) = report.failures.values()
    assert isinstance(error, AudioError)
    assert "Permission denied" in str(error)


def test_a_nul_in_a_name_is_one_failure(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    recordings, failures = find_recordings(["a\0b.wav", tmp_path / "a.wav"], tmp_path / "out")
    assert [recording.path for recording in recordings] == [tmp_path / "a.wav"]
    (error,) = failures.values()
    assert isinstance(error, InputError)


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="this libsndfile has no mp3")
def test_what_libraries_write_to_standard_error_is_seen_with_verbose_alone(
    tmp_path: Path, tiny_folder: Path, mixture: Mixture, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    song = tmp_path / "song.mp3"
    write_audio(song, mixture(2, 44100, 2), 44100)
    content = bytearray(song.read_bytes())
    content[20_000:24_000] = bytes(4_000)  # libmpg123 writes to standard error that it resynchronises
    song.write_bytes(content)
    said = {}
    with os.fdopen(2, "w", buffering=1, closefd=False) as stderr:  # as in a process of its own
        monkeypatch.setattr(sys, "stderr", stderr)
        for option in ("--verbose", "--no-residual", "--quiet"):
            out = str(tmp_path / f"out{option}")
            assert main(["separate", str(song), "piano", "-m", str(tiny_folder), "-o", out, option]) == 0
            said[option] = capfd.readouterr().err
    assert "resync" in said["--verbose"]
    assert "resync" not in said["--no-residual"]
    assert said["--quiet"] == ""


@pytest.mark.parametrize("format", FORMATS)
def test_outputs_are_no_recordings_wherever_they_lie(
    separator: Separator, tmp_path: Path, mixture: Mixture, format: str
) -> None:
    if format == "m4a":
        pytest.importorskip("av")
    folder = tmp_path / "music"
    folder.mkdir()
    write_audio(folder / "a.wav", mixture(0.5, 16000, 1), 16000, tags={"title": "A", "software": "a recorder"})
    write_audio(folder / "a (live).wav", mixture(0.5, 16000, 1), 16000)
    separator.separate_files(folder / "a.wav", "piano", folder / "old", output=OutputOptions(format=format))
    (made,) = (folder / "old").glob("a (piano).*")
    made.rename(folder / made.with_stem("renamed").name)
    separator.separate(folder / "a.wav", "piano").save(folder / "saved", format=format)
    assert found(folder) == ["a (live).wav", "a.wav"]
    named, _ = find_recordings(folder / f"renamed{made.suffix}", tmp_path / "out")
    assert len(named) == 1


def test_where_a_format_holds_no_mark_the_name_tells(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    touch(folder / "a.avi", folder / "out" / "a (without dog).avi", folder / "b (final).avi")
    assert found(folder) == ["a.avi", "b (final).avi"]
