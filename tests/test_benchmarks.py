"""Readers of test sets: every published layout, built small, and what is said when something is missing."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from audiosep.data.labels import label_table
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.errors import ConfigError, DataError
from audiosep.evaluation.benchmarks import Benchmark, Item, Scene, Target
from audiosep.evaluation.scene_files import SourceFile, read_scene
from audiosep.evaluation.sets import READERS, load_set, parse
from audiosep.query.query import Query

RATE = 16000
METADATA = """\
album: Demo
has_bleed: 'no'
mix_filename: Band_Song_MIX.wav
stems:
  S01:
    component: melody
    filename: Band_Song_STEM_01.wav
    instrument: male singer
    raw:
      R01:
        filename: Band_Song_RAW_01_01.wav
        instrument: backing vocals
  S02:
    component: ''
    filename: Band_Song_STEM_02.wav
    instrument: drum set
  S03:
    component: ''
    filename: Band_Song_STEM_03.wav
    instrument: drum set
title: Song
"""


def wav(path: Path, *channels: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack(channels, 1), rate, subtype="FLOAT")


def table(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


VOICE, LOOP, DRUMS, NOISE = (make(0.5, RATE) for make in (sounds.voice, sounds.loop, sounds.drums, sounds.noise))


def numbered(root: Path, name: str, header: str, row: str) -> None:
    table(root / "metadata" / f"{name}_eval.csv", header, row)
    wav(root / "data" / name / "segment-0.wav", VOICE)
    wav(root / "data" / name / "mixture-0.wav", VOICE + NOISE)


def audioset(root: Path) -> None:
    stem = "evaluation/data/audioset/class_id=0/class_id=0,index=000"
    table(
        root / "metadata/audioset_eval.csv",
        "idx,caption,src_wav,noise_wav",
        f'0,Speech,"{stem},source.wav","{stem},mixture.wav"',
    )
    for kind, wave in (("source", VOICE), ("mixture", VOICE + NOISE)):
        wav(root / f"data/audioset/class_id=0/class_id=0,index=000,{kind}.wav", wave)


def vggsound(root: Path) -> None:
    table(
        root / "metadata/vggsound_eval.csv",
        "file_id,mix_wav,s0_wav,s0_text,s1_wav,s1_text",
        "a+++b,data/mix_wav/a+++b.wav,data/s0_wav/a+++b.wav,playing accordion,data/s1_wav/a+++b.wav,sea lion barking",
    )
    wav(root / "data/vggsound/data/mix_wav/a+++b.wav", VOICE + NOISE)
    wav(root / "data/vggsound/data/s0_wav/a+++b.wav", VOICE)


def esc50(root: Path) -> None:
    table(root / "esc50_eval.csv", "idx,caption,src_wav,noise_wav", "0,dog,1-1-A-0.wav,5-2-A-29.wav")
    wav(root / "audio/1-1-A-0.wav", VOICE)
    wav(root / "audio/5-2-A-29.wav", 3 * NOISE)


def musdb(root: Path) -> None:
    for name, wave in {"vocals": VOICE, "drums": DRUMS, "bass": LOOP, "other": NOISE}.items():
        wav(root / "test/Band - Song" / f"{name}.wav", wave, 0.5 * wave)
    whole = VOICE + DRUMS + LOOP + NOISE
    wav(root / "test/Band - Song/mixture.wav", whole, 0.5 * whole)


def medleydb(root: Path) -> None:
    for name, wave in (("01", VOICE), ("02", DRUMS), ("03", NOISE)):
        wav(root / f"Audio/Band_Song/Band_Song_STEMS/Band_Song_STEM_{name}.wav", wave, wave)
    wav(root / "Audio/Band_Song/Band_Song_MIX.wav", *2 * [VOICE + DRUMS + NOISE])
    table(root / "Metadata/Band_Song_METADATA.yaml", METADATA)


def dsd100(root: Path) -> None:
    for part, song in (("Dev", "051 - Band - Early"), ("Test", "001 - Band - Late")):
        for name, wave in {"vocals": VOICE, "drums": DRUMS, "bass": LOOP, "other": NOISE}.items():
            wav(root / "Sources" / part / song / f"{name}.wav", wave, 0.5 * wave)
        whole = VOICE + DRUMS + LOOP + NOISE
        wav(root / "Mixtures" / part / song / "mixture.wav", whole, 0.5 * whole)


def mass(root: Path) -> None:
    for name, wave in {"acoustic_guitar": LOOP, "vocals": VOICE}.items():
        wav(root / f"tamy-[live]/tamy-[live]__snip_6_19__{name}.wav", wave)
        wav(root / f"bearlin/bearlin__85_99__{name}.wav", wave)
    wav(root / "bearlin/bearlin__85_99__mix.wav", LOOP + VOICE)


def slakh(root: Path) -> None:
    kinds = {"S00": ("Guitar", "Distortion Guitar", LOOP), "S01": ("Drums", "Drums", DRUMS)}
    kinds["S02"] = ("Guitar", "Distortion Guitar", VOICE)
    for part in ("train/Track00001", "test/Track01876"):
        rows = ["stems:"]
        for name, (kind, program, wave) in kinds.items():
            rows += [f"  {name}:", "    audio_rendered: true", f"    inst_class: {kind}"]
            rows += [f"    is_drum: {str(kind == 'Drums').lower()}", f"    midi_program_name: {program}"]
            wav(root / part / "stems" / f"{name}.wav", wave)
        table(root / part / "metadata.yaml", *rows)
        wav(root / part / "mix.wav", LOOP + DRUMS + VOICE)


def urmp(root: Path) -> None:
    for player, wave in (("1_vn", LOOP), ("2_vn", VOICE), ("3_vc", NOISE)):
        wav(root / f"18_Nocturne_vn_vn_vc/AuSep_{player}_18_Nocturne.wav", wave)
    wav(root / "18_Nocturne_vn_vn_vc/AuMix_18_Nocturne_vn_vn_vc.wav", LOOP + VOICE + NOISE)


def sisec_speech(root: Path) -> None:
    for number, wave in enumerate((VOICE, LOOP), 1):
        wav(root / f"dev1_female3_src_{number}.wav", wave)
        for kind in ("inst", "liverec_250ms_1m"):
            wav(root / f"dev1_female3_{kind}_sim_{number}.wav", 0.7 * wave, number * 0.3 * wave)
    for kind in ("inst", "liverec_250ms_1m"):
        wav(root / f"dev1_female3_{kind}_mix.wav", 0.7 * (VOICE + LOOP), 0.3 * VOICE + 0.6 * LOOP)


def voicebank(root: Path) -> None:
    wav(root / "clean_testset_wav/p232_001.wav", VOICE)
    wav(root / "noisy_testset_wav/p232_001.wav", VOICE + NOISE)


def dnr(root: Path) -> None:
    for name, wave in {"speech": VOICE, "music": LOOP, "sfx": DRUMS, "mix": VOICE + LOOP + DRUMS}.items():
        wav(root / "tt/1002" / f"{name}.wav", wave)


def folder(root: Path) -> None:
    wav(root / "one/mix.wav", VOICE + DRUMS)
    wav(root / "one/dog_barking.wav", VOICE)
    wav(root / "one/drums.wav", DRUMS)
    table(root / "queries.json", json.dumps({"dog_barking": "a small dog"}))


def manifest(root: Path) -> None:
    clips = []
    labels = ("dog barking", "rain", "piano", "applause", "helicopter", "church bells", "sawing", "laughter")
    for index, label in enumerate(labels):
        for take in range(2):
            wav(root / f"{label}-{take}.wav", sounds.voice(0.3 + 0.1 * index, RATE, seed=10 * index + take))
            clips.append(
                Clip(f"{label}-{take}", str(root / f"{label}-{take}.wav"), label, split="val", group=f"{label}{take}")
            )
    write_manifest(root / "manifest.jsonl", clips)


IDX = "idx,caption,src_wav,noise_wav"
SETS: dict[str, tuple[Callable[[Path], None], str, str, int]] = {
    # name: (builder, path below the root, text of the first target's query, targets of the first item)
    "audiocaps": (
        lambda r: numbered(r, "audiocaps", "idx,caption,labels,src_wav,noise_wav", "0,a man talks,Speech,a.wav,b.wav"),
        ".",
        "a man talks",
        1,
    ),
    "clotho": (
        lambda r: numbered(r, "clotho", "idx,caption,src_wav,noise_wav1,noise_wav1", "0,a saw,a.wav,b.wav,c.wav"),
        ".",
        "a saw",
        1,
    ),
    "music": (lambda r: numbered(r, "music", IDX, "0,violin,a.wav,b.wav"), ".", "violin", 1),
    "esc50": (esc50, ".", "dog", 1),
    "audioset": (audioset, ".", "Speech", 1),
    "vggsound": (vggsound, ".", "playing accordion", 1),
    "musdb18-hq": (musdb, ".", "singing voice", 5),
    "mir-1k": (lambda r: wav(r / "Wavfile/amy_1_01.wav", LOOP, VOICE), ".", "singing voice", 2),
    "ikala": (lambda r: wav(r / "Wavfile/10161_verse.wav", LOOP, VOICE), ".", "singing voice", 2),
    "medleydb": (medleydb, ".", "male singer", 2),
    "dsd100": (dsd100, ".", "singing voice", 5),
    "mass": (mass, ".", "acoustic guitar", 2),
    "slakh": (slakh, ".", "distortion guitar", 2),
    "urmp": (urmp, ".", "violin", 2),
    "sisec-speech": (sisec_speech, ".", "", 2),
    "voicebank-demand": (voicebank, ".", "speech", 1),
    "dnr": (dnr, ".", "speech", 3),
    "folder": (folder, ".", "a small dog", 2),
    "manifest": (manifest, "manifest.jsonl", "", 1),
}


def built(name: str, root: Path) -> Benchmark:
    SETS[name][0](root)
    return load_set(f"{name}={root / SETS[name][1]}")


def test_every_reader_is_tested() -> None:
    assert {*SETS, "validation"} == set(READERS)  # the recipe has its own tests


@pytest.mark.parametrize("name", SETS)
def test_published_layouts(name: str, tmp_path: Path) -> None:
    benchmark = built(name, tmp_path)
    first = benchmark.items[0]
    assert len(first.targets) == SETS[name][3]
    assert first.targets[0].query.text == SETS[name][2] or name in ("manifest", "sisec-speech")
    assert first.version
    assert len({item.id for item in benchmark.items}) == len(benchmark.items)
    scene = pickle.loads(pickle.dumps(first)).load()
    assert scene.mix.dtype == np.float32
    assert scene.mix.ndim == 2
    for target in first.targets:
        assert scene.reference(target).shape == scene.mix.shape
    whole = scene.reference(first.targets[0]) + sum(scene.others(first.targets[0]).values())
    np.testing.assert_allclose(whole, scene.mix, atol=1e-5)
    assert first.load().mix.tobytes() == scene.mix.tobytes()


@pytest.mark.parametrize("name", READERS)
def test_missing_data_names_the_layout_and_the_owner(name: str, tmp_path: Path) -> None:
    layout = READERS[name].layout
    with pytest.raises(DataError) as nowhere:
        load_set(f"{name}={tmp_path / 'nowhere'}")
    assert layout.owner in str(nowhere.value)
    assert all(line.strip() in str(nowhere.value) for line in layout.tree.splitlines())
    if name != "manifest":
        with pytest.raises(DataError, match="expected"):
            load_set(f"{name}={tmp_path}" + ("/manifest.jsonl" if name == "validation" else ""))


@pytest.mark.parametrize("name", ["audiocaps", "esc50", "audioset", "vggsound", "musdb18-hq", "medleydb", "dnr",
    "dsd100", "slakh", "sisec-speech"])  # fmt: skip
def test_one_missing_file_is_named(name: str, tmp_path: Path) -> None:
    built(name, tmp_path)
    parts = sorted(path for path in tmp_path.rglob("*.wav") if "mix" not in path.stem.lower())
    victim = parts[-1] if name == "dsd100" else parts[0]  # its first ones are not of the split that is read
    victim.unlink()
    with pytest.raises(DataError, match=victim.name.split(",")[0].split("+")[0]):
        load_set(f"{name}={tmp_path}")


def test_audiosep_sets_are_mono_32_khz_and_average_as_published(tmp_path: Path) -> None:
    for name, average in (("music", "classes"), ("audioset", "class medians"), ("esc50", "clips")):
        benchmark = built(name, tmp_path / name)
        scene = benchmark.items[0].load()
        assert benchmark.average == average
        assert scene.sample_rate == 32000
        assert scene.mix.shape == (1, 16000)


def test_esc50_rebuilt_is_at_zero_db_and_its_published_files_are_read_too(tmp_path: Path) -> None:
    scene = built("esc50", tmp_path / "clips").items[0].load()
    energy = {name: float(np.square(x).sum()) for name, x in scene.sources.items()}
    assert energy["target"] == pytest.approx(energy["rest"], rel=1e-5)
    numbered(tmp_path / "published", "esc50", IDX, "0,dog,a.wav,b.wav")
    assert load_set(f"esc50={tmp_path / 'published'}").items[0].load().sources.keys() == {"target"}


def test_mir1k_channels_and_level(tmp_path: Path) -> None:
    scene = built("mir-1k", tmp_path).items[0].load()
    np.testing.assert_array_equal(scene.sources["vocals"][0], VOICE)
    np.testing.assert_array_equal(scene.sources["accompaniment"][0], LOOP)
    louder = load_set(f"mir-1k={tmp_path},ratio=-5").items[0].load().sources
    ratio = 10 * np.log10(np.square(louder["vocals"]).sum() / np.square(louder["accompaniment"]).sum())
    assert ratio == pytest.approx(-5, abs=1e-4)


def test_accompaniment_of_a_song_is_the_sum_of_its_other_stems(tmp_path: Path) -> None:
    item = built("musdb18-hq", tmp_path).items[0]
    scene = item.load()
    backing = next(target for target in item.targets if target.name == "accompaniment")
    np.testing.assert_allclose(scene.reference(backing)[0], DRUMS + LOOP + NOISE, atol=1e-6)
    assert set(scene.others(backing)) == {"vocals"}


def test_medleydb_reads_stems_not_raw_tracks(tmp_path: Path) -> None:
    item = built("medleydb", tmp_path).items[0]
    assert [(target.name, target.aliases) for target in item.targets] == [
        ("male singer", ("vocals",)),
        ("drum set", ("drums", "percussive")),
    ]
    np.testing.assert_allclose(item.load().reference(item.targets[1])[0], DRUMS + NOISE, atol=1e-6)
    table(tmp_path / "Metadata/Band_Song_METADATA.yaml", METADATA.replace("'no'", "'yes'"))
    with pytest.raises(DataError, match="without bleed"):
        load_set(f"medleydb={tmp_path}")
    assert len(load_set(f"medleydb={tmp_path},bleed=yes").items) == 1


def test_parts_of_published_sets(tmp_path: Path) -> None:
    for name, part in (("dsd100", "001 - Band - Late"), ("slakh", "Track01876")):
        assert [item.id for item in built(name, tmp_path / name).items] == [part]
        assert len(load_set(f"{name}={tmp_path / name},split=any").items) == 2
        with pytest.raises(DataError, match="nothing of the split val"):
            load_set(f"{name}={tmp_path / name},split=val")
        with pytest.raises(ConfigError, match="no split 'dev'"):
            load_set(f"{name}={tmp_path / name},split=dev")
    for singer in ("abjones", "amy", "fdps"):
        wav(tmp_path / f"mir/Wavfile/{singer}_1_01.wav", LOOP, VOICE)
    assert len(load_set(f"mir-1k={tmp_path / 'mir'}").items) == 3
    assert [item.id for item in load_set(f"mir-1k={tmp_path / 'mir'},split=test").items] == ["fdps_1_01"]
    with pytest.raises(ConfigError, match="ratio is a number of dB"):
        load_set(f"mir-1k={tmp_path / 'mir'},ratio=loud")


def test_an_instrument_is_the_sum_of_its_players_and_stem_models_know_it_where_it_is_the_whole_stem(
    tmp_path: Path,
) -> None:
    violins, cello = built("urmp", tmp_path / "urmp").items[0].targets
    scene = load_set(f"urmp={tmp_path / 'urmp'}").items[0].load()
    np.testing.assert_allclose(scene.reference(violins)[0], LOOP + VOICE, atol=1e-6)
    assert violins.aliases == ("violin",)
    assert cello.query.text == "cello"
    drums = built("slakh", tmp_path / "slakh").items[0].targets[1]
    assert (drums.name, drums.aliases) == ("drums", ("drums", "percussive"))
    next((tmp_path / "urmp").rglob("AuSep_2*")).unlink()
    with pytest.raises(DataError, match="2 of 3 players of 18_Nocturne_vn_vn_vc"):
        load_set(f"urmp={tmp_path / 'urmp'}")


def test_excerpts_of_mass_have_their_mixture_or_are_summed(tmp_path: Path) -> None:
    with_mix, summed = built("mass", tmp_path).items
    np.testing.assert_allclose(with_mix.load().mix, summed.load().mix, atol=1e-6)
    wav(tmp_path / "bearlin/bearlin__85_99__mix.wav", LOOP + VOICE + NOISE)
    louder = load_set(f"mass={tmp_path}").items[0]
    np.testing.assert_allclose(louder.load().mix[0], LOOP + VOICE + NOISE, atol=1e-6)
    assert louder.version != with_mix.version


def test_speakers_of_sisec_are_asked_for_by_their_own_recording(tmp_path: Path) -> None:
    items = built("sisec-speech", tmp_path).items
    assert [item.id for item in items] == ["dev1_female3_inst", "dev1_female3_liverec_250ms_1m"]
    scene = items[0].load()
    second = items[0].targets[1]
    assert Path(str(second.query.audio)).name == "dev1_female3_src_2.wav"
    np.testing.assert_allclose(scene.reference(second), np.stack([0.7 * LOOP, 0.6 * LOOP]), atol=1e-6)
    assert len(load_set(f"sisec-speech={tmp_path},mixing=liverec").items) == 1
    (tmp_path / "dev1_female3_src_2.wav").unlink()
    with pytest.raises(DataError, match="not every dev1_female3_src"):
        load_set(f"sisec-speech={tmp_path}")


def test_files_that_do_not_belong_together_are_errors(tmp_path: Path) -> None:
    folder(tmp_path)
    wav(tmp_path / "one/drums.wav", DRUMS[: RATE // 10])
    with pytest.raises(DataError, match="not the same recording"):
        load_set(f"folder={tmp_path}").items[0].load()
    wav(tmp_path / "one/drums.wav", DRUMS, rate=8000)
    with pytest.raises(DataError, match="8000 Hz"):
        load_set(f"folder={tmp_path}").items[0].load()


def test_a_changed_file_changes_the_version(tmp_path: Path) -> None:
    before = built("folder", tmp_path).items[0].version
    assert load_set(f"folder={tmp_path}").items[0].version == before
    wav(tmp_path / "one/drums.wav", DRUMS[:-1])
    assert load_set(f"folder={tmp_path}").items[0].version != before


def test_manifest_mixtures_are_seeded_and_never_mix_like_with_like(tmp_path: Path) -> None:
    manifest(tmp_path)
    text = f"manifest={tmp_path / 'manifest.jsonl'},mixtures=40,seconds=0.4,absent=0.3,rate=16000"
    first, again, other = (load_set(t) for t in (text, text, f"{text},seed=1"))
    assert [item.version for item in first.items] == [item.version for item in again.items]
    assert [item.version for item in first.items] != [item.version for item in other.items]
    np.testing.assert_array_equal(first.items[7].load().mix, again.items[7].load().mix)
    recorded = Path(read_manifest(tmp_path / "manifest.jsonl")[0].path)
    os.utime(recorded, (0, 0))
    changed = [a.version != b.version for a, b in zip(first.items, load_set(text).items, strict=True)]
    assert any(changed)
    assert not all(changed)  # those without this recording keep their scores
    groups = {item.group for item in first.items}
    assert groups == {"absent", "2 sources", "3 sources", "4 sources", "5 sources"}
    for item in first.items[:12]:
        scene, target = item.load(), item.targets[0]
        assert scene.present(target) == (item.group != "absent")
        names = [name for name in scene.sources if name != "target"]
        assert not any(label_table().conflict(name, target.label) for name in names)
        np.testing.assert_allclose(sum(scene.sources.values()), scene.mix, atol=1e-5)
        assert np.abs(scene.mix).max() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("split=exam", "no split 'exam'"),
        ("split=train", "too few labels, 0, for mixtures of 5 and one that is absent; take absent=0"),
        ("sources=8", "too few labels, 8, for mixtures of 8 and one that is absent"),
        ("sources=9,absent=0", "too few labels, 8, for mixtures of 9; take split=any"),
        ("sources=5-2", "a range"),
        ("sources=x", "a range"),
    ],
)
def test_impossible_manifest_options(options: str, message: str, tmp_path: Path) -> None:
    manifest(tmp_path)
    with pytest.raises(DataError, match=message):
        load_set(f"manifest={tmp_path / 'manifest.jsonl'},{options}")


def test_two_labels_are_enough_for_mixtures_of_two_without_absent_sounds(tmp_path: Path) -> None:
    manifest(tmp_path)
    place = tmp_path / "manifest.jsonl"
    write_manifest(place, [clip for clip in read_manifest(place) if clip.label in ("piano", "rain")])
    benchmark = load_set(f"manifest={place},mixtures=5,seconds=0.4,sources=2,absent=0")
    assert {item.group for item in benchmark.items} == {"2 sources"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"sitar": "an instrument"}', "no mixture has a stem 'sitar'"),
        ("{bad", "is not JSON"),
        ('["dog"]', "expected stems with their queries"),
        ('{"dog": 3}', "expected stems with their queries"),
        ('{"dog": " "}', "expected stems with their queries"),
    ],
)
def test_wrong_queries_of_a_folder_are_named(content: str, problem: str, tmp_path: Path) -> None:
    for name in ("mix", "dog"):
        wav(tmp_path / f"{name}.wav", VOICE)
    (tmp_path / "queries.json").write_text(content)
    with pytest.raises(DataError, match=rf"queries\.json.*{problem}"):
        load_set(f"folder={tmp_path}")


def test_set_texts() -> None:
    assert parse("folder=/data/a, b,c") == ("folder", "/data/a, b,c", {})
    assert parse("esc50=/e,pairs=/x=y.csv") == ("esc50", "/e", {"pairs": "/x=y.csv"})
    with pytest.raises(ConfigError, match="musdb18-hq"):
        parse("musdb=/data")
    with pytest.raises(ConfigError, match="folder=PATH"):
        parse("folder")


def test_wrong_options_are_named(tmp_path: Path) -> None:
    manifest(tmp_path)
    place = tmp_path / "manifest.jsonl"
    with pytest.raises(ConfigError, match="no option 'size'"):
        load_set(f"manifest={place},size=3")
    with pytest.raises(ConfigError, match="not of type int"):
        load_set(f"manifest={place},mixtures=many")


def test_limit_is_a_seeded_choice(tmp_path: Path) -> None:
    manifest(tmp_path)
    text = f"manifest={tmp_path / 'manifest.jsonl'},mixtures=30"
    whole, part, again = load_set(text), load_set(text, limit=5, seed=1), load_set(text, limit=5, seed=1)
    ids = [item.id for item in part.items]
    assert ids == [item.id for item in again.items] == sorted(ids)
    assert len(ids) == 5
    assert set(ids) < {item.id for item in whole.items}


def test_scene_of_parts() -> None:
    a, b, c = (np.full((1, 4), value, np.float32) for value in (1, 2, 4))
    scene = Scene(a + b + c, {"a": a, "b": b}, 8)
    both = Target("both", Query("both"), parts=("a", "b"))
    np.testing.assert_array_equal(scene.reference(both), a + b)
    np.testing.assert_array_equal(scene.others(both)["rest"], c)
    assert scene.others(Target("a", Query("a"))).keys() == {"b"}
    assert not scene.present(Target("d", Query("d")))
    assert not scene.reference(Target("d", Query("d"))).any()
    assert scene.seconds == 0.5
    assert Item("x", (both,), lambda: scene).load() is scene


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    wav(tmp_path / "mix.wav", VOICE, NOISE)
    scene = read_scene(str(tmp_path / "mix.wav"), [SourceFile("a", str(tmp_path / "mix.wav"), channel=1)], mono=True)
    np.testing.assert_allclose(scene.mix[0], 0.5 * (VOICE + NOISE), atol=1e-6)
    np.testing.assert_array_equal(scene.sources["a"][0], NOISE)


def test_sources_of_manifest_mixtures_are_at_minus_26_db_plus_their_gain(tmp_path: Path) -> None:
    manifest(tmp_path)
    text = f"manifest={tmp_path / 'manifest.jsonl'},mixtures=5,seconds=0.4,absent=0,rate=16000,sources=2,level=0"
    for item in load_set(text).items:
        scene = item.load()
        assert np.abs(scene.mix).max() < 0.98  # not scaled down
        levels = [10 * np.log10(np.mean(np.square(x))) for x in scene.sources.values()]
        assert levels == pytest.approx([-26, -26], abs=0.01)
