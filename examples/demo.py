"""What `make demo` runs: separate two real recordings with the model that ships with the package, and draw them.

    python examples/demo.py --out out

A chapter of a novel is being read while a guitar plays, and a singer meets a band (examples/CREDITS.md). Both were
mixed from known recordings, so the demo can also say how well the separation went.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure

import audiosep
from audiosep.metrics import si_sdr
from audiosep.output.spectrogram import colours, mel, spectrogram

AUDIO = Path(__file__).parent / "audio"
TICKS = (250, 1000, 4000, 16000)


def main() -> None:
    """Separate, measure and draw."""
    parser = argparse.ArgumentParser(description="Separate the example recordings.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--model", default="mini", help="name or folder of a model")
    arguments = parser.parse_args()

    separator = audiosep.load(arguments.model)
    print(f"model {separator.name} on {separator.device}, {separator.precision}")

    def sounds(recording: Path) -> audiosep.Separation:
        return separator.separate(recording, ["speech", "guitar"])

    # What was mixed in, by the name of the target it should come out as.
    show(AUDIO / "reading.flac", sounds, {"speech": "speech.flac", "guitar": "guitar.flac"}, arguments.out)
    show(AUDIO / "song.flac", separator.stems, {"vocals": "vocals.flac"}, arguments.out)


def show(
    recording: Path, separate: Callable[[Path], audiosep.Separation], sources: dict[str, str], folder: Path
) -> None:
    """Separate one recording, compare the targets in `sources` with what was mixed in, write them and a picture."""
    start = time.perf_counter()
    out = separate(recording)
    elapsed = time.perf_counter() - start
    seconds = out.mix.shape[-1] / out.sample_rate
    print(f"{recording.name}: {seconds:.1f} s separated in {elapsed:.1f} s ({seconds / elapsed:.1f} x real time)")
    paths = out.save(folder, format="flac", overwrite=True)
    for name, source in sources.items():
        true = read(AUDIO / source)
        before, after = (float(si_sdr(torch.as_tensor(x), true).mean()) for x in (out.mix, out[name]))
        sure = "" if out.presence is None else f", presence {out.presence[name]:.2f}"
        print(f"  {name}: SI-SDR {before:.1f} dB in the mixture, {after:.1f} dB separated{sure}")
    picture = folder / f"{recording.stem}.png"
    left = {"residual": out.residual} if np.abs(out.residual).max() > 1e-4 else {}  # stems leave nothing
    draw({recording.name: out.mix, **out, **left}, out.sample_rate, picture)
    for path in [*paths, picture]:
        print(f"  wrote {path}")


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
    levels = {title: spectrogram(np.asarray(x), sample_rate, columns=1000) for title, x in sounds.items()}
    highest = max(float(level.max()) for level in levels.values())
    rows = figure.subplots(len(sounds), 1, sharex=True)
    for axes, (title, sound) in zip(rows, sounds.items(), strict=True):
        extent = (0, sound.shape[-1] / sample_rate, 0, mel(sample_rate / 2))
        axes.imshow(colours(levels[title], highest), extent=extent, aspect="auto")
        axes.set_yticks([mel(frequency) for frequency in TICKS], map(str, TICKS))
        axes.set(title=title, ylabel="Hz")
    rows[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
