"""Writing: every format, exact samples, saturation, tags, and files that appear whole or not at all."""

import _thread
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutagen import mp4

from audiosep.audio import (
    FORMATS,
    AudioReader,
    AudioWriter,
    can_clip,
    format_of,
    probe,
    read_audio,
    wav,
    write_audio,
    written_depth,
    written_rate,
)
from audiosep.audio.chapters import Chapter, read_chapters
from audiosep.audio.covers import Cover, read_cover
from audiosep.errors import AudioError, InputError

TAGS = {
    "title": "Grüße – 夜曲 🎹",
    "artist": "Zoë",
    "album": "a" * 300,
    "track": "3/12",
    "date": "2021",
    "genre": "Jazz",
    "comment": "two\nlines",
    "copyright": "© us",
    "album_artist": "Łucja",
    "composer": "Dvořák",
    "disc": "2/3",
    "bpm": "128",
    "key": "F#m",
}
NOT_IN_WAV = ("album_artist", "composer", "disc", "bpm", "key")
WITH_FIXTURES = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "deadline": None}


def tags_in(format: str) -> dict[str, str]:
    """Those of TAGS that a format holds."""
    return {name: text for name, text in TAGS.items() if format != "wav" or name not in NOT_IN_WAV}


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, samples)).astype(np.float32)


def grid(x: np.ndarray, depth: str) -> np.ndarray:
    """`x` on the values that a depth can hold."""
    if depth == "float":
        return x
    full = np.float32(2 ** (int(depth) - 1))
    return np.round(x * full) / full


@settings(max_examples=40, **WITH_FIXTURES)
@given(
    kind=st.sampled_from([("wav", "16"), ("wav", "24"), ("wav", "float"), ("flac", "16"), ("flac", "24")]),
    channels=st.integers(1, 8),
    samples=st.integers(1, 3_000),
    rate=st.one_of(st.integers(4_000, 65_535), st.sampled_from([88_200, 96_000, 192_000])),
    size=st.integers(1, 2_000),
)
@example(kind=("wav", "24"), channels=3, samples=1, rate=191_990, size=1)
@example(kind=("flac", "16"), channels=1, samples=40_000, rate=4_000, size=40_000)
def test_lossless_files_hold_the_very_samples(
    tmp_path: Path, kind: tuple[str, str], channels: int, samples: int, rate: int, size: int
) -> None:
    format, depth = kind
    x = grid(noise(channels, samples, seed=samples), depth)
    path = tmp_path / f"x.{format}"
    with AudioWriter(path, rate, channels, depth, overwrite=True) as writer:
        for start in range(0, samples, size):
            writer.write(x[:, start : start + size])
    assert writer.clipped == 0
    back, back_rate = read_audio(path)
    np.testing.assert_array_equal(back, x)
    info = probe(path)
    assert (info.sample_rate, info.channels, info.samples) == (rate, channels, samples)
    assert (info.format, info.depth, back_rate) == (format, depth, rate)


@settings(max_examples=25, **WITH_FIXTURES)
@given(
    format=st.sampled_from(["ogg", "opus", "mp3", "m4a"]),
    channels=st.integers(1, 8),
    samples=st.integers(1, 5_000),
    data=st.data(),
)
@example(format="mp3", channels=2, samples=50_001, data=None)
def test_lossy_files_have_the_very_length(
    tmp_path: Path, format: str, channels: int, samples: int, data: st.DataObject | None
) -> None:
    rates = FORMATS[format].rates or (4_000, 32_000, 44_100, 192_000)
    rate = 44_100 if data is None else data.draw(st.sampled_from(rates))
    channels = min(channels, FORMATS[format].channels)
    path = tmp_path / f"x.{format}"
    write_audio(path, noise(channels, samples), rate, overwrite=True)
    back, back_rate = read_audio(path)
    assert (back.shape, back_rate, probe(path).format) == ((channels, samples), rate, format)


@pytest.mark.parametrize(("format", "decibels"), [("ogg", 20), ("opus", 14), ("mp3", 17), ("m4a", 17)])
def test_lossy_files_sound_the_same_at_the_same_time(tmp_path: Path, format: str, decibels: float) -> None:
    rate = 48_000
    seconds = np.arange(2 * rate) / rate
    tone = sum(np.sin(2 * np.pi * 220 * k * seconds + k) / k for k in range(1, 12)) * (
        1 + np.sin(2 * np.pi * 3 * seconds)
    )
    x = np.stack([0.2 * tone, 0.1 * tone + noise(1, 2 * rate)[0] * 0.02]).astype(np.float32)
    write_audio(tmp_path / f"x.{format}", x, rate)
    back, _ = read_audio(tmp_path / f"x.{format}")
    assert 10 * np.log10(np.sum(x**2) / np.sum((x - back) ** 2)) > decibels


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_wraps_around(tmp_path: Path, format: str) -> None:
    x = np.linspace(-3, 3, 4_800, dtype=np.float32)[np.newaxis]
    for depth in ("16", "24", "float"):
        path = tmp_path / f"{depth}.{format}"
        clipped = write_audio(path, x, 48_000, depth=depth)
        back, _ = read_audio(path)
        if not can_clip(format, depth):
            assert clipped == 0
            np.testing.assert_array_equal(back, x)
            continue
        assert clipped == np.count_nonzero(np.abs(x) > 1)
        # Lossy encoders ring around the corners; a wrapped sample would have the other sign.
        assert np.all(back[0, 300:1_500] < -0.4)
        assert np.all(back[0, -1_500:-300] > 0.4)
        if FORMATS[format].depths:
            np.testing.assert_allclose(back, np.clip(x, -1, 1), atol=1 / 32_768)


@pytest.mark.parametrize("depth", ["16", "24"])
def test_full_scale_is_no_clipping(tmp_path: Path, depth: str) -> None:
    assert write_audio(tmp_path / "x.wav", np.array([[1, -1, 0.5]], np.float32), 8_000, depth=depth) == 0
    back, _ = read_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(back, [[1, -1, 0.5]], atol=2.0 ** (1 - int(depth)))


def test_rounding_has_no_bias(tmp_path: Path) -> None:
    x = (np.arange(-1_000, 1_000, dtype=np.float32) + 0.4)[np.newaxis] / 32_768
    for format in ("wav", "flac"):
        write_audio(tmp_path / f"x.{format}", x, 8_000)
        back, _ = read_audio(tmp_path / f"x.{format}")
        np.testing.assert_allclose(back, x, atol=0.41 / 32_768)


def test_flac_takes_floats_as_24_bit(tmp_path: Path) -> None:
    assert [written_depth(format, "float") for format in FORMATS] == ["float", "24", None, None, None, None]
    write_audio(tmp_path / "x.flac", noise(2, 100), 44_100, depth="float")
    assert probe(tmp_path / "x.flac").encoding == "PCM_24"


@pytest.mark.parametrize("format", FORMATS)
def test_tags_survive(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    write_audio(path, noise(2, 5_000), 48_000, tags={**TAGS, "mood": "blue"})
    assert dict(probe(path).tags) == tags_in(format)
    again = tmp_path / f"again.{format}"
    write_audio(again, noise(2, 5_000), 48_000, tags=probe(path).tags)
    assert dict(probe(again).tags) == tags_in(format)
    assert read_audio(path)[0].shape == (2, 5_000)


# One white point.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe"
    "0def46b80000000049454e44ae426082"
)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("source", ["flac", "ogg", "opus", "mp3", "m4a"])
def test_covers_survive(tmp_path: Path, source: str, format: str) -> None:
    for data in (PNG, b"\xff\xd8\xff" + bytes(1_000_000)):
        x = noise(2, 48_000)
        write_audio(tmp_path / f"a.{source}", x, 48_000, tags=TAGS, cover=Cover(data), overwrite=True)
        with AudioReader(tmp_path / f"a.{source}") as reader:
            cover = reader.cover
            assert cover == Cover(data)
            y = np.concatenate(list(reader), axis=1)
        info = reader.info
        write_audio(tmp_path / f"b.{format}", y, 48_000, tags=info.tags, cover=cover, overwrite=True)
        assert dict(probe(tmp_path / f"b.{format}").tags) == tags_in(format)
        with AudioReader(tmp_path / f"b.{format}") as copy:
            assert copy.cover == (None if format == "wav" else Cover(data))
            assert sum(block.shape[1] for block in copy) == 48_000


CHAPTERS = (
    Chapter(0, 0.25, "Intro"),
    Chapter(0.25, 0.5, "Zwölf Ünder – 二"),
    Chapter(0.5, 0.75, ""),
    Chapter(0.75, 1.0, "End"),
)


@pytest.mark.parametrize("cover", [None, Cover(PNG)])
@pytest.mark.parametrize("format", [format for format in FORMATS if format != "wav"])
def test_chapters_survive(tmp_path: Path, format: str, cover: Cover | None) -> None:
    path = tmp_path / f"x.{format}"
    with AudioWriter(path, 48_000, 2, tags=TAGS, cover=cover, chapters=CHAPTERS) as writer:
        writer.write(noise(2, 48_000))
    with AudioReader(path) as reader:
        assert dict(reader.info.tags) == tags_in(format)
        assert reader.cover == cover
        assert reader.chapters == CHAPTERS
        assert sum(block.shape[1] for block in reader) == 48_000
    with AudioReader(path, start=0.3, seconds=0.4) as reader:
        starts = [(round(one.start, 3), round(one.end, 3), one.title) for one in reader.chapters]
        assert starts == [(0, 0.2, CHAPTERS[1].title), (0.2, 0.4, "")]
        assert sum(block.shape[1] for block in reader) == 0.4 * 48_000


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="read with ffprobe")
@pytest.mark.parametrize("suffix", ["mp3", "m4a", "mka"])
def test_chapters_are_those_of_ffprobe(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with AudioWriter(tmp_path / "a.m4a", 48_000, 2, chapters=CHAPTERS) as writer:
        writer.write(noise(2, 48_000))
    path = tmp_path / f"x.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.m4a", "-map", "0:a", path], check=True)
    found = read_chapters(path)
    assert [one.title for one in found] == [one.title for one in CHAPTERS]
    assert [one.start for one in found] == pytest.approx([one.start for one in CHAPTERS], abs=0.025)
    monkeypatch.setitem(sys.modules, "av", None)
    assert read_chapters(path) == found
    assert read_chapters(tmp_path / "none") == ()


@pytest.mark.parametrize("program", ["PyAV", "ffmpeg"])
@pytest.mark.parametrize("suffix", [".mka", ".mkv"])
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the files are made with ffmpeg")
def test_covers_of_matroska_files_are_read(
    tmp_path: Path, suffix: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write_audio(tmp_path / "a.wav", noise(2, 48_000), 48_000)
    jpeg = b"\xff\xd8\xff" + bytes(1000)
    for name, data in (("back.jpg", jpeg), ("cover.png", PNG)):
        (tmp_path / name).write_bytes(data)
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:d=1", "-i", tmp_path / "a.wav"]
    command += [*(["-map", "0"] if suffix == ".mkv" else []), "-map", "1"]
    for number, name in enumerate(("back.jpg", "cover.png")):
        mime = ("image/jpeg", "image/png")[number]
        command += ["-attach", tmp_path / name, f"-metadata:s:t:{number}", f"mimetype={mime}"]
    subprocess.run([*command, path], check=True)
    if program == "ffmpeg":
        monkeypatch.setitem(sys.modules, "av", None)
    with AudioReader(path) as reader:
        assert reader.info.backend == program
        assert reader.cover == Cover(PNG)
    assert read_cover(tmp_path / "a.wav") is None
    (tmp_path / "broken.mka").write_bytes(path.read_bytes()[:50])
    assert read_cover(tmp_path / "broken.mka") is None


@pytest.mark.parametrize(
    ("format", "rates"), [("mp3", (64, 192)), ("opus", (48, 160)), ("ogg", (96, 256)), ("m4a", (96, 192))]
)
def test_bit_rates(tmp_path: Path, format: str, rates: tuple[int, ...]) -> None:
    for rate in rates:
        write_audio(tmp_path / f"x.{format}", noise(2, 96_000), 48_000, bitrate=rate, overwrite=True)
        reached = (tmp_path / f"x.{format}").stat().st_size * 8 / 2 / 1_000
        # Vorbis has qualities instead of bit rates, and noise takes more than music.
        assert reached == pytest.approx(rate, rel=0.95 if format == "ogg" else 0.15)


@pytest.mark.parametrize(
    ("format", "rate", "written"),
    [("opus", 44_100, 48_000), ("mp3", 96_000, 48_000), ("mp3", 7_000, 8_000), ("m4a", 192_000, 96_000)],
)
def test_a_rate_that_a_format_lacks_is_resampled(tmp_path: Path, format: str, rate: int, written: int) -> None:
    path = tmp_path / f"x.{format}"
    with AudioWriter(path, rate, 1, format=format) as writer:
        writer.write(0.5 * np.sin(2 * np.pi * 440 * np.arange(rate, dtype=np.float32) / rate)[np.newaxis])
    assert writer.file_rate == written_rate(format, rate) == written
    x, back = read_audio(path)
    assert (back, x.shape) == (written, (1, written))
    assert np.argmax(np.abs(np.fft.rfft(x[0]))) == 440


@pytest.mark.parametrize(("tempo", "whole"), [("128.53", [129]), ("fast", None), ("9" * 400, None), ("70000", None)])
def test_players_get_a_whole_tempo_of_m4a_where_there_is_one(
    tmp_path: Path, tempo: str, whole: list[int] | None
) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.m4a", noise(1, 5_000), 48_000, tags={"bpm": tempo})
    assert mp4.MP4(tmp_path / "x.m4a").get("tmpo") == whole
    assert probe(tmp_path / "x.m4a").tags["bpm"] == tempo


def test_a_date_of_mp3_is_a_year_and_a_day(tmp_path: Path) -> None:
    for written, read in (("2021-03-04", "2021-03-04"), ("spring", None)):
        write_audio(tmp_path / "x.mp3", noise(1, 5_000), 48_000, tags={"date": written}, overwrite=True)
        assert probe(tmp_path / "x.mp3").tags.get("date") == read


@pytest.mark.parametrize("format", FORMATS)
def test_other_programs_read_the_same(tmp_path: Path, format: str) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / f"x.{format}"
    write_audio(path, noise(2, 48_000), 48_000, tags=TAGS)
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        tags = {**container.metadata, **container.streams.audio[0].metadata}
    tags = {key.lower(): value for key, value in tags.items()}
    assert tags["title"] == TAGS["title"]
    assert tags["artist"] == TAGS["artist"]
    assert tags["track"] == TAGS["track"]
    if format != "wav":
        assert [tags[name] for name in ("album_artist", "composer", "disc")] == ["Łucja", "Dvořák", "2/3"]
    if format == "m4a":
        assert mp4.MP4(path)["tmpo"] == [128]
    # ffmpeg drops the beginning of what libvorbis writes, and ends m4a files with a whole frame.
    assert samples == 48_000 or (format == "ogg" and samples > 47_000) or (format == "m4a" and samples < 49_024)


@pytest.mark.parametrize(("channels", "layout"), [(6, "5.1"), (8, "7.1")])
def test_wav_names_the_speakers_of_usual_layouts(tmp_path: Path, channels: int, layout: str) -> None:
    av = pytest.importorskip("av")
    write_audio(tmp_path / "x.wav", noise(channels, 1_000), 48_000)
    with av.open(str(tmp_path / "x.wav")) as container:
        assert container.streams.audio[0].layout.name == layout


@pytest.mark.parametrize("format", ["wav", "flac", "mp3"])
def test_the_same_samples_make_the_same_bytes(tmp_path: Path, format: str) -> None:
    for name in "ab":
        write_audio(tmp_path / f"{name}.{format}", noise(2, 5_000), 44_100, depth="float", tags=TAGS)
    assert (tmp_path / f"a.{format}").read_bytes() == (tmp_path / f"b.{format}").read_bytes()


@pytest.mark.parametrize(("depth", "channels"), [("16", 1), ("24", 1), ("24", 3), ("float", 2), ("16", 8)])
def test_wav_grows_into_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: str, channels: int) -> None:
    x = grid(noise(channels, 5_001), depth)
    write_audio(tmp_path / "small.wav", x, 48_000, depth=depth, tags=TAGS)
    monkeypatch.setattr(wav, "RIFF_LIMIT", 10_000)
    write_audio(tmp_path / "large.wav", x, 48_000, depth=depth, tags=TAGS)
    for name, container in (("small", "WAV"), ("large", "RF64")):
        path = tmp_path / f"{name}.wav"
        assert soundfile.info(path).format in (container, "WAVEX" if container == "WAV" else container)
        np.testing.assert_array_equal(read_audio(path)[0], x)
        assert (probe(path).format, probe(path).depth, probe(path).samples) == ("wav", depth, 5_001)
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "large.wav")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 5_001


def test_names_with_spaces_and_scripts(tmp_path: Path) -> None:
    folder = tmp_path / "my música 音楽"
    folder.mkdir()
    for format in FORMATS:
        path = folder / f"a (b) – ｃ'ü\".{format}"
        write_audio(path, noise(1, 1_000), 48_000)
        assert read_audio(path)[0].shape == (1, 1_000)
    long = folder / ("n" * (255 - 4) + ".wav")
    write_audio(long, noise(1, 10), 48_000)
    assert read_audio(long)[1] == 48_000


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_outputs_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_audio(tmp_path / "x.wav", noise(1, 10), 48_000)
    assert (tmp_path / "x.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_any_exception_leaves_the_folder_as_it_was(tmp_path: Path, format: str, error: type[BaseException]) -> None:
    path = tmp_path / f"x.{format}"
    path.write_bytes(b"before")
    with pytest.raises(error), AudioWriter(path, 48_000, 1, overwrite=True) as writer:  # noqa: PT012
        writer.write(noise(1, 10_000))
        assert len(list(tmp_path.iterdir())) == 2
        raise error
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("format", FORMATS)
def test_an_interrupt_at_any_moment_ends_the_writing(tmp_path: Path, format: str) -> None:
    # Also within the calls that libsndfile makes back into Python, where an exception would be lost.
    x = noise(2, 500)
    for delay in (0.001, 0.004, 0.01, 0.02):
        ctrl_c = threading.Timer(delay, _thread.interrupt_main)
        with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / f"x.{format}", 48_000, 2) as writer:  # noqa: PT012
            ctrl_c.start()
            while writer.samples < 10_000_000:
                writer.write(x)
        ctrl_c.join()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_forgotten_writer_leaves_nothing(tmp_path: Path, format: str) -> None:
    writer = AudioWriter(tmp_path / f"x.{format}", 48_000, 1)
    writer.write(noise(1, 10_000))
    del writer
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_never_written(tmp_path: Path, format: str, bad: float) -> None:
    x = noise(2, 1_000)
    x[1, 700] = bad
    writer = AudioWriter(tmp_path / f"x.{format}", 48_000, 2)
    writer.write(noise(2, 1_000))
    with pytest.raises(InputError, match=r"at sample 1700 \(0\.035 s\), channel 2"):
        writer.write(x)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_cannot_be_overlooked(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "x.wav", 48_000, 1) as writer:
        writer.write(noise(1, 10))
        with pytest.raises(InputError):
            writer.write(np.array([[np.nan]], np.float32))
        with pytest.raises(AudioError, match="closed already"):
            writer.write(noise(1, 10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, format: str) -> None:
    # The limit on file sizes fails like a full disk, from within the encoder's own writes.
    code = f"""
import resource, numpy as np
from audiosep.audio import AudioWriter
from audiosep.errors import AudioError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
x = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16_384)).astype(np.float32)
try:
    with AudioWriter({str(tmp_path / f"x.{format}")!r}, 48_000, 2) as writer:
        for _ in range(20):
            writer.write(x)
except AudioError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written: [Errno 27] File too large: free space" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    write_audio(path, noise(1, 10), 48_000)
    with pytest.raises(AudioError, match="exists already"):
        write_audio(path, noise(1, 20), 48_000)
    assert probe(path).samples == 10
    write_audio(path, noise(1, 20), 48_000, overwrite=True)
    assert probe(path).samples == 20


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with pytest.raises(AudioError, match="exists already"), AudioWriter(path, 48_000, 1) as writer:  # noqa: PT012
        writer.write(noise(1, 10))
        path.write_bytes(b"other")
    assert path.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [path]


def test_standard_output_gets_a_whole_wav(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from audiosep.audio import AudioWriter, write_audio\n"
        "write_audio('-', np.full((2, 1000), 0.25, np.float32), 44100)\n"
        "try:\n"
        "    with AudioWriter('-', 44100, 2) as w:\n"
        "        w.write(np.zeros((2, 9), np.float32)); raise KeyError\n"
        "except KeyError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    (tmp_path / "x.wav").write_bytes(done.stdout)
    back, rate = read_audio(tmp_path / "x.wav")
    np.testing.assert_array_equal(back, np.full((2, 1_000), 0.25))
    assert rate == 44_100


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options", "error", "words"),
    [
        ("x.xyz", 44_100, 1, {}, AudioError, "'.xyz' names none of the formats wav, flac, ogg, opus, mp3, m4a"),
        ("x", 44_100, 1, {}, AudioError, "'' names none of the formats"),
        ("x.wav", 44_100, 1, {"format": "aiff"}, AudioError, "unknown audio format 'aiff'"),
        ("x.wav", 44_100, 1, {"depth": "32"}, InputError, "must be one of 16, 24, float"),
        ("x.wav", 3_000, 1, {}, InputError, "4000 to 192000 Hz"),
        ("x.wav", 44_100, 0, {}, InputError, "1 to 8 channels, got 0"),
        ("x.wav", 44_100, 9, {}, InputError, "1 to 8 channels, got 9"),
        ("x.mp3", 44_100, 3, {}, AudioError, "mp3 has at most 2 channels, got 3"),
        ("x.m4a", 44_100, 7, {}, AudioError, "m4a has at most 6 channels, got 7"),
        (
            "x.opus",
            48_000,
            6,
            {"speakers": 0x707},
            AudioError,
            "opus has no speaker layout 6.0, .* only 5.1: write wav",
        ),
        ("x.wav", 44_100, 2, {"bitrate": 128}, InputError, "wav keeps every sample and has no bit rate"),
        ("x.mp3", 44_100, 2, {"bitrate": 500}, AudioError, "mp3 has 32 to 320 kbit/s for 2 channels of 44100 Hz"),
        ("x.flac", 100_001, 2, {}, AudioError, "only multiples of 10"),
        ("no/such/x.wav", 44_100, 1, {}, AudioError, "does not exist: create it first"),
        ("n" * 300 + ".wav", 44_100, 1, {}, AudioError, "cannot be written"),
        ("a\0b.wav", 44_100, 1, {}, AudioError, "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path, name: str, rate: int, channels: int, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        AudioWriter(tmp_path / name, rate, channels, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(AudioError, match="a folder or a device"):
        AudioWriter(tmp_path / "x.wav", 44_100, 1, overwrite=True)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_a_device_is_no_target() -> None:
    with pytest.raises(AudioError, match="a folder or a device"):
        AudioWriter("/dev/null", 44_100, 1, format="wav", overwrite=True)
    assert not Path("/dev/null").is_file()


def test_empty_files_are_not_written(tmp_path: Path) -> None:
    for format in FORMATS:
        with (
            pytest.raises(InputError, match="no samples were written"),
            AudioWriter(tmp_path / f"x.{format}", 48_000, 1) as writer,
        ):
            writer.write(noise(1, 0))
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a block"), AudioWriter(tmp_path / "x.wav", 48_000, 2) as writer:
        writer.write(noise(1, 10))
    assert list(tmp_path.iterdir()) == []


def test_extensions() -> None:
    assert [format_of(f"A.{e}") for e in ("WAV", "wave", "Flac", "oga", "opus", "mp3")] == [
        "wav",
        "wav",
        "flac",
        "ogg",
        "opus",
        "mp3",
    ]
    assert format_of("-") == "wav"


def test_reader_and_writer_together_need_no_memory_of_the_whole(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "x.wav", 48_000, 1) as writer:
        for _ in range(50):
            writer.write(noise(1, 1_000))
    with AudioReader(tmp_path / "x.wav", block=512) as reader, AudioWriter(tmp_path / "y.flac", 48_000, 1) as copy:
        for block in reader:
            assert block.shape[1] <= 512
            copy.write(block)
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav")[0], read_audio(tmp_path / "y.flac")[0])
