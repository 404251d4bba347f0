"""Stems of real songs whose stems are public: what `stems` and words gain over the mixture, song by song.

    python -m research.real_songs CLONES --into docs/mini.md

CLONES is a folder of clones or mirrors of the repositories in `SONGS`. No model here was trained on these songs. The
mixture of a song is the sum of its stems, scaled to a peak of one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from audiosep.api import load
from audiosep.audio import read_audio
from audiosep.audio.samples import Array
from audiosep.errors import DataError
from audiosep.metrics import si_sdr
from audiosep.separator import Separator
from research.corpus.clones import Clones
from research.pages import put

# Repository -> stem -> files of its folder `audio` that are its parts. Both are by one musician for lessons of mixing.
SONGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "davetorre/nov2": {
        "vocals": ("vox.mp3",),
        "drums": ("drums.mp3", "snare.mp3", "Nov2_kick2.mp3"),
        "bass": ("bass.mp3",),
        "other": ("chords.mp3",),
    },
    "rgaino/SpaceShipSong": {
        "drums": ("drums.mp3", "percussion.mp3"),
        "bass": ("bass.mp3",),
        "other": ("guitar_chords.mp3", "guitar_lead.mp3", "guitar_solo.mp3"),
    },
}


def read_song(clones: Clones, repo: str) -> tuple[dict[str, Array], int]:
    """The stems of a song, which sum to its mixture.

    Args:
        clones: where its repository is.
        repo: a key of `SONGS`.

    Returns:
        Stem -> (2, samples), all of one length, and the sample rate in Hz.

    Raises:
        DataError: the repository or a file is missing, or the files have several rates.
    """
    parts: dict[str, list[Array]] = {}
    rates: set[int] = set()
    with tempfile.TemporaryDirectory(prefix="audiosep-songs-") as name:
        for stem, files in SONGS[repo].items():
            for file in files:
                path = Path(name, file)
                path.write_bytes(clones.newest(repo, f"audio/{file}"))
                samples, rate = read_audio(path)
                rates.add(rate)
                parts.setdefault(stem, []).append(np.broadcast_to(samples[:2], (2, samples.shape[1])))
    if len(rates) > 1:
        raise DataError(f"{repo}: its files have several sample rates, {sorted(rates)} Hz")
    length = max(part.shape[1] for some in parts.values() for part in some)
    stems = {
        stem: sum((np.pad(part, ((0, 0), (0, length - part.shape[1]))) for part in some), np.zeros((2, length)))
        for stem, some in parts.items()
    }
    peak = np.abs(sum(stems.values())).max()
    return {stem: (samples / peak).astype(np.float32) for stem, samples in stems.items()}, rates.pop()


Row = tuple[str, float, float, float | None]


def gains(separator: Separator, stems: Mapping[str, Array], rate: int) -> list[Row]:
    """SI-SDRs of a song.

    Args:
        separator: with stems.
        stems: from `read_song`.
        rate: Hz.

    Returns:
        Of each stem its name, the SI-SDR of the mixture, and the gains of the model's stem and of its name as the word
        of a query, in dB; None for "other", which is no word for a sound.
    """
    mix = np.stack(list(stems.values())).sum(0)
    found = separator.stems(mix, sample_rate=rate)
    words = [stem for stem in stems if stem != "other"]
    asked = separator.separate(mix, words, sample_rate=rate)
    rows = []
    for stem, true in stems.items():
        before = _score(mix, true)
        by_word = _score(asked[stem], true) - before if stem in words else None
        rows.append((stem, before, _score(found[stem], true) - before, by_word))
    return rows


def table(rows: Iterable[tuple[str, Row]]) -> str:
    """Songs as a Markdown table, with the mean of all stems, and both means of those that were also asked for by name.

    Args:
        rows: repositories, and rows of `gains`.
    """
    lines = ["| song | stem | mixture, dB | stems: gain | its name as a query: gain |", "|---|---|---:|---:|---:|"]
    by_stems: list[float] = []
    by_both: list[tuple[float, float]] = []
    for repo, (stem, before, gain, by_word) in rows:
        by_stems.append(gain)
        by_both += [] if by_word is None else [(gain, by_word)]
        asked = "" if by_word is None else f"{by_word:.1f}"
        lines.append(f"| {repo} | {stem} | {before:.1f} | {gain:.1f} | {asked} |")
    lines.append(f"| mean of all | | | {np.mean(by_stems):.1f} | |")
    named, asked_for = np.mean(by_both, 0)
    lines.append(f"| mean of those with a name | | | {named:.1f} | {asked_for:.1f} |")
    return "\n".join(lines) + "\n"


def _score(estimate: Array, true: Array) -> float:
    flat = [torch.from_numpy(np.asarray(x, np.float64).reshape(-1)) for x in (estimate, true)]
    return float(si_sdr(flat[0], flat[1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path, nargs="+", metavar="CLONES")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- real songs -->")
    options = parser.parse_args(arguments)
    with Clones(options.clones) as clones:
        separator = load(options.model, "cpu", sounds=False)
        songs = track(SONGS, "songs", console=Console(stderr=True))
        text = table((repo, row) for repo in songs for row in gains(separator, *read_song(clones, repo)))
    print(text, end="")
    if options.into:
        put(text, options.into, "real songs")


if __name__ == "__main__":
    main()
