"""What is heard in a recording and when; then the surest sound, and the recording without it where it sounds.

python examples/describe.py --out out
"""

from __future__ import annotations

import argparse
from pathlib import Path

import audiosep

AUDIO = Path(__file__).parent / "audio"


def main() -> None:
    """Describe a recording, and separate what was heard."""
    parser = argparse.ArgumentParser(description="What is heard, and when.")
    parser.add_argument("recording", nargs="?", type=Path, default=AUDIO / "reading.flac")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    arguments = parser.parse_args()
    separator = audiosep.load()
    found = separator.describe(arguments.recording)
    for sound in found:
        times = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in sound.spans)
        print(f"{sound.score:4.0%} {sound.name}: {times} s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels = arguments.out / f"{arguments.recording.stem} (sounds).txt"
    labels.write_text(found.labels(), encoding="utf-8")  # Audacity: File, Import, Labels
    print(labels)

    if found:
        name = found[0].name
        output = audiosep.OutputOptions(everywhere=False, overwrite=True)
        report = separator.separate_files(arguments.recording, name, arguments.out, output=output)
        report.raise_for_failures()
        print(*report.results[0].outputs.values(), sep="\n")


if __name__ == "__main__":
    main()
