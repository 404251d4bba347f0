"""Reading: the very samples, whichever decoder reads them, from files, videos and pipes; and clear refusals."""

import io
import logging
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen import aiff, apev2, flac, id3, mp4, wave
from odd_files import Sound, container, died, renumbered

from audiosep import Query
from audiosep.audio import AudioReader, probe, read_audio, spool, tags, write_audio
from audiosep.audio.info import AudioInfo, ffmpeg_depth
from audiosep.audio.mpeg import mpeg_length
from audiosep.audio.probing import BACKENDS
from audiosep.audio.sndfile import SoundFileSource
from audiosep.audio.source import Unreadable
from audiosep.audio.speakers import FLAC_SPEAKERS
from audiosep.errors import AudioError, InputError

RATE = 44_100
AUDIO = Path(__file__).parents[1] / "examples" / "audio"
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg on PATH")


def noise(channels: int, samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def tones(channels: int, samples: int) -> np.ndarray:
    """What lossy encoders keep."""
    seconds = np.arange(samples) / RATE
    return np.stack([0.4 * np.sin(2 * np.pi * 300 * (c + 1) * seconds) for c in range(channels)]).astype(np.float32)


def decibels(x: np.ndarray, decoded: np.ndarray) -> float:
    return 10 * np.log10(np.sum(x**2) / np.sum((x - decoded) ** 2))


def count(path: Path) -> int:
    with AudioReader(path) as reader:
        return sum(block.shape[1] for block in reader)


def only(monkeypatch: pytest.MonkeyPatch, *backends: str) -> None:
    """As on a machine without the other decoders."""
    for name in set(BACKENDS) - set(backends):
        monkeypatch.setitem(BACKENDS, name, missing)


def missing(path: Path, track: object = None) -> None:
    raise Unreadable("not there")


def av_file(
    path: Path, codec: str, x: np.ndarray, rate: int = RATE, streams: int = 1, video: bool = False, **options: str
) -> None:
    """Encode with PyAV what libsndfile cannot; stream i holds x / (i + 1)."""
    av = pytest.importorskip("av")
    layout = "stereo" if x.shape[0] == 2 else "mono"
    with av.open(str(path), "w", options=options) as container:
        container.metadata["title"] = "Zoë"
        if video:
            picture = container.add_stream("mpeg4", rate=5)
            picture.width, picture.height = 64, 48
        outputs = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        if video:
            for packet in picture.encode(av.VideoFrame(64, 48, "yuv420p")):
                container.mux(packet)
        for i, stream in enumerate(outputs):
            for start in range(0, x.shape[1], 1_024):
                data = np.ascontiguousarray(x[:, start : start + 1_024] / (i + 1))
                frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def without_xing(source: Path, target: Path) -> None:
    """An mp3 without its first frame, where the header with the length is."""
    data = source.read_bytes()
    target.write_bytes(data[data.index(data[:2], 4) :])


def vbr_mp3(path: Path, samples: int = 20 * RATE) -> None:
    """One second of noise, then silence: libsndfile judges the length of the file by the noise."""
    x = np.zeros((samples, 1), np.float32)
    x[:RATE] = noise(1, RATE).T
    soundfile.write(path, x, RATE, compression_level=0.0, bitrate_mode="VARIABLE")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.integers(1, 40_000), block=st.integers(1, 50_000), channels=st.integers(1, 8))
def test_blocks_are_of_one_size_and_the_very_samples(tmp_path: Path, samples: int, block: int, channels: int) -> None:
    samples = min(samples, 300 * block)
    x = noise(channels, samples)
    write_audio(tmp_path / "x.wav", x, 48_000, depth="float", overwrite=True)
    with AudioReader(tmp_path / "x.wav", block) as reader:
        blocks = list(reader)
        assert reader.samples == reader.info.samples == samples
    assert [b.shape[1] for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert 0 < blocks[-1].shape[1] <= block
    assert all(b.dtype == np.float32 for b in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), x)


@pytest.mark.parametrize(
    ("subtype", "extension", "depth"),
    [
        ("PCM_U8", "wav", "16"),
        ("PCM_16", "wav", "16"),
        ("PCM_24", "wav", "24"),
        ("PCM_32", "wav", "float"),
        ("FLOAT", "wav", "float"),
        ("DOUBLE", "wav", "float"),
        ("ULAW", "wav", "16"),
        ("IMA_ADPCM", "wav", "16"),
        ("PCM_S8", "flac", "16"),
        ("PCM_24", "aiff", "24"),
        ("VORBIS", "ogg", "16"),
        ("ALAC_24", "caf", "24"),
    ],
)
def test_outputs_can_follow_the_depth(tmp_path: Path, subtype: str, extension: str, depth: str) -> None:
    path = tmp_path / f"x.{extension}"
    soundfile.write(path, noise(1, 3_000).T, RATE, subtype=subtype)
    info = probe(path)
    assert (info.depth, info.format, info.encoding, info.backend) == (depth, extension, subtype, "soundfile")
    assert (info.sample_rate, info.channels, info.path) == (RATE, 1, path)
    assert info.seconds == info.samples / RATE


def test_depths_that_ffmpeg_reports() -> None:
    reports = [("aac", "fltp"), ("flac", "s16"), ("alac", "s32p"), ("pcm_s24le", "s32"), ("pcm_s32le", "s32")]
    assert [ffmpeg_depth(*report) for report in reports] == ["16", "16", "24", "24", "float"]
    assert ffmpeg_depth("pcm_f32le", "flt") == "float"


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1, 1_000, 50_001])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_is_gapless(tmp_path: Path, rate: int, samples: int, mode: str) -> None:
    path = tmp_path / "x.mp3"
    soundfile.write(path, noise(2, samples).T, rate, bitrate_mode=mode, compression_level=0.2)
    assert probe(path).samples == samples == count(path)


@needs_ffmpeg
@pytest.mark.parametrize("options", [[], ["-write_xing", "0"], ["-q:a", "4"], ["-b:a", "64k", "-id3v2_version", "0"]])
def test_mp3_is_as_long_as_ffmpeg_says(tmp_path: Path, options: list[str]) -> None:
    write_audio(tmp_path / "x.wav", noise(1, 100_001), RATE)
    convert = ["ffmpeg", "-v", "error", "-i"]
    subprocess.run([*convert, tmp_path / "x.wav", *options, tmp_path / "x.mp3"], check=True)
    subprocess.run([*convert, tmp_path / "x.mp3", tmp_path / "back.wav"], check=True)
    assert count(tmp_path / "x.mp3") == probe(tmp_path / "back.wav").samples


@pytest.mark.parametrize(("codec", "rate"), [("mp2", 44_100), ("mp2", 22_050), ("mp3", 22_050)])
def test_frames_of_every_layer_are_counted(tmp_path: Path, codec: str, rate: int) -> None:
    path = tmp_path / f"x.{codec}"
    av_file(path, codec, noise(1, rate), rate)
    length = mpeg_length(path)
    frames = 576 if (codec, rate) == ("mp3", 22_050) else 1_152  # ISO/IEC 11172-3 and 13818-3
    assert rate <= length.samples <= rate + 3 * 1_152 + 576
    assert length.samples % frames == 0
    assert not length.cut_at(count(path))


def test_mp3_without_a_length_is_not_cut(tmp_path: Path) -> None:
    pytest.importorskip("av")
    vbr_mp3(tmp_path / "vbr.mp3")
    without_xing(tmp_path / "vbr.mp3", tmp_path / "bare.mp3")
    assert soundfile.info(tmp_path / "bare.mp3").frames < 5 * RATE
    info = probe(tmp_path / "bare.mp3")
    assert (info.backend, info.samples, info.format) == ("PyAV", None, "mp3")
    # Without the header the encoder's delay and padding, under 3 frames, count as sound.
    assert 20 * RATE <= count(tmp_path / "bare.mp3") <= 20 * RATE + 3 * 1_152


@needs_ffmpeg
def test_comments_are_read_where_ffmpeg_writes_them(tmp_path: Path) -> None:
    for name in ("a.flac", "a.ogg", "a.opus", "a.mp3", "a.wav", "a.caf"):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "sine=d=1:r=48000",
            "-ac",
            "2",
            "-metadata",
            "comment=Łódź",
            "-metadata",
            "track=3/12",
        ]
        subprocess.run([*command, str(tmp_path / name)], check=True)
        tags = probe(tmp_path / name).tags
        assert (tags["comment"], tags["track"]) == ("Łódź", "3/12"), name


def test_damaged_comments_are_left_out_and_the_sound_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(path: Path) -> None:
        raise IndexError("list index out of range")

    for name in ("a.flac", "a.ogg", "a.opus"):
        write_audio(tmp_path / name, noise(3, 5_000), 48_000, tags={"title": "Zoë", "composer": "Łucja"})
    monkeypatch.setattr(tags, "File", damaged)
    for name in ("a.flac", "a.ogg", "a.opus"):
        assert dict(probe(tmp_path / name).tags) == {"title": "Zoë"}
        assert count(tmp_path / name) == 5_000


def test_all_that_comments_of_a_name_say_is_joined(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", noise(3, 5_000), RATE)
    file = flac.FLAC(tmp_path / "a.flac")
    file.update({"BPM": ["", "120"], "ALBUMARTIST": ["A", "B", "A"], "ARTIST": ["C", "D"]})
    file[FLAC_SPEAKERS] = "0xFFFFFFFFFF"
    file.save()
    info = probe(tmp_path / "a.flac")
    assert dict(info.tags) == {"bpm": "120", "album_artist": "A/B", "artist": "C/D"}
    assert info.speakers < 2**32


@needs_ffmpeg
def test_what_players_write_into_mp4_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.m4a", noise(1, 5_000), RATE)
    file = mp4.MP4(tmp_path / "x.m4a")
    file.update({"tmpo": [174], "aART": ["Zoë"], "\xa9wrt": ["Łucja"], "disk": [(1, 2)]})
    file.save()
    tags = {"bpm": "174", "album_artist": "Zoë", "composer": "Łucja", "disc": "1/2"}
    for backend in ("PyAV", "ffmpeg"):
        with monkeypatch.context() as here:
            only(here, backend)
            assert dict(probe(tmp_path / "x.m4a").tags) == tags, backend


def test_tags_of_mp3_by_every_version_of_id3(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    write_audio(path, noise(1, 5_000), RATE)
    frames = id3.ID3()
    frames.add(id3.TIT2(encoding=3, text="Zoë"))
    frames.add(id3.TPE1(encoding=3, text=["A", "B"]))
    frames.add(id3.TDRC(encoding=3, text="2024-05-01"))
    frames.add(id3.TCON(encoding=3, text="17"))
    frames.add(id3.COMM(encoding=3, lang="eng", desc="data of a program", text="00 1F"))
    frames.add(id3.COMM(encoding=3, lang="eng", desc="", text="live"))
    tags = {"title": "Zoë", "artist": "A/B", "date": "2024-05-01", "genre": "Rock", "comment": "live"}
    frames.save(path, v2_version=4)
    assert dict(probe(path).tags) == tags
    frames.update_to_v23()
    frames.save(path, v2_version=3)
    assert dict(probe(path).tags) == tags
    id3.delete(path)
    fields = (b"TAG", "Zoë".encode("latin-1"), b"A", b"", b"2024", b"live", b"\x11")
    with path.open("ab") as file:
        file.write(struct.pack("3s30s30s30s4s30ss", *fields))
    assert dict(probe(path).tags) == {**tags, "artist": "A", "date": "2024"}


@pytest.mark.parametrize(("name", "kind"), [("x.aiff", aiff.AIFF), ("x.wav", wave.WAVE)])
def test_id3_in_chunks_is_read(tmp_path: Path, name: str, kind: type[aiff.AIFF] | type[wave.WAVE]) -> None:
    with soundfile.SoundFile(tmp_path / name, "w", RATE, 1) as sound:
        sound.title, sound.comment = "old", "kept"
        sound.write(noise(1, 5_000)[0])
    file = kind(tmp_path / name)
    file.add_tags()
    for frame in (id3.TIT2(text="Zoë"), id3.TPE1(text="Łucja"), id3.TRCK(text="3/12"), id3.TBPM(text="120")):
        file.tags.add(frame)
    file.save()
    found = dict(probe(tmp_path / name).tags)
    assert found == {"title": "Zoë", "comment": "kept", "artist": "Łucja", "track": "3/12", "bpm": "120"}


@pytest.mark.parametrize("behind", [False, True])
def test_tags_of_caf_by_the_names_of_apple(tmp_path: Path, behind: bool) -> None:
    said = {"title": "Zoë", "album_artist": "Łucja", "composer": "夜", "track number": "3/12", "comments": "live"}
    said |= {"year": "1999", "tempo": "120", "key signature": "F#m", "disc": "2", "weather": "rain"}
    soundfile.write(tmp_path / "x.caf", noise(1, 5_000).T, RATE, "PCM_16")
    octets = (tmp_path / "x.caf").read_bytes()
    body = struct.pack(">I", len(said)) + "".join(f"{name}\0{text}\0" for name, text in said.items()).encode()
    start = len(octets) if behind else octets.index(b"data")
    (tmp_path / "x.caf").write_bytes(octets[:start] + struct.pack(">4sq", b"info", len(body)) + body + octets[start:])
    tags = {"title": "Zoë", "album_artist": "Łucja", "composer": "夜", "track": "3/12", "comment": "live"}
    assert dict(probe(tmp_path / "x.caf").tags) == tags | {"date": "1999", "bpm": "120", "key": "F#m", "disc": "2"}
    assert count(tmp_path / "x.caf") == 5_000


LONG = """
import sys
from audiosep.audio import probe
from audiosep.inference.memory import peak_memory
before = peak_memory()
assert probe(sys.argv[1]).seconds > 1000
print(peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_a_long_mp3_is_measured_without_holding_it_in_memory(tmp_path: Path) -> None:
    vbr_mp3(tmp_path / "one.mp3")
    one = (tmp_path / "one.mp3").read_bytes()
    times = 80_000_000 // len(one)
    (tmp_path / "many.mp3").write_bytes(one * times)
    done = subprocess.run(
        [sys.executable, "-c", LONG, tmp_path / "many.mp3"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 50e6


def test_mp3_without_a_length_is_refused_where_it_would_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vbr_mp3(tmp_path / "vbr.mp3")
    without_xing(tmp_path / "vbr.mp3", tmp_path / "bare.mp3")
    only(monkeypatch, "soundfile")
    assert count(tmp_path / "vbr.mp3") == 20 * RATE
    with pytest.raises(AudioError, match=r"it would read only \d+\.\d\d of about 20\.\d\d s"):
        probe(tmp_path / "bare.mp3")


def test_mp3_of_constant_rate_needs_no_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rate in (44_100, 48_000):
        soundfile.write(tmp_path / "x.mp3", noise(2, 3 * rate).T, rate, bitrate_mode="CONSTANT", compression_level=0.5)
        without_xing(tmp_path / "x.mp3", tmp_path / "bare.mp3")
        only(monkeypatch, "soundfile")
        info = probe(tmp_path / "bare.mp3")
        assert info.samples is None
        assert info.seconds == pytest.approx(3, abs=0.1)
        assert 3 * rate <= count(tmp_path / "bare.mp3") <= 3 * rate + 3 * 1_152


def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    write_audio(path, np.full((1, 3 * 8000), 0.25, np.float32), 8000)
    with AudioReader(path, block=8000) as reader:
        first = next(reader)
        path.unlink()
        assert sum(block.shape[1] for block in (first, *reader)) == 3 * 8000


def test_further_samples_of_a_wav_file_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = noise(1, 8_000), noise(1, 16_000)
    for name, x in (("first", first), ("second", second)):
        soundfile.write(tmp_path / f"{name}.wav", x[0], RATE)
    octets, further = ((tmp_path / f"{name}.wav").read_bytes() for name in ("first", "second"))
    octets += further[further.index(b"data") :]
    two = tmp_path / "two.wav"
    two.write_bytes(octets[:4] + struct.pack("<I", len(octets) - 8) + octets[8:])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(read_audio(two)[0], first, atol=2**-15)
    assert "two.wav: 32008 bytes behind its end, at 0.18 s, are not read" in caplog.text


def test_joined_files_are_read_to_the_end(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for extension, tolerance in (("mp3", 5 * 1_152), ("ogg", 0)):
        parts = b""
        for i, samples in enumerate((30_000, 60_000)):
            part = tmp_path / f"{i}.{extension}"
            write_audio(part, noise(1, samples), RATE)
            data = bytearray(part.read_bytes())
            if extension == "ogg":
                data = renumbered(data, i)
            parts += data
        joined = tmp_path / f"joined.{extension}"
        joined.write_bytes(parts)
        assert probe(joined).backend == ("PyAV" if extension == "mp3" else "soundfile")
        assert count(joined) == pytest.approx(90_000, abs=tolerance)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.opus", "x.m4a"])
@pytest.mark.parametrize(("start", "seconds"), [(0.0, 0.25), (0.3, 0.4), (0.3, None), (0.9, 2.0)])
def test_a_part_is_what_the_whole_file_has_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, start: float, seconds: float | None
) -> None:
    if name == "x.m4a":
        av_file(tmp_path / name, "aac", tones(2, 48_000), 48_000)
    else:
        write_audio(tmp_path / name, tones(2, 48_000), 48_000)
    whole, rate = read_audio(tmp_path / name)
    first = round(start * rate)
    expected = whole[:, first:] if seconds is None else whole[:, first : first + round(seconds * rate)]
    part = read_audio(tmp_path / name, start=start, seconds=seconds)[0]
    np.testing.assert_allclose(part, expected, atol=1e-6)
    with AudioReader(tmp_path / name, 1_000, start=start, seconds=seconds) as reader:
        blocks = list(reader)
        assert reader.samples == expected.shape[1]
    assert {block.shape[1] for block in blocks[:-1]} <= {1_000}
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), part)
    assert not caplog.records


MPEG = {
    "mono of variable rate": ("mp3", ["-ac", "1", "-q:a", "6"]),
    "mono at 48 kHz": ("mp3", ["-ac", "1", "-q:a", "4", "-ar", "48000"]),
    "stereo of 32 kbit/s": ("mp3", ["-b:a", "32k"]),
    "stereo of 8 kbit/s": ("mp3", ["-ar", "24000", "-b:a", "8k"]),
    "mono of 24 kbit/s": ("mp3", ["-ac", "1", "-ar", "22050", "-b:a", "24k"]),
    "stereo of 320 kbit/s": ("mp3", ["-b:a", "320k"]),
    "mp3 in wav": ("wav", ["-c:a", "libmp3lame", "-b:a", "32k"]),
    "layer 2": ("mp2", ["-b:a", "64k"]),
}


@needs_ffmpeg
@pytest.mark.parametrize("kind", MPEG)
def test_mpeg_audio_is_what_ffmpeg_decodes_wherever_reading_starts(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    extension, options = MPEG[kind]
    path, decoded = tmp_path / f"x.{extension}", tmp_path / "x.f32"
    ffmpeg = ["ffmpeg", "-v", "error"]
    subprocess.run([*ffmpeg, "-stream_loop", "2", "-i", AUDIO / "reading.flac", *options, path], check=True)
    subprocess.run([*ffmpeg, "-i", path, "-f", "f32le", decoded], check=True)
    whole, rate = read_audio(path)
    assert probe(path).backend == "soundfile"
    expected = np.fromfile(decoded, np.float32).reshape(-1, len(whole)).T
    np.testing.assert_allclose(whole, expected, atol=1e-4 if kind == "layer 2" else 5e-6)
    with AudioReader(path, 1_000) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader), axis=1), whole)
    for first in np.linspace(0, whole.shape[1] - rate, 50).astype(int):
        part = read_audio(path, start=first / rate, seconds=0.2)[0]
        np.testing.assert_allclose(part, whole[:, first : first + part.shape[1]], atol=1e-6)
    assert not capfd.readouterr().err  # of mpg123


def test_tags_behind_an_mp3_are_no_matter_for_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    write_audio(path, tones(2, 48_000), 48_000)
    whole = read_audio(path)[0]
    comments = apev2.APEv2()
    comments["Cover Art (Front)"] = apev2.APEValue(bytes(range(256)) * 400, apev2.BINARY)
    comments.save(path)
    np.testing.assert_array_equal(read_audio(path)[0], whole)
    assert not capfd.readouterr().err  # of mpg123


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_mulaw", "pcm_s24le"])
def test_w64_of_any_encoding_is_read_to_its_end(tmp_path: Path, codec: str) -> None:
    soundfile.write(tmp_path / "x.wav", tones(6, 4_800).T, 48_000, subtype="FLOAT")
    path = tmp_path / "x.w64"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", "-c:a", codec, path], check=True)
    path.write_bytes(path.read_bytes() + b"TAG".ljust(128))
    x, _ = read_audio(path)
    assert x.shape == (6, 4_800)
    np.testing.assert_allclose(x, tones(6, 4_800), atol=0.03 if codec == "pcm_mulaw" else 1e-6)


@pytest.mark.parametrize("subtype", ["DWVW_16", "DWVW_24"])
def test_dwvw_is_read(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "x.aiff", tones(1, 40_000).T, 48_000, subtype=subtype)
    whole = read_audio(tmp_path / "x.aiff")[0]
    np.testing.assert_allclose(whole, tones(1, 40_000), atol=1e-4)
    np.testing.assert_array_equal(read_audio(tmp_path / "x.aiff", start=0.5)[0], whole[:, 24_000:])


@pytest.mark.parametrize("subtype", ["ALAC_16", "ALAC_24"])
@pytest.mark.parametrize("channels", [3, 6])
def test_alac_of_several_channels_in_caf_is_read_to_its_end(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "x.caf"
    soundfile.write(path, tones(channels, 40_000).T, 48_000, subtype=subtype)  # the last packet is not whole
    assert read_audio(path)[0].shape == (channels, 40_000)
    # libsndfile does not know the order of the channels in a packet, which is another one.
    there = soundfile.read(path)[0].T
    assert {channel.tobytes() for channel in read_audio(path)[0]} == {x.astype(np.float32).tobytes() for x in there}


@needs_ffmpeg
@pytest.mark.parametrize("decoder", ["PyAV", "ffmpeg"])
@pytest.mark.parametrize(
    ("name", "codec"), [("x.avi", "adpcm_ms"), ("x.avi", "adpcm_ima_wav"), ("x.avi", "wmav2"), ("x.wav", "flac")]
)
def test_a_length_that_ffmpeg_guesses_is_not_missed(
    tmp_path: Path, name: str, codec: str, decoder: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    write_audio(tmp_path / "in.wav", noise(2, 96_000), 48_000)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "in.wav", "-c:a", codec, tmp_path / name]
    subprocess.run(command, check=True)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data.replace(b"fact", b"void"))  # as other programs write wav, and pipes
    only(monkeypatch, decoder)
    assert read_audio(tmp_path / name)[0].shape[1] == pytest.approx(96_000, abs=4_096)
    assert caplog.text == ""


@needs_ffmpeg
@pytest.mark.parametrize("decoder", ["PyAV", "ffmpeg"])
def test_time_stamps_of_avi_are_no_gaps(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "x.wav", tones(2, 96_000), 48_000)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", "-c:a", "eac3", tmp_path / "x.avi"]
    subprocess.run(command, check=True)
    monkeypatch.setattr("audiosep.audio.probing.BACKENDS", {decoder: BACKENDS[decoder]})
    assert read_audio(tmp_path / "x.avi")[0].shape[1] == pytest.approx(96_000, abs=1_536)


def test_what_is_opened_is_described_as_its_file_is(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", np.zeros((2, 4800), np.float32), 48_000)
    by_path = probe(tmp_path / "a.flac")
    data = (tmp_path / "a.flac").read_bytes()
    with (tmp_path / "a.flac").open("rb") as file:
        assert probe(file) == by_path
    assert probe(io.BytesIO(data)) == probe(data) == replace(by_path, path=Path("-"))
    with pytest.raises(AudioError, match="the bytes object cannot be read as audio"):
        probe(b"no recording")


def test_a_part_of_nothing_and_of_damaged_audio_is_refused_by_name(tmp_path: Path) -> None:
    x = noise(1, RATE)
    x[0, RATE // 2] = np.nan
    soundfile.write(tmp_path / "x.wav", x[0], RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "x.wav", start=0.6)[0].shape[1] == RATE - round(0.6 * RATE)
    with pytest.raises(InputError, match=r"nan at sample 22050 \(0.500 s\)"):
        read_audio(tmp_path / "x.wav", start=0.4, seconds=0.2)
    with pytest.raises(InputError, match=r"clip 7 holds no samples from 3\.00 s on.*: start earlier"):
        read_audio(tmp_path / "x.wav", start=3.0, name="clip 7")


@pytest.mark.parametrize("backend", ["PyAV", pytest.param("ffmpeg", marks=needs_ffmpeg)])
@pytest.mark.parametrize(
    ("picture", "tags", "title"),
    [(1, {"title": "Film"}, "Film"), (1, {}, None), (0, {"title": "Album"}, "Album"), (0, {}, "Commentary")],
)
def test_the_title_of_a_film_is_not_that_of_its_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, picture: int, tags: dict[str, str], title: str | None
) -> None:
    pytest.importorskip("av")
    tracks = [Sound(tones(1, RATE), name="Commentary")]
    film = container(tmp_path / "x.mkv", "flac", tracks, picture=picture, tags=tags)
    only(monkeypatch, backend)
    info = probe(film)
    assert (info.backend, info.tags.get("title"), info.heard.name) == (backend, title, "Commentary")


@pytest.mark.parametrize(
    ("name", "codec"), [("x.m4a", "aac"), ("x.mkv", "flac"), ("x.mov", "pcm_s24le"), ("x.m4a", "alac")]
)
def test_pyav_reads_what_soundfile_does_not(tmp_path: Path, name: str, codec: str) -> None:
    x = tones(2, 30_000)
    av_file(tmp_path / name, codec, x)
    info = probe(tmp_path / name)
    assert (info.backend, info.encoding, info.sample_rate, info.channels) == ("PyAV", codec, RATE, 2)
    assert info.seconds == pytest.approx(30_000 / RATE, abs=0.1)
    assert info.tags["title"] == "Zoë"
    back, rate = read_audio(tmp_path / name)
    assert rate == RATE
    assert back.shape[1] == 30_000
    assert decibels(x, back) > (15 if codec == "aac" else 80)


def test_blocks_of_voc_have_headers_that_are_no_sound(tmp_path: Path) -> None:
    x = noise(2, 20_000)
    av_file(tmp_path / "x.voc", "pcm_s16le", x)
    np.testing.assert_allclose(read_audio(tmp_path / "x.voc")[0], x, atol=1e-4)


def test_flac_that_states_too_few_samples_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.flac", noise(2, 30_000), RATE)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    struct.pack_into(">I", data, 22, 1_000)  # RFC 9639, 8.2
    (tmp_path / "x.flac").write_bytes(data)
    assert count(tmp_path / "x.flac") == 30_000
    only(monkeypatch, "soundfile")
    with pytest.raises(AudioError, match=r"only 0\.02 of more than 0\.\d\d s"):
        probe(tmp_path / "x.flac")


def test_the_first_audio_stream_of_a_video(tmp_path: Path) -> None:
    x = tones(2, 30_000)
    av_file(tmp_path / "x.mp4", "aac", x, streams=2, video=True)
    with AudioReader(tmp_path / "x.mp4", block=1_000) as reader:
        back = np.concatenate(list(reader), axis=1)[:, :30_000]
        assert reader.info.format == "mp4"
    # The second stream is half as loud.
    assert decibels(x, back) > 15


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), [("x.mp4", "aac"), ("x y'z %d.mkv", "flac"), ("-x.mov", "pcm_s24le")])
def test_ffmpeg_reads_the_same_as_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str) -> None:
    path = tmp_path / name
    av_file(path, codec, noise(2, 30_000), video=True)
    by_pyav, facts = read_audio(path)[0], probe(path)
    only(monkeypatch, "ffmpeg")
    monkeypatch.chdir(tmp_path)
    by_ffmpeg = read_audio(name)[0]
    info = probe(name)
    assert 0 <= by_ffmpeg.shape[1] - by_pyav.shape[1] <= RATE // 1000
    np.testing.assert_allclose(by_ffmpeg[:, : by_pyav.shape[1]], by_pyav, atol=1e-4)
    assert info.backend == "ffmpeg"
    for field in ("sample_rate", "channels", "depth", "encoding", "format", "tags"):
        assert getattr(info, field) == getattr(facts, field), field
    assert info.seconds == pytest.approx(facts.seconds, abs=0.1)


@needs_ffmpeg
def test_ffmpeg_reads_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(3, 20_000)
    write_audio(tmp_path / "x.wav", x, 96_000, depth="float")
    only(monkeypatch, "ffmpeg")
    monkeypatch.setattr("audiosep.audio.ffmpeg._ffprobe", lambda path, *options: iter(()))
    back, rate = read_audio(tmp_path / "x.wav")
    assert rate == 96_000
    np.testing.assert_array_equal(back, x)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"ffmpeg: .*Invalid data"):
        probe(tmp_path / "text.wav")


def test_names_with_spaces_and_scripts(tmp_path: Path) -> None:
    path = tmp_path / "a (b) – ｃ'ü\" %20 #1?.wav"
    write_audio(path, noise(1, 100), RATE)
    assert count(path) == 100
    av_file(tmp_path / "é %03d: –.m4a", "aac", noise(1, 5_000))
    assert probe(tmp_path / "é %03d: –.m4a").backend == "PyAV"


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "ogg"])
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str) -> None:
    write_audio(tmp_path / f"x.{extension}", noise(2, 5_000), RATE)
    stdin = io.TextIOWrapper(io.BytesIO((tmp_path / f"x.{extension}").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    with AudioReader("-") as reader:
        assert reader.info.path == Path("-")
        assert reader.info.format == extension
        spool = reader._path
        assert sum(block.shape[1] for block in reader) == 5_000
    assert not spool.parent.exists()


def test_endless_wav_header_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "x.wav", noise(1, 5_000), RATE)
    data = bytearray((tmp_path / "x.wav").read_bytes())
    # What programs write that cannot go back to fill in the size.
    position = data.index(b"data") + 4
    data[position : position + 4] = data[4:8] = b"\xff" * 4
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(data))))
    assert read_audio("-")[0].shape == (1, 5_000)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files with holes may take their space")
@pytest.mark.parametrize("stated", [pytest.param(0, marks=pytest.mark.slow), 2**32 - 1])
def test_a_wav_out_of_a_pipe_is_read_beyond_4_gib(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stated: int
) -> None:
    pytest.importorskip("av")
    x = noise(8, 192_000)
    write_audio(tmp_path / "x.wav", x, 192_000, depth="float")
    data = (tmp_path / "x.wav").read_bytes()
    start = data.index(b"data") + 8
    seconds = 2**32 // (192_000 * 8 * 4) + 1
    with (tmp_path / "long.wav").open("wb") as file:  # a hole, which is silence, before the last second
        file.write(data[:4] + stated.to_bytes(4, "little") + data[8 : start - 4] + stated.to_bytes(4, "little"))
        file.seek(start + seconds * 192_000 * 8 * 4)
        file.write(x.T.tobytes())
    with caplog.at_level(logging.WARNING):
        back, _ = read_audio(tmp_path / "long.wav", start=seconds)
    np.testing.assert_array_equal(back, x)
    assert "ends early" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@needs_ffmpeg
@pytest.mark.parametrize(
    ("format", "codec"),
    [("aiff", "pcm_s16be"), ("w64", "pcm_s16le"), ("caf", "pcm_s16le"), ("avi", "mp3"), ("nut", "flac")],
)
def test_what_was_written_into_a_pipe_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str, codec: str
) -> None:
    pytest.importorskip("av")
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1:r=44100", "-c:a", codec, "-f", format, "-"]
    path = tmp_path / f"x.{format}"
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    assert count(path) == pytest.approx(RATE, abs=2 * 1_152)
    assert not caplog.records or "read to the end of the file" in caplog.text


def test_named_pipe(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", noise(1, 5_000), RATE)
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "x.wav").read_bytes()))
    feeder.start()
    np.testing.assert_array_equal(read_audio(tmp_path / "pipe")[0], read_audio(tmp_path / "x.wav")[0])
    feeder.join()


@pytest.mark.parametrize("extension", ["wav", "mp3", "ogg", "flac"])
def test_a_file_that_ends_early_is_read_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, extension: str
) -> None:
    if extension == "flac":
        pytest.importorskip("av")
    x = noise(1, 200_000)
    write_audio(tmp_path / f"x.{extension}", x, RATE)
    data = (tmp_path / f"x.{extension}").read_bytes()
    (tmp_path / f"cut.{extension}").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        back, _ = read_audio(tmp_path / f"cut.{extension}")
    assert 80_000 < back.shape[1] < 120_000
    whole, _ = read_audio(tmp_path / f"x.{extension}")
    inner = slice(0, back.shape[1] - 5_000)
    np.testing.assert_allclose(back[:, inner], whole[:, inner], atol=1e-4)
    assert "ends early" in caplog.text
    caplog.clear()
    count(tmp_path / f"x.{extension}")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("start", "seconds"), [(-1, None), (np.nan, None), (np.inf, None), (0, 0), (0.5, -0.5), (0, np.nan), (0, np.inf)]
)
def test_an_impossible_part_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: float, seconds: float | None
) -> None:
    write_audio(tmp_path / "x.wav", noise(1, RATE), RATE)
    data = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(InputError, match=r"must be a number of seconds|must lie behind"):
        AudioReader(data, start=start, seconds=seconds)
    assert not list((tmp_path / "temporary").iterdir())
    assert read_audio(data, start=np.float32(0.25), seconds=np.float32(0.5))[0].shape[1] == RATE // 2


@pytest.mark.parametrize(("start", "seconds", "short"), [(0.0, 2.0, True), (0.5, 9.0, True), (0.5, 0.5, False)])
def test_a_part_that_the_file_lacks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, start: float, seconds: float, short: bool
) -> None:
    write_audio(tmp_path / "x.wav", noise(1, 3 * RATE), RATE)
    data = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) - 2 * 2 * RATE])
    with caplog.at_level(logging.WARNING):
        assert read_audio(tmp_path / "cut.wav", start=start, seconds=seconds)[0].shape[1] == round((1 - start) * RATE)
    assert ("ends early: 1.00 of 3.00 s" in caplog.text) == short
    caplog.clear()
    assert read_audio(tmp_path / "x.wav", start=start, seconds=9.0)[0].shape[1] == round((3 - start) * RATE)
    assert caplog.text == ""


def test_a_part_is_read_on_by_the_next_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1, 3 * RATE)
    write_audio(tmp_path / "x.wav", x, RATE, depth="float")

    class Short(SoundFileSource):
        def blocks(self) -> Iterator[np.ndarray]:
            yield from (block[:, : RATE // 4] for block in [next(super().blocks())])

    monkeypatch.setitem(BACKENDS, "soundfile", Short)
    monkeypatch.setitem(BACKENDS, "PyAV", SoundFileSource)
    np.testing.assert_array_equal(
        read_audio(tmp_path / "x.wav", start=0.5, seconds=2.0)[0], x[:, RATE // 2 :][:, : 2 * RATE]
    )


@pytest.mark.parametrize("kept", [4, 5, 6, 12, 17, 20, 26])
def test_an_ogg_that_ends_in_the_middle_of_a_header_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    only(monkeypatch, "soundfile")
    write_audio(tmp_path / "x.ogg", noise(1, 200_000), RATE)
    data = (tmp_path / "x.ogg").read_bytes()
    (tmp_path / "cut.ogg").write_bytes(data[: data.rfind(b"OggS") + kept])
    with caplog.at_level(logging.WARNING):
        assert 100_000 < read_audio(tmp_path / "cut.ogg")[0].shape[1] <= 200_000
    assert "ends early" in caplog.text


@pytest.mark.parametrize("earlier", [RATE // 3, 2 * RATE])
def test_an_ogg_that_begins_before_its_time_0_is_read_without_a_gap(tmp_path: Path, earlier: int) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.ogg", noise(1, 5 * RATE), RATE)
    whole, _ = read_audio(tmp_path / "x.ogg")
    (tmp_path / "cut.ogg").write_bytes(renumbered(bytearray((tmp_path / "x.ogg").read_bytes()), 1, earlier))
    assert probe(tmp_path / "cut.ogg").backend == "PyAV"
    cut, _ = read_audio(tmp_path / "cut.ogg")
    np.testing.assert_allclose(cut, whole, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 129, 1_500, 3_000, 100_000])
def test_an_ogg_of_any_length_begins_at_its_time_0(tmp_path: Path, samples: int) -> None:
    write_audio(tmp_path / "x.ogg", noise(2, samples), RATE)
    assert probe(tmp_path / "x.ogg").backend == "soundfile"


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    x = noise(2, 4_000)
    write_audio(tmp_path / "x.wav", x, RATE, depth="float")
    odd = tmp_path / os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "x.wav").rename(odd)
    np.testing.assert_array_equal(read_audio(odd)[0], x)


def test_a_pipe_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_HEADERS", 1_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(3 << 20))))
    with pytest.raises(InputError, match=r"does not end.*raise max_seconds"):
        AudioReader("-", max_seconds=0.1)


def test_a_full_disk_for_pipes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(100))))
    monkeypatch.setattr(Path, "open", lambda path, mode: Full())  # the copy
    with pytest.raises(AudioError, match=r"No space left on device.*TMPDIR"):
        AudioReader("-")


def test_a_recording_that_cannot_be_read_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "z.wav").open("wb") as writing:
        for read in (read_audio, probe, lambda file: Query(audio=file)):
            with pytest.raises(InputError, match=r"z\.wav cannot be read \(.*open\(path, 'rb'\)"):
                read(writing)
    closed = io.BytesIO(bytes(100))
    closed.close()
    with pytest.raises(InputError, match="closed file"):
        read_audio(closed)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Broken()))
    with pytest.raises(InputError, match=r"standard input cannot be read .*Input/output error"):
        AudioReader("-")


def test_without_a_folder_of_temporary_files_pipes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    for read in (read_audio, probe):
        with pytest.raises(AudioError, match=r"no temporary folder can be made .*set TMPDIR"):
            read(b"RIFF")


def test_a_wav_that_was_never_closed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.wav", noise(1, 5_000), RATE)
    data = bytearray((tmp_path / "x.wav").read_bytes())
    position = data.index(b"data") + 4
    # What a recorder leaves that was switched off.
    data[position : position + 4] = data[4:8] = bytes(4)
    (tmp_path / "off.wav").write_bytes(data)
    for backend in ("soundfile", "PyAV"):
        with monkeypatch.context() as here:
            only(here, backend)
            np.testing.assert_array_equal(read_audio(tmp_path / "off.wav")[0], read_audio(tmp_path / "x.wav")[0])


def test_the_next_decoder_goes_on_where_one_gives_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("av")
    path = tmp_path / "x.flac"
    x = noise(2, 200_000)
    write_audio(path, x, RATE, depth="24")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3_000] = np.random.default_rng(0).bytes(3_000)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        back, _ = read_audio(path)
    assert "PyAV reads on" in caplog.text
    assert "gaps of 0." in caplog.text or "gap of 0." in caplog.text
    assert back.shape[1] == 200_000
    whole = np.round(x * 2**23) / 2**23
    np.testing.assert_array_equal(back[:, :90_000], whole[:, :90_000])
    np.testing.assert_array_equal(back[:, -90_000:], whole[:, -90_000:])


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_decoder_that_gives_nothing_does_not_call_a_file_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, start: float
) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "x.flac", noise(2, RATE), RATE)

    def refuse(self: soundfile.SoundFile, *arguments: object, **options: object) -> None:
        raise soundfile.LibsndfileError(3)

    with caplog.at_level(logging.INFO):
        expected = read_audio(tmp_path / "x.flac", start=start)[0]
        monkeypatch.setattr(soundfile.SoundFile, "seek" if start else "read", refuse)
        np.testing.assert_array_equal(read_audio(tmp_path / "x.flac", start=start)[0], expected)
    (record,) = caplog.records
    assert (record.levelname, "x.flac cannot be read by soundfile (" in record.message) == ("INFO", True)
    assert "damaged" not in caplog.text.replace("the data is damaged", "")
    only(monkeypatch, "soundfile")
    with pytest.raises(AudioError, match=r"cannot be read by soundfile \(.*no other decoder reads on.*not there"):
        read_audio(tmp_path / "x.flac", start=start)


@needs_ffmpeg
@pytest.mark.parametrize("damage", [False, True])
def test_packets_without_sound_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: bool
) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "anoisesrc=d=2:r=48000:seed=1", "-c:a", "flac"]
    subprocess.run([*command, str(tmp_path / "x.nut")], check=True)
    if damage:
        data = bytearray((tmp_path / "x.nut").read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40_000] = np.random.default_rng(0).bytes(40_000)
        (tmp_path / "x.nut").write_bytes(data)
    only(monkeypatch, "ffmpeg")
    x, _ = read_audio(tmp_path / "x.nut")
    assert damage or x.shape == (1, 96_000)
    assert ("is damaged: ffmpeg reports" in caplog.text) == damage
    assert "Last message repeated" not in caplog.text


@needs_ffmpeg
@pytest.mark.parametrize("backend", BACKENDS)
def test_warnings_of_decoders_have_the_name_that_the_file_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    pytest.importorskip("av")
    only(monkeypatch, backend)
    if backend == "soundfile":
        write_audio(tmp_path / "x.wav", noise(1, 5_000), RATE)
        path = died(tmp_path / "off.wav", tmp_path / "x.wav", 0, 0)
    else:
        path = container(tmp_path / "x.mkv", "flac", [Sound(noise(1, RATE), start=1.0, gap=0.5)], picture=2.0)
    read_audio(path, name="upload 7")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    read_audio("-")
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert set(said) == {"upload 7", "standard input"}


@needs_ffmpeg
@pytest.mark.parametrize("channels", [3, 6, 8])
def test_channels_of_opus_that_have_no_speakers_stay_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    write_audio(tmp_path / "x.wav", tones(channels, 48_000), 48_000)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "x.wav"), "-c:a", "libopus", "-mapping_family", "255"]
    subprocess.run([*command, "-b:a", f"{200 * channels}k", str(tmp_path / "x.opus")], check=True)
    for backend in BACKENDS:
        with monkeypatch.context() as here:
            only(here, backend)
            info = probe(tmp_path / "x.opus")
            assert (info.backend, info.channels, info.speakers) == (backend, channels, 0)
            assert decibels(tones(channels, 48_000), read_audio(tmp_path / "x.opus")[0]) > 20


def test_damage_is_an_error_where_nothing_else_can_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "x.flac", noise(1, 200_000), RATE)
    data = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(data[: len(data) // 2])
    only(monkeypatch, "soundfile")
    with pytest.raises(AudioError, match=r"damaged at [12]\.\d+ s \(soundfile: .*no other decoder reads on.*not there"):
        read_audio(tmp_path / "x.flac")


class Changing:
    """A decoder whose stream turns from mono to stereo, as broadcasts do."""

    stated = None
    cut = False

    def __init__(self, path: Path, track: object = None) -> None:
        self.info = AudioInfo(path, RATE, 1, None, "16", "ts", "aac", "PyAV")

    def blocks(self) -> Iterator[np.ndarray]:
        yield noise(1, 100)
        raise Unreadable("it changes from 44100 Hz and 1 channels to 44100 Hz and 2 channels on the way")

    def close(self) -> None:
        pass


def test_a_stream_that_changes_on_the_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.ts").write_bytes(b"broadcast")
    monkeypatch.setitem(BACKENDS, "PyAV", Changing)
    monkeypatch.setitem(BACKENDS, "ffmpeg", missing)
    with pytest.raises(AudioError, match="changes from 44100 Hz and 1 channels"):
        read_audio(tmp_path / "x.ts")


def wav_of(path: Path, values: list[float], rate: int = 8_000, subtype: str = "FLOAT") -> None:
    soundfile.write(path, np.array(values, np.float32), rate, subtype=subtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(tmp_path: Path, bad: float) -> None:
    wav_of(tmp_path / "x.wav", [0.0] * 4_000 + [bad] + [0.0] * 10)
    with pytest.raises(InputError, match=rf"holds {bad} at sample 4000 \(0\.500 s\), channel 1"):
        read_audio(tmp_path / "x.wav")


def test_floats_beyond_float32_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.array([0.0, 1e300]), 8_000, subtype="DOUBLE")
    with pytest.raises(InputError, match="holds inf at sample 1"):
        read_audio(tmp_path / "x.wav")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    cases: list[tuple[Path | str, type[Exception], str]] = [
        (tmp_path / "missing.wav", AudioError, "there is no file .*check the spelling"),
        ("https://example.com/a.mp3", AudioError, "https://example.com/a.mp3 is an address.*: download it first"),
        (tmp_path / "s3://a/b.wav", AudioError, "^s3://a/b.wav is an address"),
        ("", AudioError, "is a folder"),
        (tmp_path, AudioError, "is a folder: name the files in it"),
        (tmp_path / "empty.wav", InputError, r"is empty \(0 bytes\)"),
        (tmp_path / ("n" * 300), AudioError, "cannot be opened|there is no file"),
        ("a\0b", AudioError, "cannot be opened|there is no file"),
    ]
    if Path("/dev/zero").exists():
        cases.append(("/dev/zero", AudioError, "is a device"))
    for path, error, words in cases:
        for open_it in (probe, AudioReader, read_audio):
            with pytest.raises(error, match=words):
                open_it(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    wav_of(tmp_path / "x.wav", [0.0])
    (tmp_path / "x.wav").chmod(0)
    with pytest.raises(AudioError, match="may not be read"):
        probe(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("notes.txt", b"These are my notes.\n" * 100),
        ("text.wav", b"These are my notes.\n" * 100),
        ("text.mp3", b"These are my notes.\n" * 100),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        ("x.raw", bytes(1_000)),
        ("x.bin", np.random.default_rng(0).bytes(10_000)),
        ("x.wav", b"RIFF\x24\0\0\0WAVEfmt "),
        ("x.flac", b"fLaC"),
        ("x.json", b"{}"),
        ("one.mp3", b"\xff"),
    ],
)
def test_what_is_no_audio_is_refused_naming_all_decoders(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AudioError, match=r"cannot be read as audio. soundfile: .*; PyAV: .*; ffmpeg: .*install"):
        read_audio(tmp_path / name)


def test_missing_decoders_are_named_with_their_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.m4a").write_bytes(b"no audio")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError) as caught:
        probe(tmp_path / "x.m4a")
    assert 'PyAV: not installed (pip install ".[formats]"' in str(caught.value)
    assert "ffmpeg: not on PATH (install it" in str(caught.value)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        picture = container.add_stream("mpeg4", rate=5)
        picture.width, picture.height = 64, 48
        container.mux(picture.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(picture.encode(None))
    with pytest.raises(
        AudioError, match=r"PyAV: there is no audio stream in it; ffmpeg: (there is no audio stream|not on)"
    ):
        probe(tmp_path / "x.mp4")


def patched_wav(path: Path, offset: int, value: int, form: str = "<H") -> None:
    """A wav file with one field of its format chunk overwritten."""
    soundfile.write(path, noise(1, 1_000).T, RATE)
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(b"fmt ") + 8 + offset, value)
    path.write_bytes(data)


def test_impossible_headers_are_refused(tmp_path: Path) -> None:
    patched_wav(tmp_path / "channels.wav", 2, 0)
    with pytest.raises(AudioError, match="cannot be read as audio"):
        read_audio(tmp_path / "channels.wav")
    patched_wav(tmp_path / "rate.wav", 4, 0, "<I")
    with pytest.raises((AudioError, InputError)):
        read_audio(tmp_path / "rate.wav")
    patched_wav(tmp_path / "high.wav", 4, 10_000_000, "<I")
    with pytest.raises(InputError, match="4000 to 192000 Hz, got 10000000"):
        read_audio(tmp_path / "high.wav")
    for rate in (3_999, 192_001):
        soundfile.write(tmp_path / "x.wav", noise(1, 100).T, rate)
        assert probe(tmp_path / "x.wav").sample_rate == rate
        with pytest.raises(InputError, match=f"4000 to 192000 Hz, got {rate}: choose another one, or resample"):
            read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("channels", [9, 16, 64])
def test_too_many_channels_are_refused(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "x.wav", noise(channels, 100).T, RATE)
    assert probe(tmp_path / "x.wav").channels == channels
    with pytest.raises(InputError, match=f"1 to 8 channels, got {channels}: pick or mix"):
        read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_files_without_samples_are_refused(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    soundfile.write(path, np.zeros((0, 1), np.float32), RATE)
    with pytest.raises((InputError, AudioError), match=r"holds no samples|is empty|cannot be read as audio"):
        read_audio(path)


def test_recordings_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", noise(1, 8_001), 8_000)
    assert read_audio(tmp_path / "x.wav", max_seconds=1.001)[0].shape == (1, 8_001)
    with pytest.raises(InputError, match="raise max_seconds"):
        AudioReader(tmp_path / "x.wav", max_seconds=1)
    # 13 hours, as a header says that has no data behind it in memory.
    with (tmp_path / "long.wav").open("wb") as file:
        data = bytearray((tmp_path / "x.wav").read_bytes())
        size = 13 * 3_600 * 8_000 * 2
        position = data.index(b"data")
        struct.pack_into("<I", data, position + 4, size)
        struct.pack_into("<I", data, 4, size + position)
        file.write(data)
        file.truncate(position + 8 + size)
    with pytest.raises(InputError, match=r"46800 s, more than the limit of 43200 s"):
        AudioReader(tmp_path / "long.wav")
    with AudioReader(tmp_path / "long.wav", max_seconds=None) as reader:
        assert next(reader).shape == (1, 65_536)


def test_the_limit_holds_where_the_length_is_unknown(tmp_path: Path) -> None:
    av_file(tmp_path / "x.m4a", "aac", noise(1, 30_000))
    with (
        AudioReader(tmp_path / "x.m4a", block=100, max_seconds=0.5) as reader,
        pytest.raises(InputError, match="limit"),
    ):
        list(reader)


@pytest.mark.parametrize("data", [b"", b"not audio"])
def test_bad_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(
        (AudioError, InputError), match=r"standard input was empty|^standard input cannot be read as audio"
    ):
        AudioReader("-")
    with pytest.raises(InputError, match="only once"):
        probe("-")


def test_a_terminal_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="pipe a file into it"):
        AudioReader("-")


def test_a_block_has_samples(tmp_path: Path) -> None:
    wav_of(tmp_path / "x.wav", [0.0])
    with pytest.raises(InputError, match="at least one sample"):
        AudioReader(tmp_path / "x.wav", block=0)
