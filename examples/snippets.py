"""Cut what `audiosep describe --csv` has found out of the recordings: a wav file for each time that a sound is heard.

    audiosep describe recordings/ --quick --csv -o heard
    python examples/snippets.py heard "birds singing" "owl hooting" --score 0.3 --out snippets

The snippets have the sample rate, channels and bit depth of their recordings, and lie in the subfolders of the tables.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import soundfile


def cut(tables: Path, names: list[str], out: Path, *, score: float = 0.0, margin: float = 1.0) -> list[Path]:
    """Write the snippets.

    Args:
        tables: folder of the tables, which is searched with its subfolders. The recordings are where they were.
        names: of the sounds; none for all.
        out: folder of the snippets.
        score: from which a sound counts.
        margin: seconds before and behind each span.

    Returns:
        The files.
    """
    written = []
    for table in sorted(tables.rglob("*(sounds).csv")):
        with table.open(encoding="utf-8", newline="") as rows:
            heard = [row for row in csv.DictReader(rows) if row["start"] and float(row["score"]) >= score]
        wanted = [row for row in heard if not names or row["name"] in names]
        if not wanted:
            continue
        folder = out / table.parent.relative_to(tables)
        folder.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(wanted[0]["file"]) as recording:
            for row in wanted:
                start, end = float(row["start"]), float(row["end"])
                recording.seek(max(0, round((start - margin) * recording.samplerate)))
                samples = recording.read(
                    round((end + margin) * recording.samplerate) - recording.tell(), always_2d=True
                )
                # Numbers of equal width, so that the files are in the order of time.
                name = re.sub(r'[\\/:*?"<>|]', "_", f"{Path(row['file']).stem} {start:09.2f} s {row['name']}")
                subtype = recording.subtype if soundfile.check_format("WAV", recording.subtype) else None
                soundfile.write(folder / f"{name}.wav", samples, recording.samplerate, subtype)
                written.append(folder / f"{name}.wav")
    return written


def main() -> None:
    """Cut and list the snippets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, help="folder of the tables")
    parser.add_argument("names", nargs="*", help="of the sounds; all by default")
    parser.add_argument("--out", type=Path, default=Path("snippets"))
    parser.add_argument("--score", type=float, default=0.0, help="from which a sound counts, 0 to 1")
    parser.add_argument("--margin", type=float, default=1.0, help="seconds before and behind each span")
    arguments = parser.parse_args()
    for path in cut(arguments.tables, arguments.names, arguments.out, score=arguments.score, margin=arguments.margin):
        print(path)


if __name__ == "__main__":
    main()
