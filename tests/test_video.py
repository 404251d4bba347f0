"""Sound beside a copied picture: where it starts, in every kind of video."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from audiosep.audio import AudioInfo, probe, read_audio, write_audio
from audiosep.audio.marker import UNMARKED, Origin, is_marked, mark_for, origin_of
from audiosep.audio.speakers import layout_mask
from audiosep.audio.video import VideoWriter
from audiosep.audio.video_formats import CONTAINERS
from audiosep.errors import AudioError
from audiosep.output.files import Outputs

RATE = 48000
Samples = npt.NDArray[np.floating]

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="videos are made with ffmpeg")


def film(path: Path, sound: Path, late: float = 0.0, encoder: str | None = None) -> Path:
    """A video whose sound starts about so many seconds after the picture, as far as the encoder lets it."""
    codecs = {"webm": "libvpx", "mpeg": "mpeg2video", "mpegts": "mpeg2video"}
    codec = codecs.get(CONTAINERS[path.suffix].muxer, "mpeg4")
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x48:r=25:d=1",
        "-itsoffset",
        str(late),
        "-i",
        sound,
    ]
    encoder = encoder or ("pcm_s16le" if path.suffix == ".avi" else None)
    command += [*(["-c:a", encoder] if encoder else []), "-c:v", codec, path]
    subprocess.run(command, check=True)
    return path


def start(path: Path, kind: str) -> float:
    """Time stamp of the first frame that a player shows or plays, in seconds."""
    command = ["ffprobe", "-v", "error", "-select_streams", f"{kind}:0", "-read_intervals", "%+#3"]
    command += ["-show_entries", "frame=pts_time", "-of", "csv=p=0", path]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0].strip(","))


def played(path: Path) -> Samples:
    """The sound as ffmpeg decodes it, (samples,)."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:a", "-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


def lag(late: Samples, early: Samples) -> int:
    """By how many samples the first lies behind the second: the peak of their cross-correlation."""
    size = len(late) + len(early)
    correlation = np.fft.irfft(np.fft.rfft(late, size) * np.conj(np.fft.rfft(early, size)), size)
    return (int(correlation.argmax()) + size // 2) % size - size // 2


@pytest.mark.parametrize("late", [0, 0.03])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_new_sound_is_under_the_picture_from_its_first_sample_on(tmp_path: Path, suffix: str, late: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE + 15)
    sound = np.convolve(noise, np.full(16, 1 / 8), "valid").astype(np.float32)  # low enough for all codecs
    write_audio(tmp_path / "sound.wav", sound[None], RATE)
    source = film(tmp_path / f"film{suffix}", tmp_path / "sound.wav", 0 if suffix == ".avi" else late)
    before, rate = read_audio(source)
    made = tmp_path / f"made{suffix}"
    writer = VideoWriter(made, probe(source), rate, len(before), "mark", overwrite=False)
    writer.write(before)
    writer.close()
    heard = played(made)
    moved = (start(made, "a") - start(made, "v")) - (start(source, "a") - start(source, "v"))
    assert abs(moved + lag(heard, played(source)) / RATE) < 0.002  # matroska has milliseconds
    after, _ = read_audio(made)
    delay = lag(after[0], before[0])
    assert delay >= 0
    first = int(np.flatnonzero(before[0])[0])  # behind silence where the sound starts late
    beginning = slice(first, first + round(0.025 * rate))
    assert np.corrcoef(before[0, beginning], after[0, delay:][beginning])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("suffix", "encoder", "depth", "step"),
    [(".mov", "pcm_s24le", "24", 2**-23), (".mov", "alac", "16", 2**-15), (".mkv", "flac", "16", 2**-15),
     (".mkv", "pcm_f32le", "float", 2**-24), (".mkv", "pcm_s16le", "16", 2**-15)],
)  # fmt: skip
def test_lossless_sound_of_a_film_stays_so(tmp_path: Path, suffix: str, encoder: str, depth: str, step: float) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE)).astype(np.float32)
    write_audio(tmp_path / "sound.wav", sound, RATE, depth=depth)
    source = film(tmp_path / f"film{suffix}", tmp_path / "sound.wav", 0.03, encoder)
    before, _ = read_audio(source)
    with Outputs({"x": tmp_path / f"made{suffix}"}, RATE, 2, video=probe(source)) as outputs:
        outputs.write({"x": before})
    made = probe(tmp_path / f"made{suffix}")
    assert (made.depth, made.encoding[:4]) == (depth, "pcm_")
    after, _ = read_audio(tmp_path / f"made{suffix}")
    np.testing.assert_allclose(after, before, atol=step)


def test_fonts_of_subtitles_are_kept(tmp_path: Path) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    film(tmp_path / "plain.mkv", tmp_path / "sound.wav")
    font = np.random.default_rng(0).bytes(5000)
    (tmp_path / "font.ttf").write_bytes(font)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "plain.mkv", "-c", "copy", "-attach", tmp_path / "font.ttf"]
    command += ["-metadata:s:t", "mimetype=application/x-truetype-font", tmp_path / "film.mkv"]
    subprocess.run(command, check=True)
    with_sound(probe(tmp_path / "film.mkv"), tmp_path / "made.mkv", RATE, 1)
    assert font in (tmp_path / "made.mkv").read_bytes()


@pytest.mark.parametrize("suffix", sorted(CONTAINERS.keys() - UNMARKED))
def test_videos_say_what_they_were_separated_from(tmp_path: Path, suffix: str) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    source = film(tmp_path / f"film{suffix}", tmp_path / "sound.wav")
    origin = Origin("0123456789abcdef", "01234567")
    writer = VideoWriter(tmp_path / f"made{suffix}", probe(source), RATE, 1, mark_for(origin), overwrite=False)
    writer.write(np.zeros((1, RATE), np.float32))
    writer.close()
    assert is_marked(tmp_path / f"made{suffix}")
    assert origin_of(tmp_path / f"made{suffix}") == origin


def with_sound(source: AudioInfo, made: Path, rate: int, channels: int, speakers: int = 0) -> str:
    """Rate and speaker layout of the sound of a video whose picture is copied."""
    with Outputs({"x": made}, rate, channels, video=source, speakers=speakers) as outputs:
        outputs.write({"x": np.random.default_rng(0).uniform(-0.1, 0.1, (channels, rate)).astype(np.float32)})
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=sample_rate,channel_layout"]
    shown = subprocess.run([*command, "-of", "csv=p=0", made], check=True, capture_output=True, text=True).stdout
    return shown.split()[0]


@pytest.mark.parametrize(("rate", "written"), [(8000, 32000), (22050, 32000), (44100, 44100), (96000, 48000)])
def test_mpg_takes_sound_of_any_rate(tmp_path: Path, rate: int, written: int) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    source = film(tmp_path / "film.mpg", tmp_path / "sound.wav")
    assert with_sound(probe(source), tmp_path / "made.mpg", rate, 1).startswith(f"{written},")
    assert read_audio(tmp_path / "made.mpg")[0].shape[1] == pytest.approx(written, abs=2 * 1152)


@pytest.mark.parametrize(
    ("suffix", "channels", "layout", "written"),
    [
        (".webm", 3, "", "3.0"), (".webm", 4, "", "quad"), (".webm", 6, "5.1(side)", "5.1"),
        (".mp4", 3, "", "3.0"), (".mp4", 3, "2.1", "2.1"), (".mp4", 4, "4.0", "4.0"), (".mp4", 6, "5.1(side)", "5.1"),
        (".avi", 3, "2.1", "2.1"),
    ],
)  # fmt: skip
def test_videos_have_the_speakers_of_the_sound(
    tmp_path: Path, suffix: str, channels: int, layout: str, written: str
) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    source = film(tmp_path / f"film{suffix}", tmp_path / "sound.wav")
    shown = with_sound(probe(source), tmp_path / f"made{suffix}", RATE, channels, layout_mask(layout))
    assert shown == f"{RATE},{written}"


@pytest.mark.parametrize(
    ("suffix", "channels", "layout", "words"),
    [
        (".mpg", 6, "5.1", r"\.mpg has at most 2 channels, not 6: convert the video to mkv first"),
        (".webm", 3, "2.1", r"\.webm has no speaker layout 2\.1, for 3 channels only 3\.0: convert the video to mkv"),
    ],
)
def test_sound_that_a_video_cannot_hold_is_refused_before_it_is_separated(
    tmp_path: Path, suffix: str, channels: int, layout: str, words: str
) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    source = probe(film(tmp_path / f"film{suffix}", tmp_path / "sound.wav"))
    with pytest.raises(AudioError, match=words):
        Outputs({"x": tmp_path / f"x{suffix}"}, RATE, channels, video=source, speakers=layout_mask(layout))


@pytest.mark.parametrize(("option", "words"), [("-an", "ffmpeg finds no sound in it"), ("-vn", "no picture in it")])
def test_a_film_without_sound_or_picture_is_told_as_such(tmp_path: Path, option: str, words: str) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    whole = film(tmp_path / "film.mkv", tmp_path / "sound.wav")
    subprocess.run(["ffmpeg", "-v", "error", "-i", whole, "-c", "copy", option, tmp_path / "part.mkv"], check=True)
    with pytest.raises(AudioError, match=words):
        with_sound(replace(probe(whole), path=tmp_path / "part.mkv"), tmp_path / "made.mkv", RATE, 1)


def test_a_full_disk_spares_the_video_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "sound.wav", np.zeros((1, RATE), np.float32), RATE)
    source = film(tmp_path / "film.mov", tmp_path / "sound.wav")
    made = film(tmp_path / "made.mov", tmp_path / "sound.wav")
    before = made.read_bytes()
    full = tmp_path / "bin" / "ffmpeg"  # writes no more than 4 KiB into a file, and is not killed for it
    full.parent.mkdir()
    full.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 8\nexec {shutil.which('ffmpeg')} \"$@\"\n")
    full.chmod(0o755)
    monkeypatch.setenv("PATH", str(full.parent), prepend=os.pathsep)
    writer = VideoWriter(made, probe(source), RATE, 1, "mark", overwrite=True)
    writer.write(np.zeros((1, RATE), np.float32))
    with pytest.raises(AudioError, match=r"made\.mov cannot be written \(File too large\): free space"):
        writer.close()
    assert made.read_bytes() == before
    assert not list(tmp_path.glob(".audiosep-*"))
