"""A corpus as small tar files, to train with it on a machine that only a little fits to at a time.

    python -m research.portable_corpus pack manifest.jsonl --cache cache/ -o parts --megabytes 55
    python -m research.portable_corpus join parts -o parts/manifest.jsonl        # there; with as many parts as arrived

The training clips as they are decoded for training, as Opus of 24 kbit/s. Parts are drawn by chance, so that each is
like the whole; the stems of a song are in one.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import math
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import track

from audiosep.audio.encode import write_audio
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.errors import DataError

RATE = 32000
KBIT = 24
ROWS = "rows.jsonl"
_PEAK = 0.9
_BLOCK = 512  # of a tar file, bytes


def pack(corpus: Corpus, folder: Path, most: int) -> list[Path]:
    """Write the clips of a corpus into tar files.

    Args:
        corpus: its clips.
        folder: gets `part-0.tar` and so on; made if missing.
        most: bytes of a part, which its last song may exceed.

    Returns:
        The parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(corpus)), key=lambda number: (_draw(corpus.clips[number]), number))
    songs = [list(numbers) for _, numbers in groupby(order, key=lambda number: _draw(corpus.clips[number]))]
    parts: list[Path] = []
    tar, rows, size = None, list[Clip](), 0
    with tempfile.TemporaryDirectory() as space:
        for numbers in track(songs, "packing", console=Console(stderr=True)):
            if tar is None or size >= most:
                _close(tar, rows)
                parts.append(folder / f"part-{len(parts)}.tar")
                tar, rows, size = tarfile.open(parts[-1], "w"), [], 0  # noqa: SIM115  # closed by _close
            for number in numbers:
                file = Path(space, f"{number:06d}.opus")
                rows.append(_encode(corpus, number, file))
                tar.add(file, file.name)
                size += -(-file.stat().st_size // _BLOCK) * _BLOCK + _BLOCK
                file.unlink()
        _close(tar, rows)
    return parts


def join(folder: Path, manifest: Path) -> int:
    """Write the manifest of the parts in a folder.

    Args:
        folder: with any of the parts.
        manifest: the file to write.

    Returns:
        The number of clips.

    Raises:
        DataError: there are no parts.
    """
    clips: list[Clip] = []
    for part in sorted(folder.glob("part-*.tar")):
        with tarfile.open(part) as tar, tempfile.TemporaryDirectory() as space:
            tar.extract(ROWS, space, filter="data")
            for clip in read_manifest(Path(space, ROWS)):
                clips.append(dataclasses.replace(clip, path=str(part)))
    if not clips:
        raise DataError(f"{folder}: no part-0.tar or others here; make them with `pack`")
    write_manifest(manifest, clips)
    return len(clips)


def _draw(clip: Clip) -> str:
    """A number that orders clips as if by chance, the same for all stems of a song."""
    return hashlib.sha256((clip.song or clip.id).encode()).hexdigest()


def _encode(corpus: Corpus, number: int, file: Path) -> Clip:
    """Write a clip, and return what it is then."""
    clip, waveform = corpus.clips[number], corpus.audio(number)
    gain = _PEAK / max(float(waveform.abs().max()), 1e-6)
    write_audio(file, (waveform * gain)[None].numpy(), RATE, bitrate=KBIT)
    # Stems keep their levels in a song; other clips are brought to one level anyway.
    gain_db = clip.gain_db - 20 * math.log10(gain) if clip.song else clip.gain_db
    seconds = len(waveform) / RATE
    return dataclasses.replace(
        clip, path="part.tar", member=file.name, start=0.0, seconds=seconds, channel=None, gain_db=gain_db
    )


def _close(tar: tarfile.TarFile | None, rows: Sequence[Clip]) -> None:
    if tar is not None:
        lines = "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows).encode()
        info = tarfile.TarInfo(ROWS)
        info.size = len(lines)
        tar.addfile(info, io.BytesIO(lines))
        tar.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.portable_corpus", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the parts")
    packing.add_argument("manifest", type=Path)
    packing.add_argument("--cache", type=Path, required=True, help="decoded audio of the manifest")
    packing.add_argument("-o", "--out", type=Path, required=True, help="folder of the parts")
    packing.add_argument("--megabytes", type=float, default=55.0, help="of a part")
    joining = commands.add_parser("join", help="write the manifest of the parts that are there")
    joining.add_argument("parts", type=Path)
    joining.add_argument("-o", "--out", type=Path, required=True, help="manifest to write")
    options = parser.parse_args(arguments)
    if options.command == "join":
        print(f"{join(options.parts, options.out)} clips")
        return 0
    corpus = Corpus(options.manifest, options.cache, RATE, splits=("train",), on_error="skip")
    for part in pack(corpus, options.out, int(options.megabytes * 1e6)):
        print(f"{part}: {part.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
