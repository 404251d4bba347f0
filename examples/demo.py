"""What `make demo` runs: separate a real recording with the model that ships with the package, and draw it.

    python examples/demo.py --out out

The recording is a chapter of a novel being read while a guitar plays (examples/CREDITS.md); because it was mixed from
two known recordings, the demo can also say how well the separation went.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure

import audiosep
from audiosep.metrics import si_sdr

AUDIO = Path(__file__).parent / "audio"
# query -> the recording that was mixed in under that name
QUERIES = {"speech": "speech.flac", "guitar": "guitar.flac"}


def main() -> None:
    """Separate, measure and draw."""
    parser = argparse.ArgumentParser(description="Separate the example recording.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--model", default="mini", help="name or folder of a model")
    arguments = parser.parse_args()

    separator = audiosep.load(arguments.model)
    print(f"model {separator.name} on {separator.device}, {separator.precision}")
    recording = AUDIO / "reading.flac"
    start = time.perf_counter()
    out = separator.separate(recording, list(QUERIES))
    elapsed = time.perf_counter() - start
    seconds = out.mix.shape[-1] / out.sample_rate
    print(f"{recording.name}: {seconds:.1f} s separated in {elapsed:.1f} s ({seconds / elapsed:.1f} x real time)")

    paths = out.save(arguments.out, format="flac", overwrite=True)
    for query, source in QUERIES.items():
        true = read(AUDIO / source)
        before, after = (float(si_sdr(torch.as_tensor(x), true).mean()) for x in (out.mix, out[query]))
        sure = "" if out.presence is None else f", presence {out.presence[query]:.2f}"
        print(f"  {query}: SI-SDR {before:.1f} dB in the mixture, {after:.1f} dB separated{sure}")

    picture = arguments.out / "reading.png"
    draw({recording.name: out.mix, **out, "residual": out.residual}, out.sample_rate, picture)
    print("wrote")
    for path in [*paths, picture]:
        print(f"  {path}")


def read(path: Path) -> torch.Tensor:
    """(channels, samples) of a whole file."""
    x, _ = soundfile.read(path, always_2d=True, dtype="float32")
    return torch.from_numpy(x.T.copy())


def draw(sounds: dict[str, np.ndarray], sample_rate: int, path: Path) -> None:
    """Spectrograms, one below the other, on one scale.

    Args:
        sounds: title -> (channels, samples).
        sample_rate: Hz.
        path: the PNG to write.
    """
    figure = Figure(figsize=(10, 2.2 * len(sounds)), layout="constrained")
    rows = figure.subplots(len(sounds), 1, sharex=True)
    for axes, (title, sound) in zip(rows, sounds.items(), strict=True):
        mono = np.asarray(sound).mean(0)
        floor = np.random.default_rng(0).normal(0, 1e-7, mono.shape)  # silence has no logarithm
        axes.specgram(mono + floor, NFFT=2048, noverlap=1536, Fs=sample_rate, vmin=-130, vmax=-40, cmap="magma")
        axes.set(title=title, ylabel="Hz", ylim=(0, 10000))
    rows[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
