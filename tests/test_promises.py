"""The nine promises to users, one test (or property test) each. Details are tested beside the code that keeps them."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Mixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audiosep
from audiosep.audio import AudioWriter, probe, read_audio, write_audio
from audiosep.errors import AudioError, InputError, ModelError, QueryError
from audiosep.inference.options import Options
from audiosep.separator import Separator
from audiosep.weights import catalogue
from research.memory import peak, write_sound

TESTS = Path(__file__).parent


def noise(samples: int, channels: int = 2, seed: int = 0) -> Any:
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


# ---- 1. Same length, start, sample rate, channels as the input -----------------------------------------------------


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.one_of(st.integers(1, 50), st.integers(1, 40_000)),
    channels=st.integers(1, 8),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
)
def test_1_length_start_rate_and_channels(identity: Separator, samples: int, channels: int, rate: int) -> None:
    x = noise(samples, channels)
    out = identity.separate(x, "anything", sample_rate=rate)
    assert out["anything"].shape == x.shape
    if rate >= identity.sample_rate:  # below it, resampling dulls the last tenth of the band
        assert np.abs(out["anything"] - x).max() < 1e-6


@pytest.mark.parametrize("name", ["one sample.wav", "eight channels.wav", "96 kHz.flac", "gapless.mp3", "talk.mp4"])
def test_1_files(separator: Separator, mixture: Mixture, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "talk.mp4":
        video(path, mixture(1.0, 44100, 2))
    else:
        rate = 96000 if "96" in name else 44100
        x = mixture(1.0, rate, 8 if "eight" in name else 2)[:, : 1 if "one" in name else None]
        write_audio(path, x, rate)
    before, (rate, whole) = path.read_bytes(), read_audio(path)[::-1]
    (result,) = separator.separate_files(path, "piano", tmp_path / "out").results
    for output in result.outputs.values():
        info = probe(output)
        assert (info.samples, info.sample_rate, info.channels) == (whole.shape[1], rate, whole.shape[0])
    total = sum(read_audio(output)[0] for output in result.outputs.values())
    assert np.abs(total - whole).max() <= 2 / 2**15  # sums only match where nothing is shifted
    assert path.read_bytes() == before


def video(path: Path, x: Any) -> None:
    """A film with two audio streams, of which `x` is the first."""
    av = pytest.importorskip("av", reason="videos need the extra formats")
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5)
        pictures.width = pictures.height = 64
        sounds = [container.add_stream("aac", rate=44100, layout="stereo") for _ in range(2)]
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(pictures.encode(picture))
        for sound, samples in zip(sounds, (x, 0 * x), strict=True):
            for start in range(0, x.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples[:, start : start + 1024]), format="fltp", layout="stereo"
                )
                frame.sample_rate, frame.pts = 44100, start
                container.mux(sound.encode(frame))
        for stream in (pictures, *sounds):
            container.mux(stream.encode(None))


# ---- 2. Sums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 32000, 44100])
@pytest.mark.parametrize("which", ["separator", "mini"])
def test_2_sums(request: pytest.FixtureRequest, mixture: Mixture, which: str, rate: int) -> None:
    model: Separator = request.getfixturevalue(which)
    x = mixture(1.5, rate, 2)
    out = model.separate(x, ["speech", "male speech"], sample_rate=rate)
    assert within_ulps([*out.values(), out.residual], x)
    assert within_ulps([out["speech"], out.rest("speech")], x)
    alone = model.separate(x, "speech", sample_rate=rate)
    assert np.abs(alone["speech"] - out["speech"]).max() < 1e-6  # queries are independent
    stems = model.stems(x, sample_rate=rate)
    assert within_ulps(list(stems.values()), x)
    assert all(np.abs(stem).max() > 1e-3 for stem in stems.values())


def within_ulps(parts: list[Any], x: Any, ulps: int = 2) -> bool:
    largest = np.max([np.abs(part) for part in (*parts, x)], axis=0)
    return bool((np.abs(sum(parts) - x) <= ulps * np.spacing(largest)).all())


def test_2_nothing_wraps_and_one_gain_holds_for_all(separator: Separator, tmp_path: Path) -> None:
    x = np.sign(noise(44100)) * np.float32(1.0)
    write_audio(tmp_path / "loud.wav", x, 44100)
    (result,) = separator.separate_files(tmp_path / "loud.wav", ["a", "b", "c"], tmp_path / "out").results
    assert result.gain < 1
    assert result.clipped == 0
    original = read_audio(tmp_path / "loud.wav")[0]
    total = sum(read_audio(output)[0] for output in result.outputs.values())
    assert np.abs(total - result.gain * original).max() <= 4 / 2**15


# ---- 3. Memory is O(window), not O(song) -----------------------------------------------------------------------------

TINY = """
import sys
sys.path.insert(0, sys.argv[1])
from audiosep.inference.memory import peak_memory
from doubles import FakeEncoder, TinyConfig, TinyModel
from audiosep.separator import Separator
separator = Separator(TinyModel(TinyConfig(channels=1, window=64 * 2500)), FakeEncoder(), "cpu", "fp32")
separator.separate_files(sys.argv[2], "piano", sys.argv[3]).raise_for_failures()
print(peak_memory())
"""

EMBEDDED = """
import sys
from audiosep.cli import command
from audiosep.inference.memory import peak_memory
options = ["--device", "cpu", "--threads", "2", "--quiet"]  # each thread has memory of its own
sys.argv[1:] = [*sys.argv[4:], sys.argv[2], "--out", sys.argv[3], *options]
try:
    command()
finally:
    print(peak_memory())
"""


def peak_of(code: str, path: Path, *arguments: str) -> int:
    """The peak of memory, in bytes, of a process that separates `path`."""
    out = path.with_suffix("")
    command = [sys.executable, "-c", code, str(TESTS), str(path), str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(out)
    return int(done.stdout.splitlines()[-1])


def minutes_of_sound(path: Path, minutes: int, rate: int, channels: int) -> Path:
    with AudioWriter(path, rate, channels) as writer:
        for block in range(minutes):
            writer.write(noise(60 * rate, channels, seed=block))
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX for the peak of memory")
def test_3_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = {}
    for minutes in (10, 60):
        path = minutes_of_sound(tmp_path / f"{minutes}.wav", minutes, 22050, 1)
        peaks[minutes] = peak_of(TINY, path)
        path.unlink()
    assert peaks[60] <= 1.1 * peaks[10], peaks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX for the peak of memory")
@pytest.mark.skipif(catalogue.installed("mini") is None, reason="the embedded model is not in this checkout")
@pytest.mark.parametrize("verb", ["separate -q speech -q piano", "stems"])
def test_3_the_embedded_model_keeps_its_memory(tmp_path: Path, verb: str) -> None:
    """Four more minutes of stereo at 44.1 kHz are 85 MB for the mixture, and as many for each target."""
    one, five = (
        peak_of(EMBEDDED, minutes_of_sound(tmp_path / f"{minutes}.wav", minutes, 44100, 2), *verb.split())
        for minutes in (1, 5)
    )
    assert five <= 900e6
    assert five <= one + 60e6, (one, five)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX for the peak of memory")
@pytest.mark.skipif(catalogue.installed("mini") is None, reason="the embedded model is not in this checkout")
@pytest.mark.parametrize(
    ("work", "channels", "rate"), [("16", 2, 44100), ("16", 8, 192000), ("stems", 8, 192000), ("4", 8, 96000)]
)
def test_3_queries_channels_and_rates_fit_into_the_promise(tmp_path: Path, work: str, channels: int, rate: int) -> None:
    sound = write_sound(tmp_path / "sound.wav", channels, rate, 21)
    options = [] if work == "stems" else ["--quality", "fast"]
    assert peak(work, sound, "--threads", "2", *options) <= 900e6


# ---- 4. Deterministic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_4_the_same_bytes_every_time(mini_folder: Path, mixture: Mixture, precision: str) -> None:
    x = mixture(3.0, 44100, 2)
    runs = [audiosep.load(mini_folder, "cpu", precision).separate(x, "piano", sample_rate=44100) for _ in range(2)]
    assert runs[0]["piano"].tobytes() == runs[1]["piano"].tobytes()
    assert runs[0].presence == runs[1].presence


def test_4_batches_agree(mini: Separator, mixture: Mixture) -> None:
    x = mixture(5.0, 32000, 2)
    one = mini.separate(x, ["piano", "dog"], sample_rate=32000, options=Options(batch=1))
    for batch in (2, 3):
        other = mini.separate(x, ["piano", "dog"], sample_rate=32000, options=Options(batch=batch))
        for name in one:
            assert np.abs(other[name] - one[name]).max() <= 1e-5 * np.abs(one[name]).max()


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.integers(1, 80_000), block=st.integers(1, 30_000))
def test_4_an_identity_model_returns_its_input(identity: Separator, samples: int, block: int) -> None:
    x = noise(samples, 1)
    stream = identity.stream("a", sample_rate=identity.sample_rate, channels=1)
    parts = [stream.push(x[:, start : start + block]) for start in range(0, samples, block)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()], -1)[0], x)


# ---- 5. Silence, NaN, whole or not at all ----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 32000, 44100])
@pytest.mark.parametrize("which", ["separator", "mini"])
def test_5_silence_in_silence_out(request: pytest.FixtureRequest, which: str, rate: int, mixture: Mixture) -> None:
    model: Separator = request.getfixturevalue(which)
    silence = np.zeros((2, 3 * rate), np.float32)
    out = model.separate(silence, ["a dog", "piano"], sample_rate=rate)
    assert not any(target.any() for target in (*out.values(), out.residual))
    assert not any(stem.any() for stem in model.stems(silence, sample_rate=rate).values())
    assert out.presence == {"a dog": 0.0, "piano": 0.0}
    x = mixture(4.0, rate, 2)
    x[:, : 2 * rate] = 0
    late = model.separate(x, "piano", sample_rate=rate)["piano"]
    assert not late[:, : 2 * rate - rate // 4].any()
    assert late.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_5_what_is_not_finite_is_refused(separator: Separator, bad: float) -> None:
    x = noise(1000)
    x[1, 77] = bad
    for mix in (x, torch.from_numpy(x)):
        with pytest.raises(InputError, match="sample 77"):
            separator.separate(mix, "piano", sample_rate=16000)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from doubles import FakeEncoder, TinyModel
from audiosep import OutputOptions, Separator

def halt(fraction):
    if fraction > 0.3:
        print("on the way", flush=True)
        time.sleep(600)

separator = Separator(TinyModel(), FakeEncoder(), "cpu", "fp32")
output = OutputOptions(on_clip=sys.argv[4])
separator.separate_files(sys.argv[2], ["piano", "voice"], sys.argv[3], output=output, progress=halt)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process with a POSIX signal")
@pytest.mark.parametrize("on_clip", ["clip", pytest.param("gain", marks=pytest.mark.slow)])
def test_5_outputs_appear_whole_or_not_at_all(tmp_path: Path, on_clip: str) -> None:
    write_audio(tmp_path / "long.wav", noise(16000 * 20, 1), 16000)
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(TESTS), str(tmp_path / "long.wav"), str(out), on_clip]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on the way\n"
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []


def test_5_one_bad_file_does_not_stop_the_others(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    write_audio(tmp_path / "good.wav", noise(1000), 16000)
    report = separator.separate_files([tmp_path / "bad.wav", tmp_path / "good.wav"], "a", tmp_path / "out")
    assert isinstance(report.failures[tmp_path / "bad.wav"], AudioError)
    assert [result.input.name for result in report.results] == ["good.wav"]


# ---- 6. No network unless asked --------------------------------------------------------------------------------------


def test_6_no_network(mini_folder: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    separator = audiosep.load(mini_folder, device="cpu")
    out = separator.separate(mixture(0.5, 44100), "a dog barking", sample_rate=44100)
    assert np.isfinite(out["a dog barking"]).all()
    for name in ("audiosep-base", "someone/model"):
        with pytest.raises(ModelError, match="models download"):
            audiosep.load(name)


# ---- 7. Foreign pickles only through `convert` -----------------------------------------------------------------------


def test_7_only_convert_opens_pickles() -> None:
    package = Path(audiosep.__file__).parent
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] == "convert":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & {"pickle", "dill", "joblib", "yaml", "shelve", "marshal"}, path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            words = {k.arg: ast.unparse(k.value) for k in call.keywords}
            if ast.unparse(call.func) == "torch.load":
                assert words.get("weights_only") == "True", path
            assert words.get("allow_pickle") != "True", path


# ---- 8. A query that the model did not understand is an error --------------------------------------------------------


@pytest.mark.parametrize("fault", ["missing", "truncated", "empty", "another"])
@pytest.mark.parametrize("file", ["tokenizer.json", "clap.safetensors"])
def test_8_a_damaged_encoder_is_an_error(mini_folder: Path, tmp_path: Path, file: str, fault: str) -> None:
    folder = shutil.copytree(mini_folder, tmp_path / "damaged")
    data = (folder / file).read_bytes()
    (folder / file).unlink()
    if fault == "truncated":
        (folder / file).write_bytes(data[: len(data) // 2])
    elif fault == "empty":
        (folder / file).write_bytes(b"")
    elif fault == "another":
        content = json.loads((mini_folder / "tokenizer.json").read_text())
        content["model"]["vocab"] = {"[PAD]": 0, "[UNK]": 1}
        (folder / file).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        audiosep.load(folder, device="cpu")


def test_8_prompts_that_embed_alike_are_an_error(mini: Separator) -> None:
    assert mini.encoder is not None
    with torch.no_grad():
        mini.encoder.tower.words.weight["int8"][:] = 1  # type: ignore[attr-defined]
        mini.encoder.tower.words.weight["scale"][:] = 1.0  # type: ignore[attr-defined]
    with pytest.raises(QueryError, match="same embedding"):
        Separator(mini.model, mini.encoder, "cpu")


# ---- 9. Import is cheap ----------------------------------------------------------------------------------------------

OFFLINE = """
import pathlib, sys
import numpy, audiosep
assert not {"torch", "transformers"} & set(sys.modules), "import audiosep"
separator = audiosep.load(sys.argv[1], device="cpu")
out = separator.separate(numpy.ones((2, 4000), "float32"), audiosep.Query("piano", negative="voice"), sample_rate=44100)
out.save(sys.argv[2])
paths = [path for path in pathlib.Path(sys.argv[2]).iterdir()]
separator.separate_files(paths, None, sys.argv[2] + "/stems")
loaded = {name.split(".")[0] for name in sys.modules}
heavy = {"transformers", "huggingface_hub", "torchaudio", "accelerate", "laion_clap", "matplotlib", "scipy"}
assert not heavy & loaded, heavy & loaded
"""


def test_9_import_is_cheap_and_mini_never_imports_transformers(mini_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", OFFLINE, str(mini_folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "stems").iterdir())) == 8
