"""A corpus in parts that travel, and what is trained with as many of them as arrive."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import corpora
import pytest

from audiosep.data.corpus import Corpus
from audiosep.data.manifest import write_manifest
from audiosep.data.mixing import Mixer
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import DataError
from research import portable_corpus


def test_parts_hold_whole_songs_and_all_sounds_as_loud_as_they_were(tmp_path: Path) -> None:
    clips = corpora.make_clips(tmp_path / "files", songs=3)
    held = [dataclasses.replace(clip, split="val") for clip in clips[:1]]
    write_manifest(tmp_path / "manifest.jsonl", [*held, *clips[1:]])
    arguments = ["pack", str(tmp_path / "manifest.jsonl"), "--cache", str(tmp_path / "cache")]
    assert portable_corpus.main([*arguments, "-o", str(tmp_path / "parts"), "--megabytes", "0.02"]) == 0
    parts = sorted((tmp_path / "parts").glob("*.tar"))
    assert len(parts) > 2
    joined = tmp_path / "parts/manifest.jsonl"
    assert portable_corpus.main(["join", str(tmp_path / "parts"), "-o", str(joined)]) == 0

    there = Corpus(joined, tmp_path / "there", portable_corpus.RATE)
    before = Corpus(tmp_path / "manifest.jsonl", tmp_path / "cache", portable_corpus.RATE, splits=("train",))
    assert {clip.id for clip in there.clips} == {clip.id for clip in before.clips}
    songs: dict[str, set[str]] = {}
    for clip in there.clips:
        old = before.clips[before.index(clip.id)]
        kept = ("label", "captions", "family", "stem", "song", "group", "source_rate", "split", "licence", "credit")
        assert all(getattr(clip, name) == getattr(old, name) for name in kept)
        mine, its = there.audio(there.index(clip.id)), before.audio(before.index(clip.id))
        assert len(mine) == len(its)
        if clip.song:
            songs.setdefault(clip.song, set()).add(clip.path)
            levels = [10 ** (c.gain_db / 20) * x.square().mean().sqrt() for c, x in ((clip, mine), (old, its))]
            assert float(levels[0] / levels[1]) == pytest.approx(1, rel=0.3)  # Opus is not exact; gains are larger
    assert all(len(paths) == 1 for paths in songs.values())
    Mixer(there).render(Sampler(there, SamplingConfig(mixtures=2, seconds=1.0)).plan(0))

    parts[0].unlink()  # it did not arrive
    assert portable_corpus.join(tmp_path / "parts", joined) < len(there)
    with pytest.raises(DataError, match="make them with `pack`"):
        portable_corpus.join(tmp_path, joined)
