"""Sound beside a copied picture: where it starts, in every kind of video."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from audiosep.audio import probe, read_audio, write_audio
from audiosep.audio.video import VideoWriter
from audiosep.audio.video_formats import CONTAINERS

RATE = 48000
Samples = npt.NDArray[np.floating]

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="videos are made with ffmpeg")


def film(path: Path, sound: Path) -> Path:
    """A video whose sound and picture start together."""
    codecs = {"webm": "libvpx", "mpeg": "mpeg2video", "mpegts": "mpeg2video"}
    codec = codecs.get(CONTAINERS[path.suffix].muxer, "mpeg4")
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1", "-i", sound]
    command += [*(["-c:a", "pcm_s16le"] if path.suffix == ".avi" else []), "-c:v", codec, path]
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


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_new_sound_is_under_the_picture_from_its_first_sample_on(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE + 15)
    sound = np.convolve(noise, np.full(16, 1 / 8), "valid").astype(np.float32)  # low enough for all codecs
    write_audio(tmp_path / "sound.wav", sound[None], RATE)
    source = film(tmp_path / f"film{suffix}", tmp_path / "sound.wav")
    before, rate = read_audio(source)
    made = tmp_path / f"made{suffix}"
    writer = VideoWriter(made, source, rate, len(before), probe(source).heard, "mark", overwrite=False)
    writer.write(before)
    writer.close()
    heard = played(made)
    moved = (start(made, "a") - start(made, "v")) - (start(source, "a") - start(source, "v"))
    assert abs(moved + lag(heard, played(source)) / RATE) < 0.015
    after, _ = read_audio(made)
    late = lag(after[0], before[0])
    assert late >= 0
    beginning = round(0.025 * rate)
    assert np.corrcoef(before[0, :beginning], after[0, late : late + beginning])[0, 1] > 0.9
