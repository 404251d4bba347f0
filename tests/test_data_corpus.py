"""The decoded corpus: levels, lengths, growth of the cache, broken files."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import corpora
import numpy as np
import pytest
import soundfile
import sounds
import torch

from audiosep.data.cache import Cache
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, write_manifest
from audiosep.errors import AudioSepError, DataError


def clip(path, **values) -> Clip:
    return Clip(values.pop("id", path.name), str(path), "x", **values)


def test_levels_and_lengths_survive(tmp_path):
    x = 0.01 * sounds.voice(1.3, 48000)  # far below full scale: int16 must not cost precision
    loud = 1.5 * x / np.abs(x).max()  # above full scale, as decoded Opus may be
    paths = [corpora.write(tmp_path / "quiet.wav", x, 48000), corpora.write(tmp_path / "loud.opus", loud, 48000)]
    corpus = Corpus([clip(path) for path in paths], tmp_path / "cache", 16000)
    assert corpus.lengths.tolist() == [round(len(x) / 3)] * 2
    quiet = corpus.audio(corpus.index("quiet.wav"))
    assert quiet.dtype == torch.float32
    assert float(quiet.square().mean()) == pytest.approx(float(np.square(x).mean()), rel=0.05)
    assert float(corpus.audio(1).abs().max()) > 1.1
    assert corpus.envelope(0).shape == (13,)
    assert corpus.envelope(0)[3] == pytest.approx(float(quiet[4800:6400].square().mean()), rel=1e-3)


def test_segments_end_where_the_clip_ends(tmp_path):
    corpus = Corpus(
        [clip(corpora.write(tmp_path / f"{i}.wav", corpora.wave(i, 0.5, 16000))) for i in range(2)], tmp_path, 16000
    )
    assert corpus.segment(0, 7000, 5000).shape == (1000,)
    assert corpus.segment(0, 9000, 5000).shape == (0,)
    assert torch.equal(corpus.segment(1, 100, 50).float() * float(corpus.scales[1]), corpus.audio(1)[100:150])


def test_parts_of_files_and_stereo(tmp_path):
    left, right = 0.3 * corpora.wave(0, 1.0, 16000), 0.3 * corpora.wave(1, 1.0, 16000)
    path = corpora.write(tmp_path / "s.flac", np.stack([left, right], 1))
    corpus = Corpus([clip(path, start=0.25, seconds=0.5)], tmp_path, 16000)
    expected = (left + right)[4000:12000] / 2
    np.testing.assert_allclose(corpus.audio(0).numpy(), expected, atol=2e-4)


def test_parts_of_one_file_are_different_clips_with_their_own_envelopes(tmp_path):
    x = np.concatenate([0.01 * corpora.wave(0, 0.5, 16000), 0.3 * corpora.wave(1, 0.5, 16000)])
    path = corpora.write(tmp_path / "x.flac", x)
    clips = [clip(path, id=f"{start}", start=start, seconds=0.5) for start in (0.0, 0.5)]
    corpus = Corpus(clips, tmp_path / "cache", 16000)
    for number, half in enumerate((x[:8000], x[8000:])):
        np.testing.assert_allclose(corpus.audio(number).numpy(), half, atol=1e-4)
        assert corpus.envelope(number).mean() == pytest.approx(np.square(half).mean(), rel=1e-2)


def test_a_grown_manifest_decodes_only_its_new_clips(tmp_path, caplog):
    paths = [corpora.write(tmp_path / f"{i}.wav", corpora.wave(i, 0.3, 16000)) for i in range(3)]
    caplog.set_level("INFO", logger="audiosep")
    first = Corpus([clip(p) for p in paths[:2]], tmp_path / "c", 16000)
    Corpus([clip(p) for p in paths[:2]], tmp_path / "c", 16000)
    second = Corpus([clip(p) for p in reversed(paths)], tmp_path / "c", 16000)
    assert [r.getMessage().split(" into")[0] for r in caplog.records] == ["decoding 2 clips", "decoding 1 clip"]
    assert torch.equal(first.audio(0), second.audio(second.index("0.wav")))
    corpora.write(paths[0], corpora.wave(9, 0.4, 16000))  # a changed file is decoded again
    assert Corpus([clip(paths[0])], tmp_path / "c", 16000).lengths.tolist() == [6400]


def test_processes_that_start_together_decode_once(tmp_path):
    clips = [clip(corpora.write(tmp_path / f"{i}.wav", corpora.wave(i, 0.3, 16000))) for i in range(4)]
    caches = [Cache(tmp_path / "c", 16000) for _ in range(3)]  # all see an empty folder
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda cache: cache.fill(clips), caches)) == [{}] * 3
    assert len(list((tmp_path / "c").glob("*.i16"))) == 1
    assert all(cache.find(one) == caches[0].find(one) for cache in caches for one in clips)


def test_broken_files_are_all_named_and_skipped_only_on_request(tmp_path, caplog):
    good = clip(corpora.write(tmp_path / "good.wav", corpora.wave(0, 0.3, 16000)))
    corpora.write_shard(tmp_path / "s.tar", {"bad.opus": b"OggS" + bytes(60)})
    (tmp_path / "cut.flac").write_bytes(corpora.encode(corpora.wave(1, 1.0, 16000), 16000, "x.flac")[:60])
    nan = corpora.wave(2, 0.3, 16000)
    nan[50] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    bad = [clip(tmp_path / "none.wav"), clip(tmp_path / "cut.flac"), clip(tmp_path / "nan.wav")]
    bad += [clip(tmp_path / "s.tar", id=member, member=member) for member in ("bad.opus", "missing.opus")]
    caplog.set_level("WARNING", logger="audiosep")
    with pytest.raises(DataError, match="5 broken files") as error:
        Corpus([good, *bad], tmp_path / "c", 16000)
    for name in ("none.wav", "cut.flac", "nan.wav", "s.tar:bad.opus", "missing.opus"):
        assert name in str(error.value)
    corpus = Corpus([good, *bad], tmp_path / "c", 16000, on_error="skip")
    assert [c.id for c in corpus.clips] == ["good.wav"]
    assert "nan.wav" in caplog.text
    with pytest.raises(DataError, match="no clips"):
        Corpus(bad, tmp_path / "c", 16000, on_error="skip")


def test_a_clip_behind_the_end_names_its_file_once(tmp_path):
    late = clip(corpora.write(tmp_path / "good.wav", corpora.wave(0, 0.3, 16000)), start=9.0)
    with pytest.raises(DataError) as error:
        Corpus([late], tmp_path / "c", 16000)
    assert str(error.value).count("good.wav") == 1


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    """Python's own error names no file, so that the command line took it for one of standard output."""
    clips = [clip(corpora.write(tmp_path / "good.wav", corpora.wave(0, 0.3, 16000)))]

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for part, name in ((np, "save"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, full)
            with pytest.raises(AudioSepError, match=rf"{tmp_path / 'c'} cannot be written: No space left"):
                Corpus(clips, tmp_path / "c", 16000)
        assert [path.suffix for path in (tmp_path / "c").iterdir()] in ([], [".lock"])
    assert len(Corpus(clips, tmp_path / "c", 16000)) == 1
    with pytest.raises(AudioSepError, match="cannot be made"):
        Corpus(clips, clips[0].path, 16000)


def test_a_manifest_file_and_its_splits(tmp_path):
    clips = [
        clip(corpora.write(tmp_path / f"{s}.wav", corpora.wave(i, 0.3, 16000)), split=s)
        for i, s in enumerate(("train", "val"))
    ]
    write_manifest(tmp_path / "m.jsonl", clips)
    corpus = Corpus(tmp_path / "m.jsonl", tmp_path / "c", 16000, splits=("val",))
    assert [c.id for c in corpus.clips] == ["val.wav"]
    assert corpus.lengths.tolist() == [4800]


def test_every_clip_of_a_broken_file_is_left_out(tmp_path):
    good = corpora.write(tmp_path / "good.wav", corpora.wave(0, 0.3, 16000))
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    clips = [clip(good), clip(bad, id="one"), clip(bad, id="two")]
    assert [c.id for c in Corpus(clips, tmp_path / "c", 16000, on_error="skip").clips] == ["good.wav"]
    with pytest.raises(DataError, match="2 broken files"):
        Corpus(clips, tmp_path / "c", 16000)
