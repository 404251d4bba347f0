"""Regenerate mini.json: what the shipped weights make of the example recordings.

    python tests/golden/make_mini.py

Run it whenever weights, configuration or computation of `mini` change on purpose, and look at the difference. Each
target is told by its presence, its level, samples at fixed places, and projections on random signs, all in fp32.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import seeded
from numpy.typing import NDArray

from audiosep import Options, Query, Separation, Separator, load
from audiosep.audio import read_audio
from audiosep.weights.catalogue import locate

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
SECONDS, RATE = 5.0, 44100
POSITIONS = 24


def main() -> None:
    figures = measure(load("mini", device="cpu", precision="fp32"))
    path = Path(__file__).with_name("mini.json")
    path.write_text(seeded.dumps(figures), encoding="utf-8")
    sys.stdout.write(f"{path}: {len(figures) - 1} targets\n")


def measure(separator: Separator) -> dict[str, Any]:
    """The figures of every target of every request."""
    figures: dict[str, Any] = {"weights": weights()}
    for request, separation in _separations(separator):
        for name, target in separation.items():
            figures[f"{request}: {name}"] = describe(target, (separation.presence or {}).get(name))
    return figures


def describe(target: NDArray[np.float32], presence: float | None) -> dict[str, Any]:
    """What pins a target down; values and projections are relative to the target's level."""
    rms = float(np.sqrt(np.square(target, dtype=np.float64).mean()))
    positions = np.linspace(0, target.shape[-1] - 1, POSITIONS + 2).astype(int)[1:-1]
    return {
        "presence": presence,
        "rms": rms,
        "values": (target[:, positions].astype(np.float64) / rms).round(6).tolist(),
        "projections": [[round(value / rms, 6) for value in seeded.projections(channel)] for channel in target],
    }


def weights() -> str:
    """Digest of the files that decide what `mini` computes."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "clap.safetensors", "tokenizer.json", "prototypes.safetensors"):
        digest.update((locate("mini") / name).read_bytes())
    return digest.hexdigest()


def _separations(separator: Separator) -> Iterator[tuple[str, Separation]]:
    reading, song, guitar = (_beginning(name) for name in ("reading", "song", "guitar"))
    yield "text", separator.separate(reading, ["speech", "guitar", "dog barking"], sample_rate=RATE)
    yield "audio", separator.separate(reading, Query(audio=(guitar, RATE), name="guitar"), sample_rate=RATE)
    yield "negative", separator.separate(song, Query("singing", negative="guitar"), sample_rate=RATE)
    yield "stems", separator.stems(song, sample_rate=RATE)
    # Two windows, at a rate above the model's.
    long = np.concatenate([read_audio(AUDIO / f"{name}.flac")[0] for name in ("reading", "song")], axis=1)
    yield "windows", separator.separate(long, "speech", sample_rate=48000, options=Options(shifts=1))


def _beginning(name: str) -> NDArray[np.float32]:
    samples, rate = read_audio(AUDIO / f"{name}.flac")
    assert rate == RATE
    return samples[:, : round(SECONDS * rate)]


if __name__ == "__main__":
    main()
