"""The table of odd recordings in docs/reliability.md, row by row, as either decoder of containers reads them."""

from __future__ import annotations

import logging
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from odd_files import RATE, Sound, container, cut, died, joined, packets, restated, small, tones

from audiosep import OutputOptions
from audiosep.audio import probe, read_audio, write_audio
from audiosep.audio.marker import MARK
from audiosep.audio.probing import BACKENDS
from audiosep.audio.source import Unreadable
from audiosep.audio.video import VideoWriter
from audiosep.errors import AudioError, InputError
from audiosep.separator import Separator

pytest.importorskip("av")

TEXT = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text()
DECODERS = ("PyAV", "ffmpeg")
# recording -> (seconds by PyAV, seconds by ffmpeg, what is said)
TABLE = {
    row: (by_pyav, by_ffmpeg, said)
    for row, by_pyav, by_ffmpeg, said in re.findall(
        r"^\| (.+?) \| ([\d.]+|refused) \| ([\d.]+|refused) \| (.+?) \|$", TEXT, re.M
    )
}


def films(here: Path) -> dict[str, Callable[[], Path]]:
    """Rows about pictures, tracks and time stamps."""
    x = tones(2, 1)
    quiet, english = Sound(0 * x), Sound(x, default=True, language="eng", name="Main")
    return {
        "mp4 whose sound starts after a second": lambda: container(
            here / "late.mp4", "aac", [Sound(x, start=1)], picture=2
        ),
        "mkv whose sound starts after a second": lambda: container(
            here / "late.mkv", "flac", [Sound(x, start=1)], picture=2
        ),
        "MPEG-TS whose sound starts after a second": lambda: container(
            here / "late.ts", "mp2", [Sound(x, start=1)], picture=2
        ),
        "mkv whose sound has a gap of half a second": lambda: container(
            here / "gap.mkv", "flac", [Sound(x, gap=0.5)], picture=1.5
        ),
        "mkv with a silent track before the default one": lambda: container(
            here / "two.mkv", "flac", [quiet, english], picture=1
        ),
        "sound that starts after a second, without a picture": lambda: container(
            here / "alone.mka", "flac", [Sound(x, start=1)]
        ),
    }


def joints(here: Path) -> dict[str, Callable[[], Path]]:
    """Rows about files that were joined, or named wrongly."""

    def pair(suffix: str, **other: int) -> Path:
        return joined(here / f"joined{suffix}", small(here / f"a{suffix}"), small(here / f"b{suffix}", **other))

    def twice(suffix: str) -> Path:
        one = small(here / f"a{suffix}")
        return joined(here / f"twice{suffix}", one, one)

    return {
        "AAC called .mp3": lambda: small(here / "x.aac").rename(here / "x.mp3"),
        "mkv called .au": lambda: container(here / "x.mkv", "flac", [Sound(tones(2, 1))]).rename(here / "x.au"),
        "wav of PCM that holds AC-3": lambda: packets(
            here / "x.wav", container(here / "x.ac3", "ac3", [Sound(tones(2, 1))])
        ),
        "two mp3 files joined": lambda: pair(".mp3"),
        "mp3, joined with mono": lambda: pair(".mp3", channels=1),
        "mp3, joined with another sample rate": lambda: pair(".mp3", rate=32_000),
        "wav, joined with itself": lambda: twice(".wav"),
        "aiff, joined with itself": lambda: twice(".aiff"),
        "flac, joined with itself": lambda: twice(".flac"),
        "m4a, joined with itself": lambda: twice(".m4a"),
        "mp3, joined with flac": lambda: joined(
            here / "joined.mp3", small(here / "a.mp3"), small(here / "b.flac", seconds=2)
        ),
        "mp3 with tags at its end": lambda: joined(here / "tagged.mp3", small(here / "a.mp3"), tags_at_end(here)),
        "ogg, joined with itself: one serial number": lambda: twice(".ogg"),
        "opus, joined with itself": lambda: twice(".opus"),
        "ogg, joined with mono": lambda: pair(".ogg", channels=1),
        "ogg, joined with another sample rate": lambda: pair(".ogg", rate=32_000),
    }


def tags_at_end(here: Path) -> Path:
    """A tag of the kind that MPEG audio has at its end, as long as a picture."""
    path = here / "tags"
    path.write_bytes(b"APETAGEX" + bytes(20_000))
    return path


def halves(here: Path) -> dict[str, Callable[[], Path]]:
    """Rows about files of which the end is missing."""

    def sndfile(suffix: str) -> Callable[[], Path]:
        seconds = {".ogg": 20, ".opus": 4}.get(suffix, 2)  # a page holds up to seconds of tones
        return lambda: cut(here / f"half{suffix}", small(here / f"x{suffix}", seconds=seconds))

    def other(suffix: str, codec: str, picture: float = 0.0, **options: str) -> Callable[[], Path]:
        path = here / f"x{suffix}"
        return lambda: cut(
            here / f"half{suffix}", container(path, codec, [Sound(tones(2, 2))], picture=picture, **options)
        )

    formats = {suffix: sndfile(f".{suffix}") for suffix in ("wav", "aiff", "au", "w64", "flac", "mp3", "ogg", "opus")}
    formats |= {
        "m4a with its index at the start": other(".m4a", "aac", movflags="faststart"),
        "m4a with its index at the end": other(".m4a", "aac"),
        "aac": lambda: cut(here / "half.aac", small(here / "x.aac", seconds=2), 0.52),
        "ac3": lambda: cut(here / "half.ac3", container(here / "x.ac3", "ac3", [Sound(tones(2, 2))]), 0.52),
        "caf": other(".caf", "pcm_s16be"),
        "mka": other(".mka", "flac"),
        "wv": other(".wv", "wavpack"),
        "avi": other(".avi", "mp2"),
        "MPEG-TS": other(".ts", "mp2"),
    }
    return {f"half of a file: {name}": make for name, make in formats.items()}


def recorders(here: Path) -> dict[str, Callable[[], Path]]:
    """Rows about files of recorders that were switched off, and other wrong sizes."""
    cases = {
        "sizes of 0": (0, 0),
        "sizes of an empty file": (36, 0),
        "sizes of 4 GiB": (0xFFFFFFFF, 0xFFFFFFFF),
        "sizes of 2 GiB": (0x7FFFFFFF, 0x7FFFFFDB),
    }
    rows: dict[str, Callable[[], Path]] = {
        "wav that states 4 GiB for the file, but its samples right": lambda: died(
            here / "odd.wav", small(here / "x.wav"), 0xFFFFFFFF, 2 * 2 * RATE
        )
    }
    for name, sizes in cases.items():
        rows[f"wav that was never closed: {name}"] = partial(closed_with, here, *sizes)
    empty = {
        "aiff": [(b"FORM", 4, bytes([0, 0, 0, 46])), (b"COMM", 10, bytes(4)), (b"SSND", 4, bytes([0, 0, 0, 8]))],
        "au": [(b".snd", 8, bytes(4))],
        "caf": [(b"data", 4, bytes([0, 0, 0, 0, 0, 0, 0, 4]))],
    }
    for suffix, fields in empty.items():
        path = here / f"x.{suffix}"
        rows[f"{suffix} that was never closed"] = partial(closed_with_fields, here / f"off.{suffix}", path, fields)
    return {
        **rows,
        "wav whose samples are twice as many as it states": lambda: restated(
            here / "few.wav", small(here / "x.wav"), (b"data", 4, struct.pack("<I", 2 * RATE))
        ),
    }


def closed_with_fields(path: Path, source: Path, fields: list[tuple[bytes, int, bytes]]) -> Path:
    return restated(path, small(source), *fields)


def closed_with(here: Path, riff: int, data: int) -> Path:
    return died(here / "off.wav", small(here / "x.wav"), riff, data)


def makers(here: Path) -> dict[str, Callable[[], Path]]:
    return {**films(here), **joints(here), **halves(here), **recorders(here)}


def only(monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    """As on a machine that has libsndfile and this decoder."""

    def missing(path: Path, track: object = None) -> None:
        raise Unreadable("not there")

    if decoder == "ffmpeg" and shutil.which("ffmpeg") is None:
        pytest.skip("needs an ffmpeg on PATH")
    monkeypatch.setitem(BACKENDS, *(("ffmpeg", missing) if decoder == "PyAV" else ("PyAV", missing)))


def test_every_row_is_made(tmp_path: Path) -> None:
    assert list(TABLE) == list(makers(tmp_path))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three tracks, each half as loud as the one before it."""
    x = tones(2, 0.3)
    tracks = [
        Sound(x, language="eng", name="Film"),
        Sound(x / 2, language="deu", default=True),
        Sound(x / 4, language="eng", name="Commentary"),
    ]
    return container(tmp_path / "film.mkv", "flac", tracks, picture=0.3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_track_is_chosen_by_number_language_or_name(
    film: Path, decoder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    only(monkeypatch, decoder)
    loudness = {1: 0.3, 2: 0.15, 3: 0.075}
    for wanted, number in ((None, 2), (1, 1), ("3", 3), ("DEU", 2), ("commentary", 3), (" Film ", 1)):
        caplog.clear()
        assert np.abs(read_audio(film, track=wanted)[0]).max() == pytest.approx(loudness[number], rel=0.05)
        assert probe(film, wanted).track == number
        assert ("others (track=): 1 (eng, 'Film'), 3 (eng" in caplog.text) == (wanted is None)
    for wanted, words in (
        (4, "no audio track '4'"),
        ("fra", "no audio track 'fra'"),
        ("eng", "more than one audio track"),
    ):
        with pytest.raises(
            InputError, match=rf"there is {words}.*: choose one of 1 \(eng, 'Film'\), 2 \(deu, default\), 3"
        ):
            read_audio(film, track=wanted)


def test_python_and_files_take_a_track(film: Path, separator: Separator, tmp_path: Path) -> None:
    by_array = separator.separate(read_audio(film, track=1)[0], "piano", sample_rate=RATE)["piano"]
    np.testing.assert_array_equal(separator.separate(film, "piano", track="Film")["piano"], by_array)
    report = separator.separate_files(
        film, "piano", tmp_path / "out", output=OutputOptions(track="Film", format="flac")
    )
    report.raise_for_failures()
    written = read_audio(report.results[0].outputs["piano"])[0]
    np.testing.assert_allclose(written, by_array, atol=1e-4)
    with pytest.raises(InputError, match="track is for files"):
        separator.separate(by_array, "piano", sample_rate=RATE, track=1)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_late_sound_is_in_its_place(tmp_path: Path, decoder: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, decoder)
    click = np.zeros((1, RATE), np.float32)
    click[0, RATE // 2] = 0.9
    codec = {".mkv": "flac"}.get(suffix, "mp2" if suffix == ".ts" else "aac")
    path = container(tmp_path / f"film{suffix}", codec, [Sound(click, start=0.75)], picture=2)
    x, _ = read_audio(path)
    # mp2 has a delay of its own, 481 samples, of which its time stamps do not tell.
    assert abs(int(np.argmax(np.abs(x[0]))) / RATE - 1.25) < 0.012


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="videos are made with ffmpeg")
@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "mp2"), (".mpg", "mp2"), (".mkv", "flac"), (".avi", "mp3")])
def test_new_sound_is_under_the_picture_where_the_old_one_was(tmp_path: Path, suffix: str, codec: str) -> None:
    click = np.zeros((1, 2 * RATE), np.float32)
    click[0, RATE] = 0.9
    write_audio(tmp_path / "click.wav", click, RATE)
    film, made = tmp_path / f"film{suffix}", tmp_path / f"made{suffix}"
    late = [] if suffix == ".avi" else ["-itsoffset", "0.5"]  # the picture, behind the sound
    command = ["ffmpeg", "-v", "error", *late, "-f", "lavfi", "-i", "testsrc=s=64x48:d=2", "-i", tmp_path / "click.wav"]
    subprocess.run([*command, "-c:v", "mpeg2video", "-c:a", codec, film], check=True)
    x, rate = read_audio(film)
    writer = VideoWriter(made, probe(film), rate, 1, MARK, overwrite=False)
    writer.write(x)
    writer.close()
    assert after_the_picture(made) == pytest.approx(after_the_picture(film), abs=0.002)


def after_the_picture(film: Path) -> float:
    """Where the loudest sample is, in seconds from the first picture on."""
    import av

    with av.open(str(film)) as file:
        starts = [float(s.start_time * s.time_base) for s in (file.streams.video[0], file.streams.audio[0])]
    x, rate = read_audio(film)  # with silence in front where the picture starts first
    return int(np.argmax(np.abs(x[0]))) / rate + min(0.0, starts[1] - starts[0])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("row", TABLE)
def test_the_row_comes_out_as_the_table_says(
    row: str, decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    only(monkeypatch, decoder)
    path = makers(tmp_path)[row]()
    seconds, phrases = TABLE[row][DECODERS.index(decoder)], re.findall("`(.+?)`", TABLE[row][2])
    caplog.set_level(logging.WARNING)
    if seconds == "refused":
        with pytest.raises(AudioError, match="cannot be read as audio"):
            read_audio(path)
        return
    x, rate = read_audio(path)
    assert x.shape[1] / rate == pytest.approx(float(seconds), abs=0.07)
    if phrases:
        assert any(phrase in caplog.text for phrase in phrases)
        assert all(re.search(r"\d\.\d\d s", record.getMessage()) for record in caplog.records if "early" in record.msg)
    else:
        assert not caplog.records
    assert np.sqrt(np.mean(x[:, -rate // 4 : -rate // 10] ** 2)) > 0.1, "it ends with its tones"
