"""Outputs of another shape: stretches, previews, mono, sample rates, loudness."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import sounds
from conftest import Mixture

from audiosep import OutputOptions
from audiosep.audio import AudioWriter, read_audio, resample, write_audio
from audiosep.audio.chapters import Chapter, read_chapters
from audiosep.audio.loudness import LoudnessMeter
from audiosep.audio.preview import representative_start
from audiosep.cli import main
from audiosep.cli.reporting import _remarks, entry
from audiosep.cli.times import seconds
from audiosep.errors import InputError
from audiosep.output.batch_report import FileResult
from audiosep.output.readable import is_readable
from audiosep.separator import Separator

RATE = 16000


@pytest.fixture
def song(tmp_path: Path, mixture: Mixture) -> Path:
    path = tmp_path / "song.wav"
    write_audio(path, mixture(3, RATE, 2), RATE, depth="float")
    return path


def separated(separator: Separator, song: Path, **options: object) -> tuple[FileResult, dict[str, np.ndarray]]:
    out = song.parent / "out" / str(len(list(song.parent.rglob("*"))))
    report = separator.separate_files(song, "piano", out, output=OutputOptions(**options))  # type: ignore[arg-type]
    report.raise_for_failures()
    (result,) = report.results
    return result, {name: read_audio(path)[0] for name, path in result.outputs.items()}


def test_a_stretch_is_separated_alone(separator: Separator, song: Path) -> None:
    result, parts = separated(separator, song, start=0.5, end=2.0)
    assert result.samples == 1.5 * RATE
    mix = read_audio(song)[0][:, RATE // 2 : 2 * RATE]
    assert np.abs(sum(parts.values()) - mix).max() < 1e-6


@pytest.mark.parametrize("format", ["m4a", "mp3", "wav"])
def test_chapters_are_those_of_the_stretch(
    separator: Separator, mixture: Mixture, tmp_path: Path, format: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "podcast.mp3"
    with AudioWriter(path, RATE, 2, chapters=(Chapter(0, 1, "One"), Chapter(1, 3, "Two"))) as writer:
        writer.write(mixture(3, RATE, 2))
    result, _ = separated(separator, path, start=0.5, end=2.0, format=format)
    for output in result.outputs.values():
        expected = () if format == "wav" else (Chapter(0, 0.5, "One"), Chapter(0.5, 1.5, "Two"))
        assert read_chapters(output) == expected
    assert caplog.text.count("the recording has 2 chapters") == (format == "wav")
    saved = separator.separate(path, "piano").save(tmp_path / "saved", format=format, residual=False)
    assert len(read_chapters(saved[0])) == (0 if format == "wav" else 2)


def test_mono_and_rate_are_made_after_the_separation(separator: Separator, song: Path) -> None:
    _, whole = separated(separator, song)
    result, parts = separated(separator, song, mono=True, rate=8000)
    assert (result.sample_rate, result.channels, result.samples) == (8000, 1, 3 * 8000)
    for name, target in whole.items():
        assert np.abs(parts[name] - resample(target.mean(0, keepdims=True), RATE, 8000)).max() < 1e-6


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (16000, 5)])
def test_the_meter_agrees_with_pyloudnorm_on_blocks_of_any_size(rate: int, channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    x = np.stack([sounds.voice(4, rate, seed) for seed in range(channels)])
    x[:, rate : 2 * rate] *= 0.001  # below the gate
    meter = LoudnessMeter(rate, channels)
    for start in range(0, x.shape[1], 1234):
        meter.push(x[:, start : start + 1234])
    assert meter.loudness == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(x.T), abs=0.05)
    assert LoudnessMeter(rate, channels).loudness == -math.inf


def test_the_loudest_output_has_the_loudness_and_all_one_gain(separator: Separator, song: Path) -> None:
    pytest.importorskip("pyloudnorm")
    _, plain = separated(separator, song)
    result, parts = separated(separator, song, loudness=-23.0)
    loudness = []
    for name, part in parts.items():
        assert np.abs(part - result.gain * plain[name]).max() < 1e-5
        meter = LoudnessMeter(RATE, 2)
        meter.push(part)
        loudness.append(meter.loudness)
    assert max(loudness) == pytest.approx(-23, abs=0.01)
    assert result.loudness == pytest.approx(-23, abs=0.01)
    assert result.loudness_shortfall == pytest.approx(0, abs=0.01)
    assert not [remark for remark in _remarks(result) if "too low" in remark]


def test_loudness_that_would_clip_is_not_reached(separator: Separator, song: Path) -> None:
    pytest.importorskip("pyloudnorm")
    result, parts = separated(separator, song, loudness=0.0, format="flac")
    assert result.loudness is not None
    assert result.loudness < -1
    assert result.loudness_shortfall == -result.loudness
    assert [remark for remark in _remarks(result) if f"{-result.loudness:.1f} LU too low: more would clip" in remark]
    assert entry(result, explain=False)["loudness_shortfall"] == result.loudness_shortfall
    assert 0.99 < max(np.abs(part).max() for part in parts.values()) <= 1


def test_what_is_too_short_for_a_loudness_keeps_its_level(
    separator: Separator, tmp_path: Path, mixture: Mixture, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pyloudnorm")
    write_audio(tmp_path / "short.wav", mixture(0.2), RATE)
    result, _ = separated(separator, tmp_path / "short.wav", loudness=-16.0)
    assert (result.gain, result.loudness, result.loudness_shortfall) == (1.0, None, None)
    assert "the level stays as it is" in caplog.text


def test_a_preview_is_like_the_whole(tmp_path: Path) -> None:
    loud, quiet = sounds.loop(1, RATE), 1e-4 * sounds.noise(1, RATE)
    parts = [quiet] * 5 + [sounds.noise(1, RATE)] * 2 + [loud] * 12 + [quiet] * 4
    path = tmp_path / "song.wav"
    write_audio(path, np.concatenate(parts)[None], RATE)
    assert 6 <= representative_start(path, 4) <= 15
    assert representative_start(path, 60) == 0


def test_a_preview_from_the_command_line(separator: Separator, song: Path) -> None:
    result, _ = separated(separator, song, preview=1.0)
    assert result.samples == RATE
    report = separator.separate_files("-", "piano", song.parent / "o", output=OutputOptions(preview=1.0))
    (error,) = report.failures.values()
    assert "standard input" in str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_what_would_be_read_twice_is_no_pipe(separator: Separator, song: Path) -> None:
    os.mkfifo(pipe := song.parent / "pipe.mp4")
    for output in (OutputOptions(preview=1.0), OutputOptions(video=True)):
        with pipe.open("rb+", buffering=0) as feeder:  # so that reading would give what is in it, and then wait
            feeder.write(bytes(1_000))
            report = separator.separate_files(pipe, "piano", song.parent / "o", output=output, progress=lambda _: True)
            assert len(os.read(feeder.fileno(), 2_000)) == 1_000
        (error,) = report.failures.values()
        assert "a pipe" in str(error)
    failures: dict[Path, Exception] = {}
    assert not is_readable(pipe, failures, pipes=False)  # by the workers of Ray
    assert "a pipe" in str(failures[pipe])


def test_times_of_the_command_line(tiny_folder: Path, song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [seconds(text) for text in ("83.4", "1:23.4", "1:02:03", 5)] == [83.4, 83.4, 3723, 5]
    command = ["separate", str(song), "piano", "-o", str(song.parent / "o"), "-m", str(tiny_folder), "--json"]
    assert main([*command, "--start", "0:01", "--end", "2.5"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["samples"] == 1.5 * RATE
    assert main([*command, "--start", "soon"]) == 2
    assert "'soon' is no time" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1.0}, {"start": 2.0, "end": 1.0}, {"preview": 0.0}, {"preview": 3.0, "start": 1.0}, {"rate": 3},
        {"loudness": 3.0}, {"mono": "yes"}, {"video": True, "end": 2.0},
    ],
)  # fmt: skip
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        OutputOptions(**wrong)  # type: ignore[arg-type]
