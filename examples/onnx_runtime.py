"""Separate with numpy and ONNX Runtime only: no torch, no audiosep.

    audiosep export mini.onnx --query speech --query guitar      # once, where audiosep is installed
    python examples/onnx_runtime.py mini.onnx song.wav --query speech --out out

The recording is a 16-bit wav file of any sample rate. A query is the name of an embedding in the model's file, or a
.npy file with one.
"""

from __future__ import annotations

import argparse
import json
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime


def main(arguments: Sequence[str] | None = None) -> None:
    """Separate one recording."""
    parser = argparse.ArgumentParser(description="Separate with numpy and ONNX Runtime only.")
    parser.add_argument("model", type=Path, help="file made by `audiosep export`")
    parser.add_argument("recording", type=Path, help="16-bit wav file")
    parser.add_argument("--query", action="append", default=[], help="name in the model's file, or a .npy file")
    parser.add_argument("--not", dest="negative", help="a query to keep out of the targets")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    options = parser.parse_args(arguments)
    model = Model(options.model)
    mix, rate = read_wav(options.recording)
    names = model.about["targets"] or [Path(query).stem for query in options.query]
    if not names:
        raise SystemExit(f"name a --query: {', '.join(model.about['queries']) or 'a .npy file'}")
    embeddings = np.stack([model.embedding(query) for query in options.query or names])
    negatives = np.zeros_like(embeddings)
    if options.negative:
        negatives[:] = model.embedding(options.negative)

    low = resample(mix, rate, model.about["sample_rate"])
    targets = model.separate(low, embeddings, negatives)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, target in zip(names, targets, strict=True):
        path = options.out / f"{options.recording.stem} ({name}).wav"
        write_wav(path, resample(target, model.about["sample_rate"], rate, mix.shape[1]), rate)
        print(path)


class Model:
    """A file of `audiosep export`.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["audiosep"])
        self.outputs = [output.name for output in self.session.get_outputs()]

    def embedding(self, query: str) -> np.ndarray:
        """(dimension,) of a named query or a .npy file; stems have none."""
        if self.about["targets"]:
            return np.zeros(self.about["dimension"], np.float32)
        if query in self.about["queries"]:
            return np.asarray(self.about["queries"][query], np.float32)
        if not query.endswith(".npy"):
            raise SystemExit(f"the file knows {', '.join(self.about['queries']) or 'no queries'}, not {query!r}")
        vector = np.load(query).astype(np.float32).reshape(-1)
        return vector / np.linalg.norm(vector)

    def separate(self, mix: np.ndarray, embeddings: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """(channels, samples) at the model's rate -> (queries, channels, samples), window by window.

        Near its edges a window has too little context, so its outer `context` samples are not used.
        """
        about, samples = self.about, mix.shape[1]
        step = (about["window"] - 2 * about["context"]) // about["grid"] * about["grid"]
        parts = []
        for first in range(0, samples, step):
            start = min(max(0, first - about["context"]), max(0, samples - about["window"]))
            start = start // about["grid"] * about["grid"]
            targets = self.window(mix[:, start : start + about["window"] + about["grid"]], embeddings, negatives)
            parts.append(targets[..., first - start : first - start + step])
        return np.concatenate(parts, axis=-1)

    def window(self, mix: np.ndarray, embeddings: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """(channels, samples) -> (queries, channels, samples) in one piece."""
        if self.about["at_once"] == 1 and not self.about["targets"] and len(embeddings) > 1:
            pairs = zip(embeddings, negatives, strict=True)
            return np.concatenate([self.window(mix, e[None], n[None]) for e, n in pairs])
        samples = mix.shape[1]
        mix = np.pad(mix, ((0, 0), (0, max(0, self.about["n_fft"] // 2 + 1 - samples))))
        queries = {} if self.about["targets"] else {"embeddings": embeddings, "negatives": negatives}
        if self.about["transforms"] == "inside":
            return self.run(mix=mix, **queries)["targets"][..., :samples]
        spectrum = self.stft(mix)
        outputs = self.run(power=np.square(np.abs(spectrum)).mean(0), **queries)
        mask = outputs["mask"]
        if "rotation" in outputs:
            mask = mask * (outputs["rotation"][:, 0] + 1j * outputs["rotation"][:, 1])
        return np.stack([self.istft(spectrum * one, mix.shape[1]) for one in mask])[..., :samples]

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> output."""
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))

    def stft(self, x: np.ndarray) -> np.ndarray:
        """(channels, samples) -> (channels, bins, frames); frame i is centred on sample i * hop."""
        n_fft, hop = self.about["n_fft"], self.about["hop"]
        padded = np.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)), mode=self.about["pad"])
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[:, ::hop] * hann(n_fft)
        return np.fft.rfft(frames).astype(np.complex64).transpose(0, 2, 1)

    def istft(self, spectrum: np.ndarray, samples: int) -> np.ndarray:
        """The inverse of `stft`: overlap-add, divided by the sum of the squared windows."""
        n_fft, hop = self.about["n_fft"], self.about["hop"]
        window = hann(n_fft)
        frames = np.fft.irfft(spectrum.transpose(0, 2, 1), n_fft) * window
        total = np.zeros((len(frames), hop * (frames.shape[1] - 1) + n_fft))
        weight = np.zeros(total.shape[1])
        for i in range(frames.shape[1]):
            total[:, i * hop : i * hop + n_fft] += frames[:, i]
            weight[i * hop : i * hop + n_fft] += window**2
        inner = slice(n_fft // 2, n_fft // 2 + samples)
        return (total[:, inner] / weight[inner]).astype(np.float32)


def hann(n_fft: int) -> np.ndarray:
    """(n_fft,) periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def resample(x: np.ndarray, in_rate: int, out_rate: int, samples: int | None = None) -> np.ndarray:
    """(channels, samples) at another rate, by cutting or padding its spectrum."""
    samples = round(x.shape[1] * out_rate / in_rate) if samples is None else samples
    if in_rate == out_rate:
        return x[:, :samples]
    spectrum = np.fft.rfft(x)
    kept = np.zeros((len(x), samples // 2 + 1), complex)
    shared = min(spectrum.shape[1], kept.shape[1])
    kept[:, :shared] = spectrum[:, :shared]
    return (np.fft.irfft(kept, samples) * samples / x.shape[1]).astype(np.float32)


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """(channels, samples) in -1 ... 1, and Hz."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise wave.Error(f"{8 * file.getsampwidth()} bits")
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            return (data.T / 32768).astype(np.float32), file.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise SystemExit(f"{path}: only 16-bit wav files can be read here ({str(error) or 'it is empty'})") from error


def write_wav(path: Path, x: np.ndarray, rate: int) -> None:
    """(channels, samples) as 16-bit wav; samples beyond full scale are saturated."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(x))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.rint(x.T * 32768), -32768, 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
