"""Files to files: names, formats, clipping, folders, failures, cancelling; and nothing half-written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Mixture
from doubles import STEMS, FakeEncoder, IdentityModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audiosep import OutputOptions, Query
from audiosep.atomic import PendingFile
from audiosep.audio import probe, read_audio, resample, resampled_length, write_audio
from audiosep.errors import AudioError, BatchError, Cancelled, InputError
from audiosep.models.separation_model import Estimate
from audiosep.output import plan as files
from audiosep.output.files import Outputs
from audiosep.output.names import plan_outputs
from audiosep.output.plan import OutputPaths
from audiosep.output.recordings import InputFile
from audiosep.output.separation import Separation
from audiosep.separator import Separator


class Loud(IdentityModel):
    """Every target is the mixture, four times as loud."""

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        estimate = super().forward(mix, embeddings, negatives)
        return Estimate(4 * estimate.waveforms, 4 * estimate.top, estimate.presence)


@pytest.fixture
def loud(encoder: FakeEncoder) -> Separator:
    return Separator(Loud(), encoder, "cpu", "fp32", name="loud")


@pytest.fixture
def song(tmp_path: Path, mixture: Mixture) -> Path:
    """24-bit stereo at 44.1 kHz, with tags."""
    path = tmp_path / "in" / "söng 1.wav"
    path.parent.mkdir()
    write_audio(path, mixture(1.2, 44100, 2), 44100, depth="24", tags={"title": "Söng", "artist": "Me"})
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_name_that_the_file_system_refuses_is_one_failure(separator: Separator, song: Path, tmp_path: Path) -> None:
    bad = tmp_path / (300 * "x" + ".wav")
    report = separator.separate_files([song, bad], "piano", tmp_path / "out", progress=lambda _: True)
    assert [result.input for result in report.results] == [song]
    assert list(report.failures) == [bad]


def test_recordings_of_one_name_are_numbered_in_one_try_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(
        files, "plan_outputs", lambda *a, number=1, **k: tried.append(number) or plan_outputs(*a, number=number, **k)
    )
    recordings = [InputFile(tmp_path / str(i) / "mix.wav") for i in range(50)]
    paths = OutputPaths(tmp_path / "out", {"vocals": "0"}, OutputOptions(), recordings)
    found = [paths.of(recording)["vocals"].name for recording in recordings]
    assert found[:3] == ["mix (vocals).wav", "mix (2) (vocals).wav", "mix (3) (vocals).wav"]
    assert len(set(found)) == 50
    assert len(tried) < 3 * 50


def test_films_of_one_name_have_labels_of_their_own(tmp_path: Path) -> None:
    recordings = [InputFile(tmp_path / name) for name in ("x.mp4", "x.mkv")]
    works, video = {"dog": "0", "without dog": "1"}, OutputOptions(video=True)
    plain = OutputPaths(tmp_path / "out", works, video, recordings)
    assert [plain.of(one)["dog"].name for one in recordings] == ["x (dog).mp4", "x (dog).mkv"]
    paths = OutputPaths(tmp_path / "out", works, video, recordings, labelled=["dog"])
    labelled = [{**(outputs := paths.of(one)), "labels": paths.labels(outputs)["dog"]} for one in recordings]
    assert [[path.name for path in one.values()] for one in labelled] == [
        ["x (dog).mp4", "x (without dog).mp4", "x (dog).txt"],
        ["x (2) (dog).mkv", "x (2) (without dog).mkv", "x (2) (dog).txt"],
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_disk_that_fills_with_the_last_samples_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    # The limit on file sizes fails like a full disk, where samples that were kept in memory are written.
    code = f"""
import resource
from pathlib import Path
import numpy as np
from audiosep.errors import AudioError
from audiosep.output.files import Outputs
folder = Path({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    with Outputs({{name: folder / f"{{name}}.wav" for name in "ab"}}, 48_000, 1) as outputs:
        outputs.write({{name: np.zeros((1, 500), np.float32) for name in "ab"}})
except AudioError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "samples cannot be written to the disk of the outputs ([Errno 27] File too large): free space" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# ---- what is written -----------------------------------------------------------------------------------------------


def test_targets_and_residual_follow_the_input(separator: Separator, song: Path, tmp_path: Path) -> None:
    report = separator.separate_files(
        song, ["piano", Query("piano", negative="dog"), Query("a/b:c", name="a/b:c")], tmp_path / "out"
    )
    report.raise_for_failures()
    (result,) = report.results
    assert list(result.outputs) == ["piano", "piano (2)", "a/b:c", "without piano, piano (2), a/b:c"]
    assert names(tmp_path / "out") == [
        "söng 1 (a_b_c).wav", "söng 1 (piano (2)).wav", "söng 1 (piano).wav",
        "söng 1 (without piano, piano (2), a_b_c).wav",
    ]  # fmt: skip
    x, rate = read_audio(song)
    assert (result.samples, result.sample_rate, result.channels) == (x.shape[1], 44100, 2)
    assert result.gain == 1.0
    assert list(result.presence or {}) == ["piano", "piano (2)", "a/b:c"]
    total = np.zeros_like(x)
    for name, path in result.outputs.items():
        info = probe(path)
        assert (info.samples, info.sample_rate, info.channels, info.depth) == (x.shape[1], rate, 2, "24")
        assert (info.tags["title"], info.tags["artist"]) == (f"Söng ({name})", "Me")
        total += read_audio(path)[0]
    assert np.abs(total - x).max() <= 5 / 2**23


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_sound_is_named_after_a_file_whose_name_is_no_unicode(separator: Separator, song: Path) -> None:
    odd = song.with_name(os.fsdecode(b"caf\xe9.wav"))
    odd.write_bytes(song.read_bytes())
    report = separator.separate_files(odd, Query(audio=odd), song.parent / "out", output=OutputOptions(labels=True))
    report.raise_for_failures()
    (result,) = report.results
    assert [probe(path).tags["title"] for path in result.outputs.values()] == ["Söng (caf?)", "Söng (without caf?)"]


def test_files_and_arrays_give_the_same_targets(separator: Separator, song: Path, tmp_path: Path) -> None:
    report = separator.separate_files(song, "piano", tmp_path / "out")
    out = separator.separate(song, "piano")
    saved = out.save(tmp_path / "saved")
    assert [path.name for path in saved] == [path.name for path in report.results[0].outputs.values()]
    for path, other in zip(saved, report.results[0].outputs.values(), strict=True):
        assert path.read_bytes() == other.read_bytes()
    assert np.abs(read_audio(saved[0])[0] - out["piano"]).max() <= 1 / 2**23


@pytest.mark.parametrize("format", ["flac", "ogg", "mp3", "m4a"])
def test_formats(separator: Separator, song: Path, tmp_path: Path, format: str) -> None:
    report = separator.separate_files(song, "piano", tmp_path / "out", output=OutputOptions(format=format))
    report.raise_for_failures()
    info = probe(report.results[0].outputs["piano"])
    assert info.format == format
    assert read_audio(report.results[0].outputs["piano"])[0].shape[1] == probe(song).samples
    out = separator.separate(song, "piano").save(tmp_path / "saved", format=format, residual=False)
    assert [path.name for path in out] == [f"söng 1 (piano).{format}"]


def test_a_format_that_lacks_the_rate_gets_the_next_one(
    separator: Separator, song: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = separator.separate_files(song, "piano", tmp_path / "out", output=OutputOptions(format="opus"))
    report.raise_for_failures()
    assert "opus has no 44100 Hz: the outputs are resampled to 48000 Hz" in caplog.text
    mix, rate = read_audio(song)
    total = sum(read_audio(path)[0] for path in report.results[0].outputs.values())
    assert total.shape[1] == resampled_length(mix.shape[1], rate, 48000)
    expected = resample(mix, rate, 48000)
    assert 10 * np.log10(np.sum(expected**2) / np.sum((total - expected) ** 2)) > 10


def test_stems_have_no_residual_and_one_of_them_has_an_instrumental(
    separator: Separator, song: Path, tmp_path: Path
) -> None:
    report = separator.separate_files(song, None, tmp_path / "all")
    assert tuple(report.results[0].outputs) == STEMS
    report = separator.separate_files(song, None, tmp_path / "vocals", output=OutputOptions(only="vocals"))
    assert list(report.results[0].outputs) == ["vocals", "instrumental"]
    report = separator.separate_files(song, None, tmp_path / "two", output=OutputOptions(only=["bass", "drums"]))
    assert list(report.results[0].outputs) == ["bass", "drums", "without bass, drums"]
    report = separator.separate_files(song, None, tmp_path / "one", output=OutputOptions(only=["bass"], residual=False))
    assert list(report.results[0].outputs) == ["bass"]
    both = [read_audio(tmp_path / "vocals" / f"söng 1 ({name}).wav")[0] for name in ("vocals", "instrumental")]
    assert np.abs(sum(both) - read_audio(song)[0]).max() <= 2 / 2**23
    with pytest.raises(InputError, match="choose from vocals"):
        separator.separate_files(song, None, tmp_path / "x", output=OutputOptions(only=["guitar"]))
    with pytest.raises(InputError, match="at least one target"):
        OutputOptions(only=[])


def test_templates(separator: Separator, song: Path, tmp_path: Path) -> None:
    separator.separate_files(
        song, "piano", tmp_path, output=OutputOptions(template="{file}/{stem}.{ext}", residual=False)
    )
    assert "söng 1/piano.wav" in names(tmp_path)
    for template in (
        *("{file}.{ext}", "{stem} {title}", "{stem", "../{stem}.wav", "/{stem}.wav", "{stem[0]}", "{stem:d}"),
        *("{stem}.aiff", "{stem}.MKV", "{stem}.ts", "{stem}.{ext}.bak", "{ext} {stem}"),
        *("{stem}.txt", "{file}/{stem}.v2.JSON"),
        *("{stem}.mp3", "{stem}/", "{stem}/.{ext}", "{stem}\0.{ext}", "{stem}\n", "{stem}" + "x" * 300),
    ):
        with pytest.raises(InputError, match="template"):
            OutputOptions(template=template)
    separator.separate_files(song, "piano", tmp_path, output=OutputOptions(template="{stem} of {file}", residual=False))
    separator.separate_files(song, "piano", tmp_path, output=OutputOptions(template="the {stem}.wav", residual=False))
    assert {"piano of söng 1.wav", "the piano.wav"} <= set(names(tmp_path))
    assert plan_outputs("o", ["a"], file="film", format="MKV", template="{stem}.mkv") == {"a": Path("o/a.mkv")}
    with pytest.raises(InputError, match="is for mkv files, but the format is mp4"):
        plan_outputs(
            "o", ["a"], file="film", format="mp4", template=OutputOptions(template="{stem}.mkv", video=True).template
        )
    with pytest.raises(InputError, match=r"'\{stem\}\.txt' is for txt files, but the format is flac: use \{ext\}"):
        OutputOptions(template="{stem}.txt", format="flac")
    assert plan_outputs("o", ["a"], file="f", format="wav", template="{stem} v1.5") == {"a": Path("o/a v1.5.wav")}
    with pytest.raises(InputError, match="unknown format"):
        OutputOptions(format="xyz")


# ---- clipping ------------------------------------------------------------------------------------------------------


def test_one_gain_for_all_outputs_of_a_file(loud: Separator, song: Path, tmp_path: Path) -> None:
    (result,) = loud.separate_files(song, ["a", "b"], tmp_path / "out").results
    x, _ = read_audio(song)
    peak = 7 * np.abs(x).max()  # of the residual, x - 8 x
    assert result.gain == pytest.approx(1 / peak, rel=1e-5)
    assert result.clipped == 0
    total = sum(read_audio(path)[0] for path in result.outputs.values())
    assert np.abs(total - result.gain * x).max() < 4 / 2**23
    saved = loud.separate(song, ["a", "b"]).save(tmp_path / "saved")
    for path, other in zip(saved, result.outputs.values(), strict=True):
        assert np.array_equal(read_audio(path)[0], read_audio(other)[0])


def test_clipping_as_floats_or_saturated(loud: Separator, song: Path, tmp_path: Path) -> None:
    x, _ = read_audio(song)
    (result,) = loud.separate_files(song, "a", tmp_path / "float", output=OutputOptions(on_clip="float")).results
    assert result.gain == 1.0
    assert probe(result.outputs["a"]).depth == "float"
    assert np.allclose(read_audio(result.outputs["a"])[0], 4 * x, atol=1e-5)
    (result,) = loud.separate_files(song, "a", tmp_path / "clip", output=OutputOptions(on_clip="clip")).results
    assert probe(result.outputs["a"]).depth == "24"
    assert result.clipped > 0
    assert np.allclose(read_audio(result.outputs["a"])[0], np.clip(4 * x, -1, 1), atol=1e-5)
    with pytest.raises(InputError, match="flac files hold no floating-point"):
        OutputOptions(on_clip="float", format="flac")
    with pytest.raises(InputError, match="on_clip must be"):
        OutputOptions(on_clip="wrap")  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_the_gain_brings_the_peak_to_full_scale_and_no_further(tmp_path: Path, known: bool) -> None:
    for number, peak in enumerate(np.random.default_rng(0).uniform(1, 3, 40).astype(np.float32)):
        x = np.array([[0.5 * peak, peak, -peak]], np.float32)
        path = tmp_path / f"{number}.flac"
        with Outputs({"a": path}, 16000, 1, format="flac", peak=float(peak) if known else None) as outputs:
            outputs.write({"a": x})
        assert outputs.gain < 1 / peak
        assert outputs.clipped == 0
        np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], [16384, 32767, -32768])


@pytest.mark.parametrize(
    ("peak", "gain"), [(2.0, 0.5 - 2**-25), (1.25, float.fromhex("0x1.999998p-1")), (4.0, 0.25 - 2**-26)]
)
def test_the_gain_is_one_step_of_float32_below_the_reciprocal(tmp_path: Path, peak: float, gain: float) -> None:
    with Outputs({"a": tmp_path / "a.wav"}, 16000, 1, depth="24") as outputs:
        outputs.write({"a": np.array([[peak, 0.5 * peak]], np.float32)})
    assert outputs.gain == gain  # 1 / 1.25 is 0x1.99999ap-1 in float32; such gains decide the bytes of outputs


@pytest.mark.parametrize("on_clip", ["gain", "clip"])
@pytest.mark.parametrize("known", [False, True])
def test_the_gain_counts_what_resampling_adds_to_the_peak(tmp_path: Path, known: bool, on_clip: str) -> None:
    square = np.sign(np.sin(2 * np.pi * 441 * (np.arange(22_050) + 0.5) / 44_100))[None].astype(np.float32)
    outputs = Outputs(
        {"a": tmp_path / "a.opus"}, 44_100, 1, format="opus", on_clip=on_clip, peak=1.0 if known else None
    )
    with outputs:
        for start in range(0, 22_050, 5_000):
            outputs.write({"a": square[:, start : start + 5_000]})
    assert outputs.samples == 22_050
    if on_clip == "gain":
        assert outputs.gain == pytest.approx(1 / np.abs(resample(square, 44_100, 48_000)).max(), rel=1e-6)
        assert outputs.gain < 0.95
        assert not outputs.clipped
    else:
        assert outputs.gain == 1
        assert outputs.clipped
    assert probe(tmp_path / "a.opus").samples == 24_000


def test_a_quiet_file_is_not_turned_down(loud: Separator, tmp_path: Path, mixture: Mixture) -> None:
    write_audio(tmp_path / "q.wav", mixture(0.5, 44100, 2, level=0.1), 44100)
    (result,) = loud.separate_files(
        tmp_path / "q.wav", "a", tmp_path / "out", output=OutputOptions(on_clip="float")
    ).results
    assert probe(result.outputs["a"]).depth == "16"
    assert result.gain == 1.0


def test_float_inputs_stay_floats_beyond_full_scale(loud: Separator, tmp_path: Path, mixture: Mixture) -> None:
    write_audio(tmp_path / "f.wav", mixture(0.5, 44100, 2), 44100, depth="float")
    (result,) = loud.separate_files(tmp_path / "f.wav", "a", tmp_path / "out").results
    assert (result.gain, probe(result.outputs["a"]).depth) == (1.0, "float")
    assert np.abs(read_audio(result.outputs["a"])[0]).max() > 1.1


# ---- many files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path, mixture: Mixture) -> Path:
    folder = tmp_path / "album"
    (folder / "disc 2").mkdir(parents=True)
    write_audio(folder / "a.wav", mixture(0.5), 16000)
    write_audio(folder / "disc 2" / "b.flac", mixture(1.0), 16000)
    (folder / "bad.wav").write_bytes(b"RIFF nothing")
    (folder / "cover.jpg").write_bytes(b"picture")
    (folder / "._a.wav").write_bytes(b"finder")
    return folder


def test_folders_are_searched_and_mirrored(separator: Separator, album: Path) -> None:
    out = album / "separated"
    report = separator.separate_files(album, "piano", out)
    assert [result.input.name for result in report.results] == ["a.wav", "b.flac"]
    assert list(report.failures) == [album / "bad.wav"]
    expected = ["a (piano).wav", "a (without piano).wav", "disc 2/b (piano).wav", "disc 2/b (without piano).wav"]
    assert names(out) == expected
    with pytest.raises(BatchError, match="1 of 3 files failed") as caught:
        report.raise_for_failures()
    assert caught.value.successes == [album / "a.wav", album / "disc 2" / "b.flac"]
    again = separator.separate_files([album, album / "a.wav"], "piano", out, output=OutputOptions(overwrite=True))
    assert len(again.results) == 2  # neither the outputs nor a file twice
    assert names(out) == expected


def test_outputs_do_not_go_among_the_recordings_of_a_folder(separator: Separator, album: Path) -> None:
    """Where they could not be told from recordings, the next run would separate them again."""
    before = names(album)
    for inputs, out in (
        (album, album),
        ([album / "a.wav", album], album),
        ([album, album / "disc 2"], album / "disc 2"),
    ):
        with pytest.raises(InputError, match="taken for recordings the next time"):
            separator.separate_files(inputs, "piano", out)
    (album / album.name).mkdir()
    write_audio(album / album.name / "c.wav", np.ones((1, 100), np.float32), 16000)
    with pytest.raises(InputError, match="taken for recordings the next time"):
        separator.separate_files(album, "piano", album.parent)  # c's outputs would lie in album
    (album / album.name / "c.wav").unlink()
    assert names(album) == before
    for _ in range(2):
        report = separator.separate_files(album, "piano", album.parent, output=OutputOptions(overwrite=True))
        assert [result.input.name for result in report.results] == ["a.wav", "b.flac"]
    named = separator.separate_files([album / "a.wav"], "piano", album)
    assert named.results[0].outputs["piano"] == album / "a (piano).wav"


def test_errors_are_collected(separator: Separator, album: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    inputs = [tmp_path / "none.wav", album / "cover.jpg", empty, album / "a.wav"]
    report = separator.separate_files(inputs, "piano", tmp_path / "out")
    assert [result.input for result in report.results] == [album / "a.wav"]
    assert {path.name: type(error) for path, error in report.failures.items()} == {
        "none.wav": AudioError, "cover.jpg": AudioError, "empty": InputError,
    }  # fmt: skip


def test_existing_outputs_are_kept_without_overwrite(separator: Separator, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a (without piano).wav").write_text("precious")
    report = separator.separate_files(album / "a.wav", "piano", out)
    assert isinstance(report.failures[album / "a.wav"], AudioError)
    assert names(out) == ["a (without piano).wav"]
    assert (out / "a (without piano).wav").read_text() == "precious"
    separator.separate_files(album / "a.wav", "piano", out, output=OutputOptions(overwrite=True)).raise_for_failures()
    assert probe(out / "a (without piano).wav").samples == 8000


def test_inputs_and_other_outputs_are_never_overwritten(separator: Separator, tmp_path: Path, mixture: Mixture) -> None:
    x = mixture(0.3)
    for name in ("a.wav", "piano.wav", "a.flac"):
        write_audio(tmp_path / name, x, 16000)
    before = (tmp_path / "piano.wav").read_bytes()
    report = separator.separate_files(
        tmp_path / "piano.wav", "piano", tmp_path, output=OutputOptions(template="{stem}.{ext}", overwrite=True)
    )
    assert "is an input of this job" in str(report.failures[tmp_path / "piano.wav"])
    assert (tmp_path / "piano.wav").read_bytes() == before
    inputs = [tmp_path / "a.wav", tmp_path / "piano.wav"]
    with pytest.raises(InputError, match=r"put \{file\} into it"):
        separator.separate_files(inputs, "voice", tmp_path / "t", output=OutputOptions(template="{stem}.{ext}"))


def test_recordings_of_one_name_are_numbered(separator: Separator, tmp_path: Path, mixture: Mixture) -> None:
    folder, out = tmp_path / "in", tmp_path / "o"
    folder.mkdir()
    for i, name in enumerate(("song.flac", "song.wav", "SONG.aiff", "song (2).wav")):
        soundfile.write(folder / name, mixture(0.2, seed=i).T, 16000)
    (folder / "song.caf").write_bytes(b"damaged")
    inputs = [folder / name for name in ("song.flac", "song.wav", "song.caf", "SONG.aiff", "song (2).wav")]
    report = separator.separate_files(inputs, "piano", out, output=OutputOptions(residual=False))
    assert [result.outputs["piano"].name for result in report.results] == [
        "song (piano).wav", "song (2) (piano).wav", "SONG (4) (piano).wav", "song (2) (2) (piano).wav",
    ]  # fmt: skip
    assert list(report.failures) == [folder / "song.caf"]  # whose number stays its own
    for result in report.results:
        expected = separator.separate(result.input, "piano")["piano"]
        assert np.abs(read_audio(result.outputs["piano"])[0] - expected).max() <= 1 / 2**15
    again = separator.separate_files(inputs, "piano", out, output=OutputOptions(residual=False, overwrite=True))
    assert [result.outputs for result in again.results] == [result.outputs for result in report.results]
    report = separator.separate_files(
        inputs[:2], "piano", out, output=OutputOptions(template="{file}/{stem}.{ext}", residual=False, format="flac")
    )
    report.raise_for_failures()
    assert {"song/piano.flac", "song (2)/piano.flac"} <= set(names(out))
    report = separator.separate_files(inputs[:2], "piano", out, output=OutputOptions(template="{file:.3} {stem}.{ext}"))
    assert "put {file} into" in str(report.failures[inputs[1]])


def test_a_number_survives_the_shortening_of_a_long_name(
    separator: Separator, tmp_path: Path, mixture: Mixture
) -> None:
    inputs = [tmp_path / f"{'x' * 240}.{kind}" for kind in ("wav", "flac")]
    for path in inputs:
        write_audio(path, mixture(0.1), 16000)
    report = separator.separate_files(inputs, "piano", tmp_path / "o", output=OutputOptions(residual=False))
    report.raise_for_failures()
    first, second = (result.outputs["piano"].name for result in report.results)
    assert first.endswith("x (piano).wav")
    assert second.endswith("x (2) (piano).wav")


def test_progress_counts_all_samples(separator: Separator, album: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    separator.separate_files(album, "piano", tmp_path / "out", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert any(abs(fraction - 1 / 3) < 0.3 for fraction in seen)


@pytest.mark.parametrize("on_clip", ["gain", "clip"])
def test_cancelling_leaves_nothing_half_written(
    separator: Separator, tmp_path: Path, mixture: Mixture, on_clip: Any
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        write_audio(tmp_path / "in" / name, mixture(6.0), 16000)
    out = tmp_path / "out"
    with pytest.raises(Cancelled):
        separator.separate_files(
            tmp_path / "in",
            "piano",
            out,
            output=OutputOptions(on_clip=on_clip),
            progress=lambda fraction: fraction < 0.7,
        )
    assert names(out) == ["a (piano).wav", "a (without piano).wav"]

    def interrupt(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        separator.separate_files(
            tmp_path / "in", "voice", tmp_path / "x", output=OutputOptions(on_clip=on_clip), progress=interrupt
        )
    assert names(tmp_path / "x") == []


@pytest.mark.parametrize("on_clip", ["gain", "clip"])
def test_a_file_that_fails_midway_leaves_nothing(
    identity: Separator, tmp_path: Path, mixture: Mixture, on_clip: Any
) -> None:
    x = mixture(6.0)
    x[1, 90_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", x.T, 16000, subtype="FLOAT")
    report = identity.separate_files(tmp_path / "nan.wav", "a", tmp_path / "out", output=OutputOptions(on_clip=on_clip))
    assert isinstance(report.failures[tmp_path / "nan.wav"], InputError)
    assert names(tmp_path / "out") == []


def test_max_seconds(separator: Separator, album: Path, tmp_path: Path) -> None:
    report = separator.separate_files(album, "piano", tmp_path / "out", output=OutputOptions(max_seconds=0.7))
    assert [result.input.name for result in report.results] == ["a.wav"]
    assert "max_seconds" in str(report.failures[album / "disc 2" / "b.flac"])
    assert not separator.separate_files(album, "piano", tmp_path / "none", output=OutputOptions(max_seconds=0)).results


def test_standard_input_and_output(separator: Separator, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    sound = io.BytesIO()
    pipes = Pipe(io.BytesIO((album / "a.wav").read_bytes())), Pipe(sound)
    monkeypatch.setattr(sys, "stdin", pipes[0])
    monkeypatch.setattr(sys, "stdout", pipes[1])
    report = separator.separate_files("-", "piano", "-")
    monkeypatch.undo()
    report.raise_for_failures()
    assert report.results[0].outputs == {"piano": Path("-")}
    expected = separator.separate(album / "a.wav", "piano")["piano"]
    assert np.abs(soundfile.read(io.BytesIO(sound.getvalue()))[0].T - expected).max() < 1e-4
    report = separator.separate_files(album / "a.wav", ["piano", "voice"], "-")
    assert "one output" in str(report.failures[album / "a.wav"])
    with pytest.raises(InputError, match="one recording, not 3"):
        separator.separate_files(album, "piano", "-")


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    wanted = ["a/b", "con", "..", "x" * 400, "é" * 200, "Piano", "piano", "tab\there", 'quo"te', "ends. ", "🎹" * 100]
    wanted += ["con .x", "e\u0301"]
    paths = plan_outputs(tmp_path, wanted, file="AUX", format="wav", template="{stem}.{ext}")
    assert len({str(path).casefold() for path in paths.values()}) == len(wanted)
    for path in paths.values():
        assert path.parent == tmp_path
        assert len(path.name.encode()) <= 255
        path.write_bytes(b"")
    found = {name: path.name for name, path in paths.items()}
    assert found["a/b"] == "a_b.wav"
    assert found["con"] == "con_.wav"
    (deep,) = plan_outputs("o", ["nul." + "x" * 300], file="aux", format="wav", template="{file}/{stem}.{ext}").values()
    assert deep.parts[:2] == ("o", "aux_")
    assert deep.name.startswith("nul_.xxx")
    assert len(deep.name) == 255
    assert found[".."] == "_.wav"
    assert found["piano"] == "piano (2).wav"
    assert found["ends. "] == "ends.wav"
    assert found["con .x"] == "con _.x.wav"
    assert found["e\u0301"] == "\xe9.wav"


def test_a_folder_that_cannot_be_made(separator: Separator, song: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    report = separator.separate_files(song, "piano", tmp_path / "taken" / "out")
    assert "cannot be made" in str(report.failures[song])
    with pytest.raises(AudioError, match="cannot be made"):
        separator.separate(song, "piano").save(tmp_path / "taken")


@given(name=st.text(max_size=300), file=st.text(max_size=120))
def test_any_name_becomes_a_file_name(name: str, file: str) -> None:
    (path,) = plan_outputs("out", [name], file=file, format="flac").values()
    assert path.parent == Path("out")
    assert len(path.name.encode()) <= 255
    assert not set('<>:"/\\|?*\0') & set(path.name)
    assert path.name.endswith(").flac")
    assert path.name == os.fsdecode(os.fsencode(path.name))


def test_a_template_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="255 bytes"):
        plan_outputs(tmp_path, ["a"], file="f", format="wav", template="{stem}" + "x" * 300)


# ---- results in memory ---------------------------------------------------------------------------------------------


def test_a_separation_is_a_mapping(mixture: Mixture) -> None:
    x, y = mixture(0.1), mixture(0.1, seed=1)
    out = Separation({"a": x, "b": y}, x + y, 16000)
    assert dict(out) == {"a": x, "b": y} or list(out) == ["a", "b"]
    assert np.abs(out.residual).max() < 1e-6
    assert np.abs(out.rest("a") - y).max() < 1e-6
    assert "c" not in out
    assert repr(out) == "Separation('a', 'b'; (2, 1600) at 16000 Hz)"
    with pytest.raises(KeyError):
        out.rest("c")


def test_saving_arrays_as_floats(mixture: Mixture, tmp_path: Path) -> None:
    x = 3 * mixture(0.1, channels=1)[0]
    paths = Separation({"a": x}, x, 16000).save(tmp_path)
    assert [path.name for path in paths] == ["audio (a).wav", "audio (without a).wav"]
    assert np.array_equal(read_audio(paths[0])[0][0], x)
    with pytest.raises(AudioError, match="exists already"):
        Separation({"a": x}, x, 16000).save(tmp_path)
    with pytest.raises(InputError, match="unknown format"):
        Separation({"a": x}, x, 16000).save(tmp_path, format="doc")
    with pytest.raises(InputError, match="would be a folder"):
        Separation({"a": x}, x, 16000).save(tmp_path / "a.wav")
    (tmp_path / "album.wav").mkdir()
    assert Separation({"a": x}, x, 16000).save(tmp_path / "album.wav")


def test_outputs_appear_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiosep.audio import AudioWriter

    closed: Iterator[int] = iter(range(10))
    close = AudioWriter.close

    def full(self: AudioWriter) -> None:
        if next(closed) == 1:
            raise AudioError("no space left")
        close(self)

    monkeypatch.setattr(AudioWriter, "close", full)
    outputs = Outputs({name: tmp_path / f"{name}.wav" for name in "abc"}, 16000, 1)
    outputs.write({name: np.zeros((1, 100), np.float32) for name in "abc"})
    with pytest.raises(AudioError, match="no space"):
        outputs.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_replaced_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, links: bool
) -> None:
    (tmp_path / "a.wav").write_text("old a")
    (tmp_path / "c.wav").write_text("old c")
    replace = PendingFile.commit
    placed: Iterator[int] = iter(range(10))

    def full(self: PendingFile) -> None:
        if next(placed) == fails_at:
            raise AudioError("no space left")
        replace(self)

    def unsupported(*args: Any, **kwargs: Any) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(PendingFile, "commit", full)
    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    outputs = Outputs({name: tmp_path / f"{name}.wav" for name in "abc"}, 16000, 1, overwrite=True)
    outputs.write({name: np.zeros((1, 100), np.float32) for name in "abc"})
    with pytest.raises(AudioError, match="no space"):
        outputs.close()
    assert names(tmp_path) == ["a.wav", "c.wav"]
    assert [(tmp_path / name).read_text() for name in ("a.wav", "c.wav")] == ["old a", "old c"]
    monkeypatch.setattr(PendingFile, "commit", replace)
    with Outputs({name: tmp_path / f"{name}.wav" for name in "abc"}, 16000, 1, overwrite=True) as outputs:
        outputs.write({name: np.zeros((1, 100), np.float32) for name in "abc"})
    assert names(tmp_path) == ["a.wav", "b.wav", "c.wav"]
    assert all(probe(tmp_path / f"{name}.wav").samples == 100 for name in "abc")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("fails", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    out, disk = tmp_path / "out", tmp_path / "disk"
    out.mkdir()
    disk.mkdir()
    (disk / "a.wav").write_text("old a")
    (out / "a.wav").symlink_to(disk / "a.wav")
    commit = PendingFile.commit

    def full(self: PendingFile) -> None:
        if fails and self.path.name == "b.wav":
            raise AudioError("no space left")
        commit(self)

    monkeypatch.setattr(PendingFile, "commit", full)
    outputs = Outputs({name: out / f"{name}.wav" for name in "ab"}, 16000, 1, overwrite=True)
    outputs.write({name: np.zeros((1, 100), np.float32) for name in "ab"})
    if fails:
        with pytest.raises(AudioError, match="no space"):
            outputs.close()
        assert (disk / "a.wav").read_text() == "old a"
    else:
        outputs.close()
        assert probe(disk / "a.wav").samples == 100
    assert (out / "a.wav").is_symlink()
    assert names(tmp_path) == (["disk/a.wav", "out/a.wav"] + ([] if fails else ["out/b.wav"]))


def test_an_old_file_that_cannot_be_put_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.wav").write_text("old a")
    outputs = Outputs({name: tmp_path / f"{name}.wav" for name in "ab"}, 16000, 1, overwrite=True)
    outputs.write({name: np.zeros((1, 100), np.float32) for name in "ab"})
    placed: Iterator[int] = iter(range(10))
    commit, replace = PendingFile.commit, Path.replace

    def full(self: PendingFile) -> None:
        if next(placed):
            raise AudioError("no space left")
        commit(self)

    def stuck(self: Path, target: Path) -> Path:
        if self.suffix == ".old":
            raise OSError("the disk is gone")
        return replace(self, target)

    monkeypatch.setattr(PendingFile, "commit", full)
    monkeypatch.setattr(Path, "replace", stuck)
    with pytest.raises(AudioError, match="no space"):
        outputs.close()
    (old,) = tmp_path.glob(".audiosep-*.old")
    assert old.read_text() == "old a"
    assert str(old) in caplog.text


def test_what_another_program_wrote_meanwhile_stays(tmp_path: Path) -> None:
    outputs = Outputs({name: tmp_path / f"{name}.wav" for name in "abc"}, 16000, 1)
    outputs.write({name: np.zeros((1, 100), np.float32) for name in "abc"})
    (tmp_path / "b.wav").write_text("theirs")
    with pytest.raises(AudioError, match="exists already"):
        outputs.close()
    assert names(tmp_path) == ["b.wav"]
    assert (tmp_path / "b.wav").read_text() == "theirs"
