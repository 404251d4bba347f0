"""The library in one page: text, several sounds, what to keep out, "more like this", arrays, stems.

python examples/separate.py --out out
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

import audiosep

AUDIO = Path(__file__).parent / "audio"


def main() -> None:
    """Run every kind of query on the example recordings."""
    parser = argparse.ArgumentParser(description="Every kind of query.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--model", default="mini", help="name or folder of a model")
    arguments = parser.parse_args()
    separator = audiosep.load(arguments.model)

    # Words. The targets come in the order of the queries; what is left is the residual.
    out = separator.separate(AUDIO / "reading.flac", ["speech", "guitar"])
    print(*out.save(arguments.out, format="flac", overwrite=True), sep="\n")

    # What to keep out, and an array instead of a file: (channels, samples), with its sample rate.
    mix, rate = soundfile.read(AUDIO / "song.flac", dtype="float32")
    query = audiosep.Query("singing", negative="guitar", name="voice")
    voice = separator.separate(mix.T, query, sample_rate=rate)["voice"]
    print(f"voice: {voice.shape[0]} channels, {voice.shape[1]} samples")

    # "More like this recording", where the model has ears.
    if "audio" in separator.capabilities:
        query = audiosep.Query(audio=AUDIO / "lead_guitar.flac", name="like my guitar")
        out = separator.separate(AUDIO / "reading.flac", query)
        print(*out.save(arguments.out, format="flac", residual=False, overwrite=True), sep="\n")

    # The four stems in one pass, where the model has them.
    if "stems" in separator.capabilities:
        out = separator.stems(AUDIO / "song.flac")
        print(*out.save(arguments.out, format="flac", residual=False, overwrite=True), sep="\n")


if __name__ == "__main__":
    main()
