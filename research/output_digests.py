"""Digests of what the package makes of the example recordings, to compare two versions of the code sample for sample.

    python -m research.output_digests > before.txt                              # in one checkout
    python -m research.output_digests --python /other/checkout/.venv/bin/python  # with the code of another environment

Everything goes through the command line, so that the same file works on versions whose modules are laid out otherwise:
words, a negative, four stems, an example as the query, a live stream, and an ONNX file of the queries and of the stems.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

AUDIO = Path(__file__).parent.parent / "examples" / "audio"
THREADS = "1"  # digests of several threads are those of the machine too


def commands(out: Path) -> dict[str, tuple[list[str], bytes | None]]:
    """Name -> arguments of `audiosep`, and what goes in through its standard input."""
    reading, song = AUDIO / "reading.flac", AUDIO / "song.flac"
    pcm = ["ffmpeg", "-v", "error", "-i", str(song), "-t", "6", "-f", "s16le", "-ar", "44100", "-ac", "2", "-"]
    live = subprocess.run(pcm, check=True, capture_output=True).stdout
    return {
        "text": (["separate", str(reading), "speech", "guitar", "--out", str(out / "text")], None),
        "negative": (["separate", str(song), "-q", "singing", "--not", "guitar", "--out", str(out / "negative")], None),
        "stems": (["stems", str(song), "--out", str(out / "stems")], None),
        "example": (["separate", str(reading), "--like", str(AUDIO / "guitar.flac"), "--out", str(out / "like")], None),
        "live": (["live", "speech"], live),
        "onnx queries": (["export", str(out / "queries.onnx"), "-q", "piano"], None),
        "onnx stems": (["export", str(out / "stems.onnx"), "--stems", "--stft-inside"], None),
    }


def digests(python: str, out: Path) -> list[str]:
    """One line `digest  name  file` for each output.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    lines = []
    env = {**os.environ, "OMP_NUM_THREADS": THREADS, "COLUMNS": "200"}
    for name, (arguments, given) in commands(out).items():
        before = set(out.rglob("*"))
        done = subprocess.run(
            [python, "-m", "audiosep", *arguments], input=given, stdout=subprocess.PIPE, check=True, env=env
        )
        if given is not None:
            lines.append(f"{_digest(done.stdout)}  {name}  standard output")
        for path in sorted(set(out.rglob("*")) - before):
            if path.is_file():
                lines.append(f"{_digest(_content(path))}  {name}  {path.name}")
    return lines


def _content(path: Path) -> bytes:
    """The samples of an audio file, without its tags; the bytes of another file."""
    if path.suffix != ".wav":
        return path.read_bytes()
    samples: npt.NDArray[np.float32] = soundfile.read(path, dtype="float32")[0]
    return samples.tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter whose audiosep is measured [this one]")
    python = parser.parse_args(arguments).python
    with tempfile.TemporaryDirectory(prefix="audiosep-digests-") as folder:
        sys.stdout.write("".join(f"{line}\n" for line in digests(python, Path(folder))))


if __name__ == "__main__":
    main()
