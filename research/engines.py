"""The same window of a network on other engines than ours: torch.compile, ONNX Runtime, OpenVINO; also in 8 bits.

python -m research.engines -m mini examples/audio/song.flac --query vocals --runs 5

Engines whose package is not installed are left out. Runs take turns, so that what else happens falls on all alike.
Quality is the SNR of the masked spectrum against torch in float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.api import load
from audiosep.audio import read_audio
from audiosep.audio.resampling import resample
from audiosep.audio.synthetic import tone_and_noise
from audiosep.errors import InputError, counted
from audiosep.export.onnx import export
from audiosep.inference.devices import running
from audiosep.inference.openvino import compile_graph
from audiosep.inference.threads import use_threads
from audiosep.models.mask_graph import MaskGraph
from audiosep.models.stft import power, stft
from audiosep.query.resolve import resolve
from audiosep.separator import Separator

QUERY = "speech"
CALIBRATION = 6  # windows that set the ranges of 8-bit activations

Feed = dict[str, NDArray[np.float32]]
Engine = Callable[[Feed], NDArray[np.float32]]


@dataclass(frozen=True)
class Score:
    """One engine: median seconds a window, least and largest, and the SNR of its output in dB."""

    name: str
    seconds: float
    fastest: float
    slowest: float
    snr_db: float


def compare_engines(separator: Separator, sound: NDArray[np.float32], query: str = QUERY, runs: int = 5) -> list[Score]:
    """Time and quality of one window with one query on every engine that is installed.

    Args:
        separator: on the CPU.
        sound: (samples,) at the model's rate; its first window is timed, `CALIBRATION` more are for 8 bits.
        query: the text query.
        runs: timed runs of each engine, after one that is not.

    Returns:
        The reference, torch in float32, comes first.
    """
    feeds = _windows(separator, sound, query)
    spectrum = np.sqrt(feeds[0]["power"])
    with tempfile.TemporaryDirectory(prefix="audiosep-engines-") as folder:
        engines = dict(_engines(separator, feeds[1:], Path(folder)))
        masks, times = {}, {name: list[float]() for name in engines}
        for name, engine in engines.items():
            masks[name] = engine(feeds[0])
        for _ in range(runs):
            for name, engine in engines.items():
                began = time.perf_counter()
                engine(feeds[0])
                times[name].append(time.perf_counter() - began)
    reference = masks["torch fp32"]
    return [
        Score(name, statistics.median(t), min(t), max(t), _snr(masks[name] * spectrum, reference * spectrum))
        for name, t in times.items()
    ]


def _windows(separator: Separator, sound: NDArray[np.float32], query: str) -> list[Feed]:
    model = separator.model
    if separator.encoder is None:
        raise InputError(f"{separator.name} takes no queries: name a model that does")
    resolved = resolve(query, separator.encoder, None)
    n_fft, length = int(model.config.n_fft), model.window
    if len(sound) < length:
        sound = np.tile(sound, -(-length // len(sound)))
    queries = {"embeddings": resolved.embeddings, "negatives": resolved.negatives}
    feeds = []
    for start in np.linspace(0, len(sound) - length, CALIBRATION + 1).astype(int):
        spectrum = stft(torch.from_numpy(sound[None, start : start + length]), n_fft, model.hop)
        feeds.append({"power": power(spectrum)[0].numpy(), **{k: v.numpy() for k, v in queries.items()}})
    return feeds


# ---- engines -------------------------------------------------------------------------------------------------------


def _engines(separator: Separator, calibration: list[Feed], folder: Path) -> Iterator[tuple[str, Engine]]:
    graph = MaskGraph(separator.model).eval()
    yield "torch fp32", _torch(graph, "fp32")
    yield "torch bf16", _torch(graph, "bf16")
    # Blocks of one class have more sizes than it compiles for by default.
    limits = torch.compiler.config
    if hasattr(limits, "recompile_limit"):
        limits.recompile_limit = max(64, limits.recompile_limit)
    yield "torch.compile fp32", _torch(torch.compile(graph), "fp32")
    yield "torch.compile bf16", _torch(torch.compile(graph), "bf16")
    if not _missing("onnx", "onnxruntime"):
        path = export(separator, folder / "model.onnx").path
        yield "ONNX Runtime fp32", _onnxruntime(path)
        yield "ONNX Runtime int8", _onnxruntime(_in_8_bits(path, calibration))
    if not _missing("openvino"):
        yield "OpenVINO fp32", _openvino(graph, "fp32")
        yield "OpenVINO bf16", _openvino(graph, "bf16")


def _torch(graph: Callable[..., tuple[Tensor, ...]], precision: str) -> Engine:
    def run(feed: Feed) -> NDArray[np.float32]:
        inputs = [torch.from_numpy(x) for x in feed.values()]
        with torch.inference_mode(), running(torch.device("cpu"), precision):
            return graph(*inputs)[0].float().numpy()

    return run


def _onnxruntime(path: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: np.asarray(session.run(["mask"], feed)[0])


def _in_8_bits(path: Path, calibration: list[Feed]) -> Path:
    """Convolutions in 8 bits, a scale for each channel of the weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Windows(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> Feed | None:
            return next(self.left, None)

    prepared, small = path.with_suffix(".prepared.onnx"), path.with_suffix(".int8.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(small), Windows(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "ConvTranspose"],
    )  # fmt: skip
    return small


def _openvino(graph: MaskGraph, precision: str) -> Engine:
    run = compile_graph(graph, precision)
    return lambda feed: run(*(torch.from_numpy(x) for x in feed.values()))["mask"].numpy()


def _missing(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


def _snr(estimate: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    error = float(np.square(estimate - reference, dtype=np.float64).sum())
    return float(10 * np.log10(np.square(reference, dtype=np.float64).sum() / max(error, 1e-30)))


def main(arguments: list[str] | None = None) -> None:
    """See the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.engines", description=__doc__)
    parser.add_argument("recording", nargs="?", help="what is separated; a test sound by default")
    parser.add_argument("-m", "--model", default="mini")
    parser.add_argument("--query", "-q", default=QUERY, help=f"({QUERY})")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="as many as are sane by default")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        raise InputError("--runs must be greater than 0")
    threads = use_threads(options.threads)
    separator = load(options.model, "cpu", "fp32")
    rate = separator.model.sample_rate
    if options.recording is None:
        sound = tone_and_noise(90 * rate, rate).mean(0)
    else:
        audio, its_rate = read_audio(options.recording)
        sound = resample(audio, its_rate, rate).mean(0)
    scores = compare_engines(separator, sound, options.query, options.runs)
    ours = scores[0].seconds
    seconds = separator.model.window / rate
    lines = [f"{separator.name}, one window of {seconds:.1f} s, query {options.query!r}, {counted(threads, 'thread')}"]
    for score in scores:
        spread = f"({1000 * score.fastest:.0f} to {1000 * score.slowest:.0f})"
        quality = "" if score is scores[0] else f"  {score.snr_db:5.1f} dB"
        lines.append(
            f"{score.name:20} {1000 * score.seconds:7.0f} ms {spread:16} {ours / score.seconds:5.2f} x{quality}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
