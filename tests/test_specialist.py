"""Words from one model, stems from another: load(stems=), --stems-model, and the user's configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Mixture, Run
from doubles import FakeEncoder, IdentityModel, TinyModel

import audiosep
from audiosep.audio import read_audio, write_audio
from audiosep.cli.common import ModelOptions
from audiosep.errors import ConfigError, InputError, ModelError
from audiosep.inference.options import Options
from audiosep.inference.routed_stream import Part, RoutedStream
from audiosep.query.query import Query
from audiosep.query.stem_words import holder_of
from audiosep.separator import Separator
from audiosep.weights.checkpoint import save_model
from audiosep.weights.user_config import UserConfig, read_user_config

RATE = 16000


def other_model() -> TinyModel:
    """A tiny model whose stems differ from those of the tiny model of the other tests."""
    model = TinyModel()
    with torch.no_grad():
        model.heads.weight.neg_()
    return model


@pytest.fixture
def specialist() -> Separator:
    return Separator(other_model(), device="cpu", precision="fp32", name="specialist")


@pytest.fixture
def both(separator: Separator, specialist: Separator) -> Separator:
    return Separator(separator.model, separator.encoder, "cpu", "fp32", name="words", specialist=specialist)


@pytest.fixture
def specialist_folder(doubles_registered: None, tmp_path: Path) -> Path:
    return save_model(tmp_path / "special", other_model(), query=None)


def test_words_for_stems_go_to_the_specialist_and_the_rest_to_the_model(
    both: Separator, separator: Separator, specialist: Separator, mixture: Mixture
) -> None:
    mix = mixture(3.1)
    out = both.separate(mix, ["the drums", "tambourine", "singer"], sample_rate=RATE)
    assert list(out) == ["the drums", "tambourine", "singer"]
    stems, words = specialist.stems(mix, sample_rate=RATE), separator.separate(mix, "tambourine", sample_rate=RATE)
    np.testing.assert_array_equal(out["the drums"], stems["drums"])
    np.testing.assert_array_equal(out["singer"], stems["vocals"])
    np.testing.assert_array_equal(out["tambourine"], words["tambourine"])
    np.testing.assert_allclose(sum(out.values()) + out.residual, mix, atol=1e-6)
    assert set(out.presence or {}) == {"tambourine"}  # stems have none
    assert not out.complete


def test_two_words_for_a_stem_are_one_sound(both: Separator, mixture: Mixture) -> None:
    mix = mixture(0.5)
    out, one = both.separate(mix, ["singer", "dog", "the vocals"], sample_rate=RATE), ["singer", "dog"]
    assert list(out) == one
    np.testing.assert_array_equal(out.residual, both.separate(mix, one, sample_rate=RATE).residual)
    named = [Query("vocals", name="a"), Query("singer", name="b"), Query("singing", negative="dog"), "vocals"]
    assert list(both.separate(mix, named, sample_rate=RATE)) == ["a", "b", "singing", "vocals"]
    by_words = both.separate(mix, ["singer", "the vocals"], sample_rate=RATE, options=Options(stem_head=False))
    assert list(by_words) == ["singer", "the vocals"]


def test_an_instrument_is_asked_of_the_stem_that_holds_it(
    both: Separator, separator: Separator, specialist: Separator, mixture: Mixture
) -> None:
    mix = mixture(2.0)
    out = both.separate(mix, ["violin", "dog", "drums", "a synth"], sample_rate=RATE)
    other = specialist.stems(mix, sample_rate=RATE)["other"]
    held = separator.separate(other, ["violin", "a synth"], sample_rate=RATE)
    np.testing.assert_array_equal(out["violin"], held["violin"])
    np.testing.assert_array_equal(out["a synth"], held["a synth"])
    np.testing.assert_array_equal(out["dog"], separator.separate(mix, "dog", sample_rate=RATE)["dog"])
    assert both.stems_holding(["violin", "dog"]) == {"violin": "other"}
    assert separator.stems_holding("violin") == {}
    six = ("vocals", "drums", "bass", "guitar", "piano", "other")
    assert [holder_of(text, six) for text in ("electric piano", "ukulele", "tambourine", "choir")] == [
        "piano", "other", None, None,
    ]  # fmt: skip
    assert holder_of("violin", ("speaker 1", "speaker 2")) is None


def test_stems_are_the_specialists(both: Separator, specialist: Separator, mixture: Mixture) -> None:
    mix = mixture(2.0)
    out, alone = both.stems(mix, sample_rate=RATE), specialist.stems(mix, sample_rate=RATE)
    assert all(np.array_equal(out[name], alone[name]) for name in both.stem_names)
    assert out.complete
    assert both.capabilities >= {"text", "stems"}


def test_negatives_and_by_words_stay_with_the_model(both: Separator, separator: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0)
    words = separator.separate(mix, "drums", sample_rate=RATE)["drums"]
    by_words = both.separate(mix, "drums", sample_rate=RATE, options=Options(stem_head=False))["drums"]
    np.testing.assert_array_equal(by_words, words)
    query = Query("drums", negative="speech")
    negative = separator.separate(mix, query, sample_rate=RATE)["drums"]
    np.testing.assert_array_equal(both.separate(mix, query, sample_rate=RATE)["drums"], negative)


def test_one_name_for_two_targets_is_numbered(both: Separator, mixture: Mixture) -> None:
    out = both.separate(mixture(0.5), [Query("drums", name="a"), Query("dog", name="a")], sample_rate=RATE)
    assert list(out) == ["a", "a (2)"]
    assert not np.array_equal(out["a"], out["a (2)"])


@pytest.mark.parametrize("block", [777, 50_000])
def test_streams_with_other_windows_are_aligned(block: int, encoder: FakeEncoder, mixture: Mixture) -> None:
    """Models with other rates and windows answer late by different times; every target is the mixture itself here."""
    other = IdentityModel()
    other.window = 2 * IdentityModel().window
    specialist = Separator(other, device="cpu")
    words = Separator(IdentityModel(), encoder, "cpu")
    mix = mixture(4.0)
    parts = [
        Part(specialist.stream(None, sample_rate=RATE, channels=2), {"drums": specialist.stem_names[0]}),
        Part(words.stream("dog", sample_rate=RATE, channels=2), {"dog": "dog"}),
    ]
    heard = parts[0], specialist.stem_names[0]
    parts.append(Part(words.stream("flute", sample_rate=RATE, channels=2), {"flute": "flute"}, heard))
    stream = RoutedStream(parts, ["dog", "drums", "flute"])
    assert stream.latency > parts[0].latency
    pushed = [stream.push(mix[:, start : start + block]) for start in range(0, mix.shape[1], block)]
    targets = np.concatenate([*pushed, stream.finish()], -1)
    assert targets.shape == (3, *mix.shape)
    assert all(np.array_equal(target, mix) for target in targets)
    assert (stream.received, stream.returned) == (mix.shape[1], mix.shape[1])
    assert stream.mix.shape[-1] + sum(part.shape[-1] for part in pushed) == mix.shape[1]
    with pytest.raises(InputError, match="finished"):
        stream.push(mix)


def test_a_specialist_needs_stems(separator: Separator, encoder: FakeEncoder) -> None:
    model = TinyModel()
    model.stem_names, model.capabilities = (), frozenset({"text"})
    with pytest.raises(ModelError, match="has no fixed stems"):
        Separator(separator.model, encoder, "cpu", specialist=Separator(model, encoder, "cpu", name="words only"))


def test_loading_and_closing(tiny_folder: Path, specialist_folder: Path, mixture: Mixture) -> None:
    separator = audiosep.load(tiny_folder, "cpu", sounds=False, stems=specialist_folder)
    assert separator.specialist is not None
    assert separator.specialist.name == "special"
    mix = mixture(0.5)
    kept = audiosep.stems(mix, sample_rate=RATE, model=tiny_folder, device="cpu", stems=specialist_folder)
    own = audiosep.stems(mix, sample_rate=RATE, model=tiny_folder, device="cpu")
    np.testing.assert_array_equal(kept["drums"], separator.stems(mix, sample_rate=RATE)["drums"])
    assert not np.array_equal(kept["drums"], own["drums"])
    separator.close()
    with pytest.raises(ModelError, match="closed"):
        separator.stems(mix, sample_rate=RATE)


def test_the_specialist_goes_where_the_engine_of_the_model_computes(
    mini: Separator, specialist: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    both = Separator(mini.model, mini.encoder, engine="openvino", precision="fp32", specialist=specialist)
    places: list[object] = []
    monkeypatch.setattr(specialist, "to", places.append)
    for device in ("auto", "cpu", None):
        both.to(device)
    assert places == ["cpu", "cpu", None]


def test_what_the_specialist_cannot_do_leaves_both_where_they_were(
    both: Separator, specialist: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Separator:
        raise torch.OutOfMemoryError("does not fit")

    monkeypatch.setattr(specialist, "to", full)
    before = both.precision
    assert before == "fp32"
    with pytest.raises(torch.OutOfMemoryError):
        both.to("cpu", "bf16")
    assert both.precision == before


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def song(tmp_path: Path, mixture: Mixture) -> Path:
    write_audio(tmp_path / "song.wav", mixture(1.0), RATE, depth="float")
    return tmp_path / "song.wav"


def test_the_command_line_takes_a_stems_model(
    run: Run, song: Path, tiny_folder: Path, specialist_folder: Path, tmp_path: Path
) -> None:
    options = ("-m", tiny_folder, "--stems-model", specialist_folder, "--device", "cpu", "-f", "wav")
    code, _, err = run("separate", song, "drums", "tambourine", "-o", tmp_path / "a", "--residual", *options)
    assert code == 0, err
    assert "drums: by the stems of special" in err
    parts = [read_audio(path)[0] for path in sorted((tmp_path / "a").glob("*.wav"))]
    assert len(parts) == 3
    np.testing.assert_allclose(sum(parts), read_audio(song)[0], atol=1e-3)
    code, out, err = run("stems", song, "-o", tmp_path / "b", "--json", *options)
    assert code == 0, err
    assert json.loads(out)["model"] == "special"
    code, out, err = run("separate", song, "drums", "-o", tmp_path / "c", "--by-words", *options)
    assert (code, "--by-words takes no stems" in err) == (2, True)
    code, out, err = run(
        "separate", song, "drums", "-o", tmp_path / "c", "--by-words", *options, "--stems-model", "none"
    )
    assert (code, "by the stems" in err) == (0, False)
    code, _, err = run("stems", song, "--stems-model", "nowhere", "-o", tmp_path / "d")
    assert (code, "nowhere" in err) == (1, True)


def test_the_stems_model_computes_as_it_is_asked(
    run: Run, song: Path, tiny_folder: Path, specialist_folder: Path, tmp_path: Path
) -> None:
    separator = audiosep.load(tiny_folder, "cpu", "bf16", sounds=False, stems=specialist_folder)
    assert separator.specialist is not None
    assert (separator.precision, separator.specialist.precision) == ("bf16", "bf16")
    options = (
        "-m",
        tiny_folder,
        "--stems-model",
        specialist_folder,
        "--device",
        "cpu",
        "-o",
        tmp_path / "out",
        "--json",
    )
    code, out, err = run("stems", song, *options, "--precision", "bf16")
    assert code == 0, err
    assert (json.loads(out)["model"], json.loads(out)["precision"]) == ("special", "bf16")
    code, _, err = run("stems", song, *options, "--adapter", "mine.safetensors")
    assert (code, "--adapter changes --model" in err) == (2, True)


def test_a_published_stems_model_computes_in_fp32(
    tiny_folder: Path, specialist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyModel, "needs_fp32", True)
    separator = audiosep.load(tiny_folder, "cpu", "fp32", sounds=False, stems=specialist_folder)
    assert separator.specialist is not None
    with pytest.raises(InputError, match="fp32 only"):  # of the model itself
        audiosep.load(tiny_folder, "cpu", "bf16", sounds=False, stems=specialist_folder)


@pytest.mark.parametrize("wanted", ["htdemucs", "no/such-folder"])
def test_a_configured_model_that_is_not_here_is_missed_only_where_it_is_needed(
    run: Run, song: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    from audiosep.weights import catalogue

    monkeypatch.setattr(catalogue, "installed", lambda name: tiny_folder if name == "mini" else None)
    monkeypatch.setenv("AUDIOSEP_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(f'stems_model = "{wanted}"\n')
    options = ("-o", tmp_path / "out", "--device", "cpu", "--overwrite")
    for arguments in (("separate", song, "dog"), ("separate", song, "drums", "--by-words"),
                      ("stems", song, "--stems-model", "none")):  # fmt: skip
        code, _, err = run(*arguments, *options)
        assert code == 0, err
    for arguments in (("separate", song, "dog", "drums"), ("separate", song, "violin"), ("stems", song)):
        code, _, err = run(*arguments, *options)
        assert code == 1
        assert wanted in err
        assert f"your configuration file {tmp_path / 'config.toml'} asks for" in err
        assert "--stems-model none" in err
    code, _, err = run("separate", song, "dog", "--stems-model", wanted, *options)  # a name that was given is checked
    assert (code, "configuration file" in err) == (1, False)


def test_a_configured_model_that_cannot_be_loaded_names_the_configuration(
    run: Run, song: Path, tiny_folder: Path, specialist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiosep.weights import catalogue

    monkeypatch.setattr(catalogue, "installed", lambda name: tiny_folder if name == "mini" else None)
    monkeypatch.setenv("AUDIOSEP_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(f"stems_model = {json.dumps(str(specialist_folder))}\n")
    (specialist_folder / "model.safetensors").unlink()
    for arguments in (("stems", song), ("separate", song, "drums")):
        code, _, err = run(*arguments, "-o", tmp_path / "out", "--device", "cpu")
        assert code == 1
        assert "model.safetensors is missing" in err
        assert "your configuration file" in err


def test_a_default_in_the_users_configuration(
    run: Run,
    song: Path,
    tiny_folder: Path,
    specialist_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from audiosep.weights import catalogue

    monkeypatch.setattr(catalogue, "installed", lambda name: tiny_folder if name == "mini" else None)
    monkeypatch.setenv("AUDIOSEP_CONFIG", str(tmp_path / "config.toml"))
    with pytest.raises(ConfigError, match="does not exist"):
        read_user_config()
    (tmp_path / "config.toml").write_text(f"stems_model = {json.dumps(str(specialist_folder))}\n")
    cases = {(): "special", ("--stems-model", "none"): tiny_folder.name, ("-m", tiny_folder): tiny_folder.name}
    for arguments, model in cases.items():
        code, out, err = run("stems", song, "-o", tmp_path / "out", "--overwrite", "--json", *arguments)
        assert code == 0, err
        assert json.loads(out)["model"] == model
    assert ModelOptions().stems_from(None) == str(specialist_folder)
    assert ModelOptions().stems_from("none") is None
    assert ModelOptions(model=str(tiny_folder)).stems_from(None) is None
    assert ModelOptions(adapter="cat.safetensors").stems_from(None) is None
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUDIOSEP_CONFIG", "~/config.toml")
    (tmp_path / "config.toml").write_text(f'stems_model = "~/{specialist_folder.relative_to(tmp_path)}"\n')
    code, out, err = run("stems", song, "-o", tmp_path / "home", "--json")
    assert (code, json.loads(out).get("model")) == (0, "special"), err
    for text in ("stems_model = 3", "stem_model = 'x'", "stems_model"):
        (tmp_path / "config.toml").write_text(text)
        code, _, err = run("stems", song, "-o", tmp_path / "other")
        assert (code, "your configuration file" in err) == (2, True)
    monkeypatch.delenv("AUDIOSEP_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "empty"))
    assert read_user_config() == UserConfig()
