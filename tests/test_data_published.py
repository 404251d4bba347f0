"""Readers of published datasets, each on a tiny tree of its layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import corpora
import numpy as np
import pytest
import sounds

from audiosep.data import layouts, song_datasets
from audiosep.data.check import check_manifest
from audiosep.data.clip_audio import decode_many
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.data.reading import BrokenFilesError
from audiosep.errors import DataError

X = sounds.voice(0.3, corpora.RATE)
SLAKH = """UUID: 1a81ae092884234f3264e2f45927f00a
lmd_midi_dir: lmd_matched/R/R/O/TRRROFF128F1493C1B/1a81ae.mid
normalized: true
overall_gain: 0.1818
stems:
  S00:
    audio_rendered: true
    inst_class: Guitar
    integrated_loudness: -12.82
    is_drum: false
    midi_program_name: Distortion Guitar
    plugin_name: elektrik_guitar.nkm
    program_num: 30
  S01:
    audio_rendered: true
    inst_class: Drums
    is_drum: true
    midi_program_name: Drums
  S02:
    audio_rendered: true
    inst_class: Bass
    is_drum: false
    midi_program_name: 'Fretless Bass'
  S03:
    audio_rendered: false
    inst_class: Piano
    is_drum: false
    midi_program_name: Acoustic Grand Piano
target_peak: -1.0
"""


def write(folder: Path, *names: str) -> None:
    for name in names:
        corpora.write(folder / name, X)


def write_stereo(folder: Path, *names: str) -> None:
    """Left: the accompaniment, right: the voice."""
    for name in names:
        corpora.write(folder / name, np.stack([-0.5 * X, X], 1))


def read(folder: Path, kind: str) -> list[Clip]:
    """By its name, and the same when the layout is recognised."""
    clips = layouts.read_clips(folder, kind)
    assert layouts.read_clips(folder) == clips
    assert {round(clip.seconds, 2) for clip in clips} == {0.3}
    assert {clip.source_rate for clip in clips} == {corpora.RATE}
    return clips


def test_dsd100(tmp_path: Path) -> None:
    for part, song in (("Dev", "051 - AM Contra - Heart Peripheral"), ("Test", "001 - ANiMAL - Clinic A")):
        write(tmp_path, f"Mixtures/{part}/{song}/mixture.wav")
        write(tmp_path, *(f"Sources/{part}/{song}/{stem}.wav" for stem in ("bass", "drums", "other", "vocals")))
    clips = read(tmp_path, "dsd100")
    assert len(clips) == 8
    assert {(c.song, c.split) for c in clips} == {
        ("051 - AM Contra - Heart Peripheral", "train"),
        ("001 - ANiMAL - Clinic A", "test"),
    }
    assert {c.stem: c.label for c in clips} == {
        "bass": "bass", "drums": "drums", "other": "accompaniment", "vocals": "vocals"
    }  # fmt: skip


def test_mass(tmp_path: Path) -> None:
    excerpt = "tamy-que_pena_tanto_faz/tamy-que_pena_tanto_faz__snip_6_19__"
    write(
        tmp_path,
        *(f"{excerpt}{name}.wav" for name in ("acoustic_guitar", "vocals", "bass_drum", "bass2", "bassoon", "mix")),
    )
    clips = read(tmp_path, "mass")
    assert {(c.label, c.stem) for c in clips} == {
        ("acoustic guitar", "other"), ("vocals", "vocals"), ("bass drum", "drums"),
        ("bass2", "bass"), ("bassoon", "other"),
    }  # fmt: skip
    assert {c.song for c in clips} == {"tamy-que_pena_tanto_faz/tamy-que_pena_tanto_faz__snip_6_19"}


def test_sisec_speech(tmp_path: Path) -> None:
    write(tmp_path, "dev1_female3_src_1.wav", "dev1_female3_src_2.wav", "dev1_male4_src_1.wav", "test_male3_src_1.wav")
    write(tmp_path, "dev1_female3_inst_sim_1.wav", "dev1_female3_inst_mix.wav", "dev1_wdrums_src_1.wav")
    clips = read(tmp_path, "sisec-speech")
    assert [(c.id, c.label, c.group, c.split) for c in clips] == [
        ("dev1_female3_src_1", "female speech", "speaker:dev1_female3", "train"),
        ("dev1_female3_src_2", "female speech", "speaker:dev1_female3", "train"),
        ("dev1_male4_src_1", "male speech", "speaker:dev1_male4", "train"),
        ("test_male3_src_1", "male speech", "speaker:test_male3", "test"),
    ]
    assert {c.family for c in clips} == {"speech"}


def test_divide_and_remaster(tmp_path: Path) -> None:
    for part in ("tr", "cv", "tt"):
        write(tmp_path, *(f"{part}/1002/{name}.wav" for name in ("mix", "music", "sfx", "speech")))
    clips = read(tmp_path, "dnr")
    assert [c.split for c in clips[::3]] == ["val", "train", "test"]
    assert {(c.label, c.family) for c in clips} == {
        ("music", "music"), ("sound effects", "event"), ("speech", "speech")
    }  # fmt: skip
    assert {c.group for c in clips} == {"mixture:tr/1002", "mixture:cv/1002", "mixture:tt/1002"}


def test_slakh(tmp_path: Path) -> None:
    track = "train/Track00001"
    names = [f"{track}/stems/S0{number}.flac" for number in range(3)]
    repeated = "omitted/Track00002"  # it repeats what other tracks play
    write(tmp_path, f"{track}/mix.flac", *names, f"{repeated}/stems/S00.flac")
    write(tmp_path, *(name.replace(track, "validation/Track01501") for name in names))
    for folder in (track, "validation/Track01501", repeated):
        (tmp_path / folder / "metadata.yaml").write_text(SLAKH)
    clips = read(tmp_path, "slakh")
    assert [(c.label, c.stem, c.captions[0], c.split) for c in clips] == [
        ("distortion guitar", "other", "guitar", "train"),
        ("drums", "drums", "drums", "train"),
        ("fretless bass", "bass", "bass", "train"),
        ("distortion guitar", "other", "guitar", "val"),
        ("drums", "drums", "drums", "val"),
        ("fretless bass", "bass", "bass", "val"),
    ]
    assert {c.song for c in clips} == {"Track00001", "Track01501"}


def test_the_working_directory_has_the_name_of_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = "validation/Track01501"
    write(tmp_path, *(f"{track}/stems/S0{number}.flac" for number in range(3)))
    (tmp_path / track / "metadata.yaml").write_text(SLAKH)
    write(tmp_path, "tt/1002/speech.wav")
    for folder, kind, split in (("validation", "slakh", "val"), (track, "slakh", "val"), ("tt", "dnr", "test")):
        monkeypatch.chdir(tmp_path / folder)
        clips = layouts.read_clips(".", kind)
        assert {clip.split for clip in clips} == {split}
        assert {clip.song for clip in clips} == {"Track01501" if kind == "slakh" else None}


def test_urmp(tmp_path: Path) -> None:
    piece = "01_Jupiter_vn_vc"
    write(
        tmp_path,
        f"{piece}/AuMix_{piece}.wav",
        f"{piece}/AuSep_1_vn_01_Jupiter.wav",
        f"{piece}/AuSep_2_vc_01_Jupiter.wav",
    )
    clips = read(tmp_path, "urmp")
    assert [(c.label, c.stem, c.song) for c in clips] == [("violin", "other", piece), ("cello", "other", piece)]
    write(tmp_path, f"{piece}/AuSep_3_kazoo_01_Jupiter.wav")
    with pytest.raises(DataError, match="'kazoo' is no instrument of URMP"):
        layouts.read_clips(tmp_path)


def test_mir1k(tmp_path: Path) -> None:
    write_stereo(tmp_path, "Wavfile/abjones_1_01.wav", "Wavfile/fdps_3_07.wav", "UndividedWavfile/abjones_1.wav")
    clips = read(tmp_path, "mir-1k")
    assert [(c.id, c.label, c.stem, c.channel, c.song, c.group, c.split) for c in clips[:2]] == [
        ("Wavfile/abjones_1_01/vocals", "vocals", "vocals", 1, "abjones_1_01", "singer:abjones", "train"),
        ("Wavfile/abjones_1_01/accompaniment", "accompaniment", "other", 0, "abjones_1_01", "singer:abjones", "train"),
    ]
    assert [c.split for c in clips[2:]] == ["test", "test"]
    voice, accompaniment = (next(decode_many([clip], corpora.RATE)) for clip in clips[:2])
    np.testing.assert_allclose(voice, X, atol=1e-4)
    np.testing.assert_allclose(accompaniment, -0.5 * X, atol=1e-4)


def test_ikala(tmp_path: Path) -> None:
    write_stereo(tmp_path, "Wavfile/10161_chorus.wav", "Wavfile/10161_verse.wav")
    clips = read(tmp_path, "ikala")
    assert {c.group for c in clips} == {"song:10161"}
    assert {c.split for c in clips} == {"train"}
    assert [(c.stem, c.channel) for c in clips] == 2 * [("vocals", 1), ("other", 0)]
    assert layouts.read_clips(tmp_path / "Wavfile", "ikala")[0].id == "10161_chorus/vocals"


def test_a_channel_goes_through_manifest_cache_and_check(tmp_path: Path) -> None:
    write_stereo(tmp_path, "Wavfile/10161_chorus.wav")
    write_manifest(tmp_path / "manifest.jsonl", layouts.read_clips(tmp_path, "ikala"))
    clips = read_manifest(tmp_path / "manifest.jsonl")
    corpus = Corpus(tmp_path / "manifest.jsonl", tmp_path / "cache", corpora.RATE)
    voice, accompaniment = (corpus.segment(number, 0, len(X)).float().numpy() for number in range(2))
    assert np.corrcoef(voice, accompaniment)[0, 1] == pytest.approx(-1, abs=1e-3)
    report = check_manifest(clips)
    assert not report.duplicates
    assert not report.broken
    wrong = check_manifest([dataclasses.replace(clips[0], channel=2)])
    assert "names channel 2, counted from 0, of 2" in wrong.broken[clips[0].id]


def test_medleydb(tmp_path: Path) -> None:
    for song, bleed in (("Band_Song", "no"), ("Band_Leaky", "yes")):
        write(tmp_path, *(f"Audio/{song}/{song}_STEMS/{song}_STEM_0{number}.wav" for number in range(1, 6)))
        write(tmp_path, f"Audio/{song}/{song}_MIX.wav", f"Audio/{song}/{song}_RAW/{song}_RAW_01_01.wav")
        lines = [f"has_bleed: '{bleed}'", "stems:"]
        for number, name in enumerate(("female singer", "drum set", "electric bass", "bass clarinet", "vocals"), 1):
            lines += [f"  S0{number}:", f"    filename: {song}_STEM_0{number}.wav", f"    instrument: {name}"]
            lines += ["    raw:", "      R01:", f"        filename: {song}_RAW_01_01.wav"]
        folder = tmp_path / (f"Audio/{song}" if song == "Band_Song" else "Metadata")
        folder.mkdir(exist_ok=True)
        (folder / f"{song}_METADATA.yaml").write_text("\n".join(lines))
    clips = read(tmp_path, "medleydb")
    assert [(c.label, c.stem) for c in clips] == [
        ("female singer", "vocals"), ("drum set", "drums"), ("electric bass", "bass"), ("bass clarinet", "other"),
        ("vocals", "vocals"),
    ]  # fmt: skip
    assert {(c.song, c.group) for c in clips} == {("Band_Song", "artist:Band")}
    assert "lead vocals" in clips[-1].captions
    assert len(song_datasets.read_medleydb(tmp_path, bleed=True)) == 10
    (tmp_path / "Metadata/Band_Leaky_METADATA.yaml").unlink()
    with pytest.raises(DataError, match=r"no Band_Leaky_METADATA\.yaml"):
        layouts.read_clips(tmp_path)


def test_a_stem_that_is_named_and_not_there_is_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, "train/Track00001/stems/S00.flac", "train/Track00001/stems/S02.flac")
    (tmp_path / "train/Track00001/metadata.yaml").write_text(SLAKH)
    with pytest.raises(BrokenFilesError, match=r"1 broken files; .*\n.*S01\.flac"):
        layouts.read_clips(tmp_path)
    assert len(layouts.read_clips(tmp_path, on_error="skip")) == 2


KINDS = ["dsd100", "mass", "sisec-speech", "dnr", "slakh", "urmp", "mir-1k", "ikala", "medleydb"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_layout_is_an_error_that_shows_the_right_one(kind: str, tmp_path: Path) -> None:
    write(tmp_path, "kettle/1.wav")
    with pytest.raises(DataError, match="not the published layout; expected"):
        layouts.read_clips(tmp_path, kind)
