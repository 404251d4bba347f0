"""Separate arrays and streams: kinds of arrays, queries, options, latency, engines, loading, errors of bad input."""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Mixture
from doubles import STEMS, FakeEncoder, IdentityModel, TinyConfig, TinyModel
from torch import Tensor

import audiosep
from audiosep import Options, OutputOptions, Query, Sounds, api
from audiosep.audio import read_audio, write_audio
from audiosep.audio.marker import fingerprint, origin_of
from audiosep.errors import AudioError, Cancelled, DependencyError, InputError, ModelError, QueryError
from audiosep.hearing.description import HeardSound
from audiosep.hearing.replayable_recording import recording_of
from audiosep.inference.devices import pick_device, pick_precision, running
from audiosep.inference.low_precision import bf16_is_right
from audiosep.metrics import si_sdr
from audiosep.models.separation_model import Estimate
from audiosep.models.stft import hann
from audiosep.query.query import as_queries
from audiosep.query.resolve import resolve, unique_names
from audiosep.query.work_digest import described
from audiosep.separator import Separator
from audiosep.weights import catalogue
from audiosep.weights.checkpoint import save_model

RATES = (8000, 16000, 22050, 44100, 48000)


def difference(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


# ---- arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a"])
def test_opened_files_and_bytes_are_recordings(
    separator: Separator, mixture: Mixture, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"song.{suffix}"
    write_audio(path, mixture(1.0, 16000, 2), 16000)
    expected = separator.separate(path, "piano")
    data = path.read_bytes()
    with path.open("rb") as file:
        opened = separator.separate(file, "piano")
    for out in (opened, *(separator.separate(kind(data), "piano") for kind in (io.BytesIO, bytes, bytearray))):
        assert np.array_equal(out["piano"], expected["piano"])
    assert opened.save(tmp_path / "a", residual=False) == [tmp_path / "a" / "song (piano).wav"]
    assert out.save(tmp_path / "b", residual=False) == [tmp_path / "b" / "audio (piano).wav"]
    again = recording_of(io.BytesIO(data), None)
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(again.blocks()), axis=1), expected.mix)


def test_the_mark_of_an_opened_file_is_of_what_was_read(
    separator: Separator, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("song.wav", 0), ("bystander.wav", 1)):
        write_audio(tmp_path / name, mixture(0.2, 16000, 1, seed=seed), 16000)
    data = (tmp_path / "song.wav").read_bytes()
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        archive.writestr("song.wav", data)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("song.wav", "-"):  # at the path that the member of the archive, and standard input, state
        Path(name).write_bytes((tmp_path / "bystander.wav").read_bytes())
    with zipfile.ZipFile(tmp_path / "songs.zip") as archive, archive.open("song.wav") as member:
        (path,) = separator.separate(member, "piano").save("out", residual=False)
    assert path.name == "song (piano).wav"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (piped,) = separator.separate("-", "piano").save("out", residual=False)
    assert [origin_of(one).recording for one in (path, piped)] == 2 * [fingerprint(tmp_path / "song.wav")]
    assert fingerprint(Path("-")) is None


def test_opened_files_that_are_none_are_refused(separator: Separator, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.zeros((1, 100)), 16000)
    with (tmp_path / "a.wav").open(encoding="latin-1") as text, pytest.raises(InputError, match=r"open\(path, 'rb'\)"):
        separator.separate(text, "piano")  # type: ignore[call-overload]
    file = io.BytesIO((tmp_path / "a.wav").read_bytes())
    file.read()
    with pytest.raises(InputError, match=r"the BytesIO object was empty: go back to its start with seek\(0\)"):
        separator.separate(file, "piano")
    with pytest.raises(AudioError, match="the bytes object cannot be read as audio"):
        separator.separate(b"no recording", "piano")
    with pytest.raises(InputError, match="sample_rate is for arrays, and the bytes object says its own"):
        separator.separate(bytes(100), "piano", sample_rate=16000)
    with pytest.raises(InputError, match=r"the BytesIO object was empty: go back to its start with seek\(0\)"):
        Query(audio=file)
    with pytest.raises(AudioError, match="the bytes object cannot be read as audio"):
        separator.separate(np.ones((1, 16000)), Query(audio=b"no recording"), sample_rate=16000)


def test_examples_are_opened_files_and_bytes_too(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    mix, path = mixture(1.0, 16000, 1), tmp_path / "kettle.wav"
    write_audio(path, mixture(0.5, 16000, 2), 16000)
    data = path.read_bytes()
    expected = separator.separate(mix, Query(audio=path), sample_rate=16000)
    with path.open("rb") as file:
        queries = [Query(audio=file), *(Query(audio=kind(data)) for kind in (io.BytesIO, bytes, bytearray))]
    assert [query.label for query in queries] == ["kettle", "audio query", "audio query", "audio query"]
    for query in queries:
        for _ in range(2):  # a query may be asked again
            (found,) = separator.separate(mix, query, sample_rate=16000).values()
            assert np.array_equal(found, expected["kettle"])
        assert described(query) == described(Query(audio=path))
    assert len(as_queries(queries[1:])) == 1
    avoiding = separator.separate(mix, Query("piano", negative=queries[1]), sample_rate=16000)["piano"]
    by_path = separator.separate(mix, Query("piano", negative=Query(audio=path)), sample_rate=16000)["piano"]
    assert np.array_equal(avoiding, by_path)
    with pytest.raises(InputError, match="inputs are paths, and these are opened"):
        separator.separate_files([file], "piano", tmp_path / "out")  # type: ignore[list-item]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_outputs_have_the_shape_of_the_input(separator: Separator, mixture: Mixture, rate: int, channels: int) -> None:
    x = mixture(0.7, rate, channels)
    out = separator.separate(x, ["piano", "voice"], sample_rate=rate)
    assert list(out) == ["piano", "voice"]
    assert all(target.shape == x.shape and target.dtype == np.float32 for target in out.values())
    assert out.sample_rate == rate
    assert np.array_equal(out.mix, x)
    assert difference(out["piano"], out["voice"]) > 1e-3


def test_same_kind_out_as_in(separator: Separator, mixture: Mixture) -> None:
    x = mixture(0.5, 16000, 1)
    flat = separator.separate(x[0], "piano", sample_rate=16000)
    assert flat["piano"].shape == flat.residual.shape == (8000,)
    tensor = separator.separate(torch.from_numpy(x).double(), "piano", sample_rate=16000)
    assert isinstance(tensor["piano"], Tensor)
    assert tensor["piano"].shape == tensor.residual.shape == (1, 8000)
    assert difference(tensor["piano"][0], flat["piano"]) == 0
    integers = separator.separate((x[0] * 32768).astype(np.int16), "piano", sample_rate=16000)
    assert difference(integers["piano"], flat["piano"]) < 1e-3


def test_the_original_is_not_touched(separator: Separator, mixture: Mixture) -> None:
    x = mixture(0.5, 44100, 2)
    kept = x.copy()
    x.setflags(write=False)
    separator.separate(x, "piano", sample_rate=44100)
    separator.stems(x[:, ::-1], sample_rate=16000)
    assert np.array_equal(x, kept)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_results_have_memory_of_their_own(separator: Separator, mixture: Mixture, kind: Any) -> None:
    x = kind(mixture(0.5, 16000, 2))
    out = separator.separate(x, "piano", sample_rate=16000)
    residual = out.residual + 0
    x[:] = 0
    assert (out.residual == residual).all()
    out.mix *= 2
    assert not x.any()
    assert out != separator.separate(kind(mixture(0.5)), "piano", sample_rate=16000)


def test_what_cannot_be_pickled_says_so(separator: Separator, tmp_path: Path) -> None:
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r"audiosep\.load"):
            copied(separator)
    assert pickle.loads(pickle.dumps(Sounds(tmp_path / "sounds"))).path == tmp_path / "sounds"


def test_a_path_gives_numpy(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    x = mixture(0.5, 44100, 2)
    write_audio(tmp_path / "my song.wav", x, 44100, depth="float", tags={"title": "Mine"})
    out = separator.separate(tmp_path / "my song.wav", "piano")
    assert np.array_equal(out["piano"], separator.separate(x, "piano", sample_rate=44100)["piano"])
    assert out.file == "my song"
    assert out.info is not None
    assert out.info.tags["title"] == "Mine"


def test_windows_agree_with_the_whole(separator: Separator, mixture: Mixture) -> None:
    x = mixture(6.0, 16000, 2)
    windowed = separator.separate(x, "piano", sample_rate=16000)["piano"]
    whole = Separator(TinyModel(TinyConfig(window=64 * 3000)), FakeEncoder(), "cpu", "fp32")
    expected = whole.separate(x, "piano", sample_rate=16000)["piano"]
    assert 10 * np.log10(np.square(expected).sum() / np.square(windowed - expected).sum()) > 100


@pytest.mark.parametrize("options", [{"overlap": 0.0}, {"overlap": 0.5}, {"shifts": 2}, {"batch": 3}])
def test_options_change_little(separator: Separator, mixture: Mixture, options: dict[str, Any]) -> None:
    x = mixture(2.3, 44100, 2)
    plain = separator.separate(x, "piano", sample_rate=44100)["piano"]
    other = separator.separate(x, "piano", sample_rate=44100, options=Options(**options))["piano"]
    assert difference(plain, other) < (0.02 if "shifts" in options else 1e-5)


def test_many_queries_are_computed_in_groups(separator: Separator, mixture: Mixture) -> None:
    x, queries = mixture(0.5), [f"sound {i}" for i in range(11)]
    together = separator.separate(x, queries, sample_rate=16000)
    for query in (queries[0], queries[4], queries[10]):
        assert difference(together[query], separator.separate(x, query, sample_rate=16000)[query]) < 1e-6


def test_the_upper_band_follows_the_gain_of_the_highest_kilohertz(encoder: FakeEncoder) -> None:
    class Half(IdentityModel):
        def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
            estimate = super().forward(mix, embeddings, negatives)
            return Estimate(estimate.waveforms, estimate.top * 0.5, estimate.presence)

    t = np.arange(48000) / 48000
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 15000 * t)
    x = np.stack([low + 0.3 * high, -low]).astype(np.float32)
    out = Separator(Half(), encoder, "cpu", "fp32").separate(x, "a", sample_rate=48000)["a"]
    expected = np.stack([low + 0.15 * high, -low])
    assert difference(out[:, 2000:-2000], expected[:, 2000:-2000]) < 2e-3


def test_one_mask_for_all_channels_keeps_the_image(separator: Separator, mixture: Mixture) -> None:
    source = mixture(1.0, 44100, 1)
    panned = separator.separate(source * np.float32([[0.8], [-0.2]]), "piano", sample_rate=44100)["piano"]
    assert difference(panned[1], -0.25 * panned[0]) < 1e-5
    assert difference(panned, 0) > 0.01


def test_precision_changes_little(encoder: FakeEncoder, separator: Separator, mixture: Mixture) -> None:
    x = mixture(1.0)
    rough = Separator(TinyModel(), encoder, "cpu", "bf16").separate(x, "piano", sample_rate=16000)["piano"]
    exact = separator.separate(x, "piano", sample_rate=16000)["piano"]
    assert 1e-7 < difference(rough, exact) < 0.02


def test_output_that_is_not_finite_is_an_error(encoder: FakeEncoder, mixture: Mixture) -> None:
    class Broken(IdentityModel):
        def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
            return self._copies(mix, torch.full((len(embeddings),), torch.nan))

    with pytest.raises(ModelError, match="precision='fp32'"):
        Separator(Broken(), encoder, "cpu", "fp32").separate(mixture(), "a", sample_rate=16000)


def test_presence_that_is_not_finite_is_an_error(encoder: FakeEncoder, mixture: Mixture) -> None:
    class Unsure(IdentityModel):
        def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
            estimate = super().forward(mix, embeddings, negatives)
            return Estimate(estimate.waveforms, estimate.top, torch.full_like(estimate.presence, torch.nan))

    with pytest.raises(ModelError, match="precision='fp32'"):
        Separator(Unsure(), encoder, "cpu", "fp32").separate(mixture(), "a", sample_rate=16000)


# ---- queries -------------------------------------------------------------------------------------------------------


def test_names_are_unique(separator: Separator, mixture: Mixture) -> None:
    queries = ["piano", Query("piano", negative="voice"), Query("piano", name="keys")]
    out = separator.separate(mixture(0.3), queries, sample_rate=16000)
    assert list(out) == ["piano", "piano (2)", "keys"]
    assert unique_names(["a", "a (2)", "a"]) == ("a", "a (2)", "a (3)")


def test_a_sound_that_is_named_twice_is_separated_and_taken_away_once(
    separator: Separator, mixture: Mixture, tmp_path: Path
) -> None:
    x, embedding = mixture(0.3), np.ones(16)
    write_audio(tmp_path / "dog.wav", x, 16000)
    queries = [
        *("café", " CAFE\u0301", "The  café", Query("café", negative=["rain", "Rain"])),
        *(Query("café", negative="rain"), Query("café", negative="wind"), Query(embedding=embedding)),
        *(Query(embedding=embedding), Query(audio=tmp_path / "dog.wav"), Query(audio=f"{tmp_path}/./dog.wav")),
    ]
    names = ["café", "café (2)", "café (3)", "embedding query", "dog"]
    out = separator.separate(x, queries, sample_rate=16000)
    assert list(out) == names
    np.testing.assert_allclose(out.residual, x - sum(out.values()), atol=1e-6)
    one = separator.separate(x, ["café", "Café"], sample_rate=16000)
    np.testing.assert_array_equal(one.residual, separator.separate(x, "café", sample_rate=16000).residual)
    assert separator.stream(queries, sample_rate=16000, channels=1).names == tuple(names)
    (result,) = separator.separate_files(tmp_path / "dog.wav", ["café", "Café"], tmp_path / "out").results
    assert list(result.outputs) == ["café", "without café"]
    assert list(separator.stems_for(["drums", "Drums"])) == ["drums"]


def test_negatives_and_their_weight_change_the_target(separator: Separator, mixture: Mixture) -> None:
    x = mixture(0.3)

    def target(query: Query | str) -> Any:
        return next(iter(separator.separate(x, query, sample_rate=16000).values()))

    plain, against = target("piano"), target(Query("piano", negative="voice"))
    assert difference(plain, against) > 1e-3
    assert difference(plain, target(Query("piano", negative="voice", weight=0.0))) == 0
    assert difference(against, target(Query("piano", negative=["voice", "voice"]))) < 1e-6
    assert difference(against, target(Query("piano", negative=["voice", Query("drums")]))) > 1e-4


def test_audio_and_embedding_queries(
    separator: Separator, encoder: FakeEncoder, mixture: Mixture, tmp_path: Path
) -> None:
    example = mixture(0.4, 22050, 2, seed=3)
    write_audio(tmp_path / "my cat.wav", example, 22050, depth="float")
    x = mixture(0.3)
    queries = [
        Query(audio=tmp_path / "my cat.wav"),
        Query(audio=(example, 22050), name="pair"),
        Query(audio=torch.from_numpy(example), name="bare"),
        Query(embedding=encoder.text(["piano"])[0].numpy() * 7, name="vector"),
        Query(embedding=torch.nn.Parameter(encoder.text(["piano"])[0]), name="tensor"),
        Query(embedding=encoder.text(["piano"])[0].double() * 1e-30, name="tiny"),
        "piano",
    ]
    out = separator.separate(x, queries, sample_rate=16000)
    assert list(out) == ["my cat", "pair", "bare", "vector", "tensor", "tiny", "piano"]
    assert difference(out["my cat"], out["pair"]) < 1e-6
    assert difference(out["pair"], out["bare"]) > 0  # a bare array has the rate of the mixture
    assert difference(out["vector"], out["piano"]) < 1e-6
    assert difference(out["tensor"], out["piano"]) < 1e-6
    assert difference(out["tiny"], out["piano"]) < 1e-6


def test_an_example_with_channels_in_opposite_phase_does_not_vanish(mixture: Mixture) -> None:
    class Recording(FakeEncoder):
        def audio(self, waveforms: Any, sample_rate: int) -> Tensor:
            self.received = waveforms[0]
            return super().audio(waveforms, sample_rate)

    encoder, sound = Recording(), mixture(0.2, channels=1)
    resolve(Query(audio=(np.concatenate([sound, -sound]), 16000)), encoder)
    assert difference(encoder.received, sound[0]) < 1e-6


def test_texts_are_embedded_once(encoder: FakeEncoder) -> None:
    resolve(["cached a", Query("cached b", negative="cached a")], encoder)
    again = resolve(["cached b", "cached a"], encoder)
    assert encoder.texts == ["cached a", "cached b"]
    other = FakeEncoder()
    assert other.name == encoder.name  # as models of one recipe are called the same
    resolve("cached a", other)
    assert other.texts == ["cached a"]
    assert again.embeddings.norm(dim=1).allclose(torch.ones(2))
    assert not again.negatives.any()


def test_the_cache_of_texts_has_a_limit(encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiosep.query.resolve._CACHE_SIZE", 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        resolve(text, encoder)
    assert encoder.texts == ["a", "b", "c", "b"]  # b was used longest ago when c came


def test_a_text_that_another_thread_pushes_out_of_the_cache_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeEncoder):
        """Another thread asks for something else whenever "b" is embedded."""

        def text(self, texts: Any) -> Tensor:
            if "b" in texts:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(resolve, "c", self).result(timeout=60)
            return super().text(texts)

    encoder = Interrupted()
    monkeypatch.setattr("audiosep.query.resolve._CACHE_SIZE", 1)
    (expected,) = resolve("a", encoder).embeddings
    assert torch.equal(resolve(["a", "b"], encoder).embeddings[0], expected)
    assert encoder.texts == ["a", "c", "b"]


def test_a_negative_is_as_long_as_its_weight(encoder: FakeEncoder) -> None:
    queries = [Query("piano", negative=["drums", "voice", "rain"], weight=0.7), Query("voice", negative="piano")]
    assert resolve(queries, encoder).negatives.norm(dim=1).tolist() == pytest.approx([0.7, 1.0])


def test_presence(separator: Separator, encoder: FakeEncoder, mixture: Mixture) -> None:
    out = separator.separate(mixture(1.2), ["piano", "voice"], sample_rate=16000)
    assert out.presence is not None
    assert list(out.presence) == ["piano", "voice"]
    assert all(0 < score <= 1 for score in out.presence.values())
    model = TinyModel()
    model.capabilities -= {"presence"}
    assert Separator(model, encoder, "cpu", "fp32").separate(mixture(0.2), "a", sample_rate=16000).presence is None
    assert separator.stems(mixture(0.2), sample_rate=16000).presence is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "at least one query"),
        (None, "text or an audiosep.Query"),
        ("\ud800", "must be words"),
        (Query(embedding=np.ones(16) * 1j), "an array of 16 numbers"),
        (Query(embedding=[1.0, 2.0]), "have 16 numbers"),
        (Query(embedding=[0.0] * 16), "not all zeros"),
        (Query(embedding=[np.nan] * 16), "finite"),
        (Query(embedding="words"), "an array of 16 numbers"),
        (Query(audio=(np.zeros(100, np.float32), 16000)), "silent"),
        ([1], "text or an audiosep.Query"),
        ({"voice": "singing"}, "name='Fido'"),
        (Path("dog.wav"), "audio='dog.wav'"),
        (Query("a bell", negative=["rain", "Bell"]), "asked for and kept out"),
        (Query("a bell", negative=Query("rain", negative="wind")), "no negative of its own: name all"),
        (Query("a bell", negative=["wind", Query("rain", weight=2)]), "no weight of its own: give the weight to"),
        (HeardSound("dog barking", 0.9, ()), "by its words, 'dog barking'"),
        (1, "text or an audiosep.Query"),
    ],
)
def test_bad_queries(separator: Separator, mixture: Mixture, query: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        separator.separate(mixture(0.1), query, sample_rate=16000)


@pytest.mark.parametrize("weight", [-1, np.nan, "2", None])
def test_a_weight_is_a_number(weight: Any) -> None:
    with pytest.raises(QueryError, match="finite number"):
        Query("a", negative="b", weight=weight)


def test_capabilities_are_checked(encoder: FakeEncoder, mixture: Mixture) -> None:
    model = TinyModel()
    model.capabilities = frozenset({"text"})
    plain = Separator(model, encoder, "cpu", "fp32", name="plain")
    x = mixture(0.1)
    with pytest.raises(QueryError, match="plain takes no negative queries"):
        plain.separate(x, Query("a", negative="b"), sample_rate=16000)
    with pytest.raises(QueryError, match="plain takes no audio queries"):
        plain.separate(x, Query(audio=(x, 16000)), sample_rate=16000)
    with pytest.raises(ModelError, match="plain has no fixed stems"):
        plain.stems(x, sample_rate=16000)
    with pytest.raises(ModelError, match="no fixed stems"):
        plain.separate_files("x.wav", None, "out")
    stems_only = Separator(TinyModel(), None, "cpu", "fp32")
    assert stems_only.capabilities == {"stems"}
    with pytest.raises(QueryError, match="only stems"):
        stems_only.separate(x, "piano", sample_rate=16000)


def test_an_encoder_that_embeds_all_texts_alike_is_refused() -> None:
    class Constant(FakeEncoder):
        def text(self, texts: Any) -> Tensor:
            return super().text(["the same"] * len(texts))

    with pytest.raises(QueryError, match="same embedding"):
        Separator(TinyModel(), Constant(), "cpu", "fp32")


# ---- stems ---------------------------------------------------------------------------------------------------------


def test_stems_without_queries(separator: Separator, mixture: Mixture) -> None:
    x = mixture(1.2, 44100, 2)
    out = separator.stems(x, sample_rate=44100)
    assert tuple(out) == STEMS
    assert difference(out.residual, 0) < 1e-6
    assert difference(out.rest("vocals"), out["drums"] + out["bass"] + out["other"]) < 1e-6


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0])
def test_the_last_stem_is_what_the_others_leave(
    separator: Separator, mixture: Mixture, rate: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.float32(scale) * mixture(0.9, rate, 2)
    out = separator.stems(x, sample_rate=rate)
    parts = list(out.values())
    largest = np.max([np.abs(part) for part in (*parts, x)], axis=0)
    assert (np.abs(sum(parts) - x) <= 2 * np.spacing(largest)).all()
    model = separator.model.stems

    def without_the_last(mix: Tensor) -> Estimate:
        whole = model(mix)
        keep = torch.tensor([1.0, 1.0, 1.0, 0.0])
        return Estimate(whole.waveforms * keep[:, None, None], whole.top * keep[:, None])

    monkeypatch.setattr(separator.model, "stems", without_the_last)
    assert all(np.array_equal(a, b) for a, b in zip(parts, separator.stems(x, sample_rate=rate).values(), strict=True))


def test_a_model_with_a_single_stem_gives_it(separator: Separator, mixture: Mixture) -> None:
    model = TinyModel()
    both = model.stems
    model.stem_names = ("vocals",)
    model.stems = lambda mix: Estimate(both(mix).waveforms[:, :1], both(mix).top[:, :1])  # type: ignore[method-assign]
    x = mixture(0.9, 44100, 2)
    alone = Separator(model, None, "cpu", "fp32").stems(x, sample_rate=44100)
    assert difference(alone["vocals"], separator.stems(x, sample_rate=44100)["vocals"]) < 1e-6


# ---- progress and errors -------------------------------------------------------------------------------------------


def test_progress_rises_to_one(separator: Separator, mixture: Mixture) -> None:
    seen: list[float] = []
    separator.separate(mixture(12.0), "a", sample_rate=16000, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 1


def test_progress_cancels(separator: Separator, mixture: Mixture) -> None:
    with pytest.raises(Cancelled):
        separator.separate(mixture(12.0), "a", sample_rate=16000, progress=lambda fraction: fraction < 0.3)

    with pytest.raises(Cancelled):
        separator.stems(mixture(12.0), sample_rate=16000, progress=lambda fraction: np.float64(fraction) < 0.3)

    def own(fraction: float) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        separator.stems(mixture(12.0), sample_rate=16000, progress=own)


@pytest.mark.parametrize(
    ("mix", "options", "message"),
    [
        (np.zeros(0, np.float32), {}, "no samples"),
        (np.zeros((2, 0), np.float32), {}, "no samples"),
        (np.array([0.1, np.nan], np.float32), {}, "nan"),
        (np.array([0.1, np.inf], np.float32), {}, "inf"),
        (np.zeros((100, 2), np.float32), {}, "transpose"),
        (np.zeros((1, 2, 100), np.float32), {}, "shape"),
        (np.zeros(100, np.complex64), {}, "floating point"),
        ([0.0, 0.1], {}, "numpy array or a torch tensor"),
        (np.zeros(100, np.float32), {"sample_rate": None}, "sample_rate=44100"),
        (np.zeros(100, np.float32), {"sample_rate": 100}, "sample rate must be"),
        (np.zeros(100, np.float32), {"sample_rate": np.nan}, "sample rate must be"),
        (np.zeros(100, np.float32), {"options": {"quality": "best"}}, r"audiosep\.Options"),
        (np.zeros(100, np.float32), {"sample_rate": "44100"}, "got '44100'"),
    ],
)
def test_bad_input(separator: Separator, mix: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        separator.separate(mix, "a", **{"sample_rate": 16000, **options})


def test_torch_with_other_defaults_is_refused(separator: Separator, mixture: Mixture) -> None:
    calls: list[Callable[[], object]] = [
        lambda: separator.separate(mixture(0.1), "a", sample_rate=16000),
        lambda: separator.stems(mixture(0.1), sample_rate=16000),
        lambda: separator.stream("a", sample_rate=16000, channels=1),
        lambda: audiosep.load("mini"),
    ]
    for call in calls:
        with torch.device("meta"), pytest.raises(InputError, match=r'with torch\.device\("cpu"\)'):
            call()
        torch.set_default_dtype(torch.float64)
        try:
            with pytest.raises(InputError, match=r"set_default_dtype\(torch\.float32\)"):
                call()
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.device("meta"), torch.device("cpu"):
        separator.separate(mixture(0.1), "a", sample_rate=16000)


def test_a_missing_file(separator: Separator, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no file"):
        separator.separate(tmp_path / "none.wav", "a")


# ---- streams -------------------------------------------------------------------------------------------------------


def pushed(stream: Any, x: Any, block: int) -> tuple[Any, Any]:
    """All targets and the mixture that came with them; checks the stated latency on the way."""
    targets, mixes, ready = [], [], 0
    for start in range(0, x.shape[-1], block):
        targets.append(stream.push(x[:, start : start + block]))
        mixes.append(stream.mix)
        ready += targets[-1].shape[-1]
        assert ready >= min(start + block, x.shape[-1]) - stream.latency
    targets.append(stream.finish())
    mixes.append(stream.mix)
    return np.concatenate(targets, -1), np.concatenate(mixes, -1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block", [160, 4097])
def test_a_stream_gives_what_separate_gives(separator: Separator, mixture: Mixture, rate: int, block: int) -> None:
    x = mixture(1.3, rate, 2)
    stream = separator.stream(["piano", "voice"], sample_rate=rate, channels=2)
    targets, mix = pushed(stream, x, block)
    assert np.array_equal(mix, x)
    whole = separator.separate(x, ["piano", "voice"], sample_rate=rate)
    assert np.array_equal(targets, np.stack(list(whole.values())))
    assert stream.presence == whole.presence
    assert stream.received == x.shape[1]


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_pushed_block_may_be_overwritten(separator: Separator, mixture: Mixture, rate: int) -> None:
    x = mixture(1.3, rate, 2)
    stream = separator.stream("piano", sample_rate=rate, channels=2)
    memory, parts = np.empty((2, 500), np.float32), []
    for start in range(0, x.shape[1], 500):
        block = x[:, start : start + 500]
        memory[:, : block.shape[1]] = block
        parts.append(stream.push(memory if block.shape[1] == 500 else block))
    targets = np.concatenate([*parts, stream.finish()], axis=-1)
    assert np.array_equal(targets[0], separator.separate(x, "piano", sample_rate=rate)["piano"])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("latency", [0.1, 0.3, 3.0])
def test_a_live_stream_keeps_its_latency(separator: Separator, mixture: Mixture, rate: int, latency: float) -> None:
    x = mixture(1.3, rate, 2)
    stream = separator.stream("piano", sample_rate=rate, channels=2, latency=latency)
    assert stream.latency <= latency * rate
    targets, _ = pushed(stream, x, 77)
    assert targets.shape == (1, *x.shape)
    expected = separator.separate(x, "piano", sample_rate=rate)["piano"]
    assert si_sdr(torch.from_numpy(targets[0]), torch.from_numpy(expected)).min() > 15


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("latency", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("samples", [1, 999, 30_001])
def test_a_live_stream_does_not_shift_samples(
    identity: Separator, mixture: Mixture, rate: int, latency: float, samples: int
) -> None:
    x = mixture(30_001 / rate, rate, 2)[:, :samples]
    targets, mix = pushed(identity.stream("piano", sample_rate=rate, channels=2, latency=latency), x, 441)
    assert targets.shape == (1, *x.shape)
    assert np.array_equal(mix, x)
    if rate == identity.sample_rate:
        assert np.array_equal(targets[0], x)
    elif rate > identity.sample_rate:  # there and back, and the band above the model's
        assert difference(targets[0], x) < 1e-6
    elif samples > 999:  # at the edge of a lower band something is lost there and back
        assert si_sdr(torch.from_numpy(targets[0]), torch.from_numpy(x)).min() > 15


def test_more_of_the_past_costs_more_and_changes_little(separator: Separator, mixture: Mixture) -> None:
    x = mixture(2.0, 16000, 2)
    lengths: list[int] = []
    forward = separator.model.forward
    separator.model.forward = lambda mix, *rest: (lengths.append(mix.shape[-1]), forward(mix, *rest))[1]  # type: ignore[method-assign]
    outs = {}
    for past in (None, 0.02, 0.2):
        lengths.clear()
        outs[past] = pushed(separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=past), x, 160)[0]
        hops = 16000 * (0.1 + (0.032 if past is None else past)) / 64 + 4  # and what is mirrored
        assert set(lengths) == {max(lengths)}
        assert max(lengths) / 64 == pytest.approx(hops, abs=2)
    assert si_sdr(torch.from_numpy(outs[0.02]), torch.from_numpy(outs[0.2])).min() > 15
    with pytest.raises(InputError, match="into the past, got -1"):
        separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=-1)
    with pytest.raises(InputError, match="into the past, got 9"):
        separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=9)
    with pytest.raises(InputError, match="into the past, got '1'"):
        separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past="1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"past=0\.2 is for streams with a latency"):
        separator.stream("piano", sample_rate=16000, channels=2, past=0.2)


def test_the_longest_past_that_is_told_is_kept(separator: Separator, mixture: Mixture) -> None:
    x = mixture(1.0)
    with pytest.raises(InputError, match="past must be 0 to") as told:
        separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=9)
    most = float(str(told.value).split()[5])
    stream = separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=most)
    assert pushed(stream, x, 500)[0].shape == (1, *x.shape)
    with pytest.raises(InputError, match="past must be 0 to"):
        separator.stream("piano", sample_rate=16000, channels=2, latency=0.1, past=most + 0.001)


@pytest.mark.parametrize("latency", [None, 0.1])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_rate_may_be_a_whole_number_of_any_kind(
    separator: Separator, mixture: Mixture, rate: int, latency: float | None
) -> None:
    x = mixture(0.7, rate)
    whole, *others = (
        pushed(separator.stream("piano", sample_rate=kind(rate), channels=2, latency=latency), x, 5000)[0]
        for kind in (int, float, np.int32)
    )
    assert all(np.array_equal(whole, other) for other in others)


def test_stems_as_a_stream_and_torch_blocks(separator: Separator, mixture: Mixture) -> None:
    x = torch.from_numpy(mixture(1.0))
    stream = separator.stream(None, sample_rate=16000, channels=2)
    targets = torch.cat([stream.push(x), stream.finish()], -1)
    assert stream.names == STEMS
    assert torch.equal(targets, torch.stack(list(separator.stems(x, sample_rate=16000).values())))


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_empty_block_changes_nothing(separator: Separator, mixture: Mixture, rate: int, kind: Any) -> None:
    x = mixture(1.0, rate)
    stream = separator.stream(["piano", "voice"], sample_rate=rate, channels=2)
    whole = stream.push(x)
    expected = np.concatenate([whole, stream.finish()], -1)
    stream = separator.stream(["piano", "voice"], sample_rate=rate, channels=2)
    blocks = []
    for start in range(-1, x.shape[1], 9000):
        assert stream.push(kind(x[:, :0])).shape == (2, 2, 0)
        assert stream.mix.shape == (2, 0)
        blocks.append(stream.push(x[:, max(start, 0) : start + 9000]))
    assert difference(np.concatenate([*blocks, stream.finish()], -1), expected) < 1e-6
    mono = separator.stream("piano", sample_rate=rate, channels=1)
    assert mono.push(kind(x[0, :0])).shape == (1, 0)
    with pytest.raises(InputError, match="has 1 channel,"):
        mono.push(kind(x[:, :0]))
    with pytest.raises(InputError, match="no samples"):
        mono.finish()
    with pytest.raises(InputError, match="finished"):
        stream.push(kind(x))
    assert stream.received == stream.returned == x.shape[1]


def test_bad_streams(separator: Separator) -> None:
    with pytest.raises(InputError, match="latency must be"):
        separator.stream("a", sample_rate=44100, channels=2, latency=0.001)
    with pytest.raises(InputError, match="1 to 8 channels"):
        separator.stream("a", sample_rate=44100, channels=9)
    with pytest.raises(InputError, match="got '2'"):
        separator.stream("a", sample_rate=44100, channels="2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"latency must be .* got '1'"):
        separator.stream("a", sample_rate=44100, channels=2, latency="1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sample rate must be"):
        separator.separate(np.ones(100), Query(audio=(np.ones(100), None)), sample_rate=16000)  # type: ignore[arg-type]
    stream = separator.stream("a", sample_rate=44100, channels=2)
    with pytest.raises(InputError, match="has 2 channels"):
        stream.push(np.zeros((1, 10), np.float32))
    with pytest.raises(InputError, match="nan"):
        stream.push(np.full((2, 10), np.nan, np.float32))
    with pytest.raises(InputError, match="no samples"):
        separator.stream("a", sample_rate=44100, channels=2).finish()
    for rate, latency in ((16000, None), (44100, None), (44100, 0.1)):
        stream = separator.stream("a", sample_rate=rate, channels=1, latency=latency)
        stream.push(np.zeros((1, 10), np.float32))
        assert stream.finish().shape == (1, 1, 10)
        with pytest.raises(InputError, match="ended before"):
            stream.finish()
        with pytest.raises(InputError, match="finished"):
            stream.push(np.zeros((1, 10), np.float32))


@pytest.mark.parametrize(("rate", "latency"), [(16000, None), (44100, None), (16000, 0.1)])
def test_a_stream_that_has_failed_refuses_to_go_on(
    separator: Separator, mixture: Mixture, monkeypatch: pytest.MonkeyPatch, rate: int, latency: float | None
) -> None:
    """The window that failed is missing: what came behind it would be of another time."""
    x = mixture(2.0, rate, 2)

    def opened() -> Any:
        return separator.stream("piano", sample_rate=rate, channels=2, latency=latency)

    def full(*_: Any) -> Estimate:
        raise RuntimeError("no more memory")

    pushed_to, abandoned = opened(), opened()
    pushed_to.push(x[:, :9000])
    with monkeypatch.context() as patch:
        patch.setattr(separator.model, "forward", full)
        with pytest.raises(RuntimeError, match="no more memory"):
            pushed_to.push(x[:, 9000:])
    next(abandoned.pieces(x))
    for stream in (pushed_to, abandoned):
        with pytest.raises(InputError, match="has failed: open a new one"):
            stream.push(x)
        with pytest.raises(InputError, match="has failed: open a new one"):
            stream.finish()


def test_what_a_stream_refuses_changes_nothing(separator: Separator, mixture: Mixture) -> None:
    x = mixture(1.0)
    stream = separator.stream("piano", sample_rate=16000, channels=2)
    with pytest.raises(InputError, match="no samples"):
        stream.finish()
    parts = [stream.push(x[:, :9000])]
    for bad in (x[:1], np.full((2, 10), np.nan, np.float32)):
        with pytest.raises(InputError, match=r"has 2 channels|nan"):
            stream.push(bad)
    parts += [stream.push(x[:, 9000:]), stream.finish()]
    whole = separator.separate(x, "piano", sample_rate=16000)["piano"]
    assert np.array_equal(np.concatenate(parts, -1)[0], whole)


# ---- devices, engines, loading ---------------------------------------------------------------------------------------


def test_devices_and_precisions(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "audiosep"):
        separator = Separator(TinyModel(), FakeEncoder(), name="tiny")
    assert separator.device == pick_device("auto")
    assert separator.precision == pick_precision("auto", separator.device)
    assert f"tiny on {separator.device} in {separator.precision}" in caplog.text
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) in ("bf16", "fp32")
    assert pick_precision("fp32", cpu) == "fp32"
    for device in ("warp", "openvino", "cuda:99", "mps" if not torch.backends.mps.is_available() else "cuda:99"):
        with pytest.raises(InputError, match="device"):
            pick_device(device)
    with pytest.raises(InputError, match="unknown precision"):
        pick_precision("int4", cpu)
    with pytest.raises(InputError, match="fp16"):
        pick_precision("fp16", cpu)


def within_autocast(work: Callable[[Separator], Any], folder: Path) -> tuple[Any, Any]:
    """What a model that was just loaded gives, and the same within the caller's autocast to bf16."""
    found = []
    for enabled in (False, True):
        separator = audiosep.load(folder, device="cpu", precision="fp32", sounds=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(work(separator))
    return found[0], found[1]


def test_fp32_is_kept_within_the_callers_autocast(mini_folder: Path, mixture: Mixture, tmp_path: Path) -> None:
    x = mixture(2.0, 32000)
    query = Query("piano", negative=Query(audio=(mixture(1.0, 32000, 1, seed=1), 32000)))

    def separated(separator: Separator) -> dict[str, Any]:
        stream = separator.stream(query, sample_rate=32000, channels=2, latency=0.2)
        live = np.concatenate([stream.push(x), stream.finish()], -1)
        return {**separator.separate(x, query, sample_rate=32000), "live": live}

    def remembered(separator: Separator) -> dict[str, Tensor]:
        sound = Sounds(tmp_path / str(id(separator))).remember("bell", (x, 32000), separator)
        return {"example": sound.examples[0].embedding, "probe": sound.listening.probe}

    for work in (separated, remembered):
        expected, found = within_autocast(work, mini_folder)
        assert {name: difference(found[name], expected[name]) for name in expected} == dict.fromkeys(expected, 0.0)
    with torch.autocast("cpu", torch.bfloat16), running(torch.device("cpu"), "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(not catalogue.installed("mini"), reason="this checkout has no weights")
def test_the_embedded_model_keeps_fp32_within_the_callers_autocast() -> None:
    x, rate = read_audio(Path(__file__).parents[1] / "examples" / "audio" / "speech.flac", seconds=2)

    def all_of_it(separator: Separator) -> tuple[Any, ...]:
        out = separator.separate(x, "speech", sample_rate=rate)
        curve = out.activity["speech"].presence
        described = separator.describe(x, sample_rate=rate, quick=True)
        return out["speech"].tobytes(), curve.tobytes(), out.presence, described

    expected, found = within_autocast(all_of_it, catalogue.locate("mini"))
    assert found == expected


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({}, "fp32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "fp32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bf16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, "fp32"),
    ],
)
def test_auto_is_the_precision_that_the_processor_is_fast_in(
    able: dict[str, object], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert pick_precision("auto", torch.device("cpu")) == precision


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(mini_folder: Path, mixture: Mixture) -> None:
    x = mixture(4.0, 44100, 2)
    exact = audiosep.load(mini_folder, "cuda", "fp32").separate(x, ["piano", "dog"], sample_rate=44100)
    expected = audiosep.load(mini_folder, "cpu", "fp32").separate(x, ["piano", "dog"], sample_rate=44100)
    assert difference(exact["piano"], expected["piano"]) < 1e-4
    fast = audiosep.load(mini_folder)
    assert (fast.device.type, fast.precision) == ("cuda", "bf16")
    runs = [fast.separate(x, ["piano", "dog"], sample_rate=44100)["piano"] for _ in range(2)]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert difference(runs[0], expected["piano"]) < 0.02


def test_a_gpu_runs_by_deterministic_algorithms() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    with running(torch.device("cuda"), "fp32"):
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (True, False, True, False)
        assert torch.is_inference_mode_enabled()
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


def test_threads_on_a_gpu_bring_back_the_settings_of_the_caller() -> None:
    """Settings of the whole process that two threads change and restore in turns would stay as one had set them."""
    cudnn, inside = torch.backends.cudnn, list[bool]()
    before = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)

    def other() -> None:
        with running(torch.device("cuda"), "fp32"):
            inside.append(cudnn.deterministic)
            leave.wait(0.05)

    leave, thread = threading.Event(), threading.Thread(target=other)
    with running(torch.device("cuda"), "fp32"), running(torch.device("cuda"), "fp32"):
        thread.start()
        thread.join(0.05)
    leave.set()
    thread.join()
    assert inside == [True]
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


def test_bf16_that_is_wrong_here_is_not_used(
    encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = torch.nn.functional.conv2d

    def broken(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        out = right(x, *arguments, **options)
        if torch.is_autocast_enabled("cpu"):
            out[..., -1:] = 0  # a part of the layer is left undone
        return out

    bf16_is_right.cache_clear()
    assert bf16_is_right("cpu")
    bf16_is_right.cache_clear()
    monkeypatch.setattr(torch.nn.functional, "conv2d", broken)
    try:
        with caplog.at_level(logging.WARNING, "audiosep"):
            assert Separator(TinyModel(), encoder, "cpu", "bf16").precision == "fp32"
        assert "bf16 gives wrong results" in caplog.text
    finally:
        bf16_is_right.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which libraries a process has")
@pytest.mark.parametrize("first", ["torch", "audiosep"])
def test_dynamic_threads_of_a_torch_that_came_first_are_found(first: str) -> None:
    """The package switches them off, which comes too late for a torch that has read the environment."""
    code = f"import {first}, torch, audiosep; from audiosep.inference.low_precision import bf16_problem as problem; "
    code += "print(problem('cpu'))"
    dynamic = os.environ | {"OMP_DYNAMIC": "true"}
    answer = subprocess.run([sys.executable, "-c", code], env=dynamic, capture_output=True, text=True, check=True)
    assert ("OMP_DYNAMIC=true" in answer.stdout) == (first == "torch")


def test_separating_does_not_keep_from_training_afterwards(separator: Separator, mixture: Mixture) -> None:
    hann.cache_clear()
    x = mixture(0.5)
    separator.separate(x, "piano", sample_rate=16000)  # in inference mode, whose tensors autograd refuses
    model = TinyModel()
    model(torch.from_numpy(x)[None], torch.eye(16)[:1]).waveforms.square().mean().backward()
    assert model.second.weight.grad is not None


def test_convolution_weights_are_channels_last(separator: Separator) -> None:
    assert separator.model.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_to_another_precision_and_device(separator: Separator, mixture: Mixture) -> None:
    x = mixture(1.0)
    exact = separator.separate(x, "piano", sample_rate=16000)["piano"]
    assert separator.to(precision="bf16") is separator
    assert (separator.device.type, separator.precision) == ("cpu", "bf16")
    rough = separator.separate(x, "piano", sample_rate=16000)["piano"]
    assert 1e-7 < difference(rough, exact) < 0.02
    assert separator.to("cpu").precision == "bf16"  # what is not given stays
    with pytest.raises(InputError, match="fp16"):
        separator.to(precision="fp16")
    with pytest.raises(InputError, match="device"):
        separator.to("warp")
    assert (separator.device.type, separator.precision) == ("cpu", "bf16")
    separator.to(precision="fp32")
    assert np.array_equal(separator.separate(x, "piano", sample_rate=16000)["piano"], exact)


class FullDevice(TinyModel):
    """While `full` is set, moving fails after one layer; float64 stands for the other device."""

    full = False

    def to(self, *arguments: Any, **keywords: Any) -> FullDevice:
        if self.full:
            self.full = False
            self.first.double()
            raise torch.OutOfMemoryError("out of memory")
        return super().to(*arguments, **keywords).float()


class FullDeviceEncoder(FakeEncoder):
    """While `full` is set, moving fails, and until it is moved back it embeds nothing."""

    full = moved = False

    def to(self, device: torch.device | str) -> FullDeviceEncoder:
        self.moved, self.full = self.full, False
        if self.moved:
            raise torch.OutOfMemoryError("out of memory")
        return self

    def text(self, texts: Any) -> Tensor:
        assert not self.moved
        return super().text(texts)


@pytest.mark.parametrize("part", ["model", "encoder"])
def test_a_move_that_fails_leaves_the_separator_as_it_was(part: str, mixture: Mixture) -> None:
    x = mixture(0.2)
    separator = Separator(FullDevice(), FullDeviceEncoder(), "cpu", "fp32")
    before = separator.separate(x, ["piano", "dog"], sample_rate=16000)["dog"]
    separator = Separator(FullDevice(), FullDeviceEncoder(), "cpu", "fp32")
    getattr(separator, part).full = True
    with pytest.raises(torch.OutOfMemoryError):
        separator.to(precision="bf16")
    assert separator.precision == "fp32"
    assert np.array_equal(separator.separate(x, ["piano", "dog"], sample_rate=16000)["dog"], before)
    assert separator.to("cpu").precision == "fp32"  # nor is the precision that failed wanted later
    assert separator.to(precision="bf16").precision == "bf16"


def test_a_closed_separator_frees_its_memory_and_refuses_further_use(mixture: Mixture, tmp_path: Path) -> None:
    x = mixture(0.2)
    with Separator(TinyModel(), FakeEncoder(), "cpu", "fp32", name="tiny") as separator:
        stream = separator.stream("piano", sample_rate=16000, channels=2)
        network, encoder = weakref.ref(separator.model), weakref.ref(separator.encoder)
    uses: list[Callable[[], object]] = [
        lambda: separator.separate(x, "piano", sample_rate=16000),
        lambda: separator.stems(x, sample_rate=16000),
        lambda: separator.separate_files(tmp_path / "a.wav", "piano", tmp_path),
        lambda: separator.separate_files(tmp_path / "a.wav", None, tmp_path),
        lambda: separator.stream(None, sample_rate=16000, channels=2),
        lambda: separator.to("cpu"),
        lambda: separator.encoder,
        lambda: separator.device,
        separator.__enter__,
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"\(tiny\) is closed"):
            use()
    separator.close()  # a second time: no effect
    assert stream.push(x).shape[-1] + stream.finish().shape[-1] == x.shape[-1]  # streams that are open go on
    del stream
    gc.collect()
    assert network() is None
    assert encoder() is None


def test_engines(encoder: FakeEncoder, mini_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Separator(TinyModel(), encoder, "cpu").engine == "torch"
    with pytest.raises(InputError, match="engine must be torch or openvino, got 'tvm'"):
        Separator(TinyModel(), encoder, "cpu", engine="tvm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="openvino is an engine and no device: use engine='openvino'"):
        Separator(TinyModel(), encoder, "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"\.\[openvino\]"):
        audiosep.load(mini_folder, engine="openvino", precision="fp32")


# ---- the functions of the package ------------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keywords of each load; no model is loaded before."""
    monkeypatch.setattr(api, "_models", OrderedDict())
    seen: list[dict[str, Any]] = []
    load = api.load
    monkeypatch.setattr(api, "load", lambda model, **loading: (seen.append(loading), load(model, **loading))[1])
    return seen


def test_a_model_stays_loaded_until_its_files_change(
    tiny_folder: Path, mixture: Mixture, loads: list[dict[str, Any]]
) -> None:
    x = mixture(0.2)

    def separate(**loading: Any) -> Any:
        return audiosep.separate(x, "piano", sample_rate=16000, model=tiny_folder, device="cpu", **loading)["piano"]

    first = separate()
    assert tuple(audiosep.stems(x, sample_rate=16000, model=str(tiny_folder), device="cpu")) == STEMS
    assert np.array_equal(separate(), first)
    assert len(loads) == 1
    model = TinyModel()
    with torch.no_grad():
        model.second.bias += 0.5
    save_model(tiny_folder, model, query={"encoder": "fake"}, extra={"name": "tiny"})
    changed = separate()
    assert len(loads) == 2
    assert difference(changed, first) > 1e-4
    (tiny_folder / "MODEL_CARD.md").write_text("Not read by load.")
    separate()
    assert len(loads) == 2
    # What "auto" chose is loaded already.
    other = "fp32" if pick_precision("auto", torch.device("cpu")) == "bf16" else "bf16"
    separate(precision=other)
    assert loads[2:] == [{"device": "cpu", "precision": other}]


def test_what_load_takes_goes_through_and_two_models_are_kept(
    tiny_folder: Path, mixture: Mixture, loads: list[dict[str, Any]]
) -> None:
    x = mixture(0.2)
    other = Path(shutil.copytree(tiny_folder, tiny_folder.with_name("other")))
    for folder, precision in ((tiny_folder, "fp32"), (tiny_folder, "bf16"), (tiny_folder, "fp32"), (other, "fp32")):
        audiosep.separate(x, "piano", sample_rate=16000, model=folder, device="cpu", precision=precision)
    assert [loading["precision"] for loading in loads] == ["fp32", "bf16", "fp32"]
    audiosep.separate(x, "piano", sample_rate=16000, model=tiny_folder, device="cpu", precision="bf16")
    assert [loading["precision"] for loading in loads] == ["fp32", "bf16", "fp32", "bf16"]
    with pytest.raises(ModelError, match="adapter"):
        audiosep.stems(x, sample_rate=16000, model=tiny_folder, adapter=tiny_folder / "none.safetensors")
    with pytest.raises(InputError, match="engine must be"):
        audiosep.stems(x, sample_rate=16000, model=tiny_folder, engine="tvm")  # type: ignore[call-overload]


def test_defaults_and_the_spelling_of_a_path_do_not_load_a_model_twice(
    tiny_folder: Path, mixture: Mixture, loads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = mixture(0.2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    spellings: list[dict[str, Any]] = [
        {},
        {"device": "auto"},
        {"adapter": None, "engine": "torch", "precision": "auto"},
        {"device": torch.device("cpu")},
        {"device": "cpu"},
    ]
    for loading in spellings:
        audiosep.separate(x, "piano", sample_rate=16000, model=tiny_folder, **loading)
    assert loads == [{}]
    adapter = tiny_folder / "mine.safetensors"
    adapter.write_bytes(b"")
    monkeypatch.setattr(api, "apply_adapter", lambda network, path: None)
    monkeypatch.chdir(tiny_folder)
    for path in (adapter, str(adapter), "mine.safetensors", Path("./mine.safetensors")):
        audiosep.separate(x, "piano", sample_rate=16000, model=".", adapter=path)
    assert len(loads) == 2


def test_a_model_that_fails_to_load_again_is_loaded_by_the_next_call(
    tiny_folder: Path, mixture: Mixture, loads: list[dict[str, Any]]
) -> None:
    x = mixture(0.2)
    first = audiosep.stems(x, sample_rate=16000, model=tiny_folder)["bass"]
    config = (tiny_folder / "config.json").read_text()
    (tiny_folder / "config.json").write_text("{")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"config\.json"):
            audiosep.stems(x, sample_rate=16000, model=tiny_folder)
    (tiny_folder / "config.json").write_text(config)
    assert np.array_equal(audiosep.stems(x, sample_rate=16000, model=tiny_folder)["bass"], first)
    assert len(loads) == 4


def test_unknown_keywords_are_refused_before_anything_is_read(
    separator: Separator, loads: list[dict[str, Any]]
) -> None:
    function: Any
    for function, arguments in ((audiosep.separate, ("none.wav", "piano")), (audiosep.stems, ("none.wav",))):
        for model in ("no model", separator):
            with pytest.raises(TypeError, match=r"'overlap': pass options=Options\(overlap=\.\.\.\)"):
                function(*arguments, model=model, overlap=0.1)
            with pytest.raises(TypeError, match="'devise': load takes device, precision, adapter, engine"):
                function(*arguments, model=model, devise="cpu")
    assert loads == []


def test_a_separator_is_used_as_it_is(separator: Separator, mixture: Mixture, loads: list[dict[str, Any]]) -> None:
    x = mixture(0.2)
    ours = audiosep.separate(x, "piano", sample_rate=16000, model=separator)["piano"]
    assert np.array_equal(ours, separator.separate(x, "piano", sample_rate=16000)["piano"])
    with pytest.raises(InputError, match="device, precision: this separator is loaded already"):
        audiosep.stems(x, sample_rate=16000, model=separator, device="cpu", precision="fp32")
    assert loads == []


def test_threads_load_a_model_once(tiny_folder: Path, mixture: Mixture, loads: list[dict[str, Any]]) -> None:
    x = mixture(0.2)
    with ThreadPoolExecutor(4) as pool:
        outs = list(pool.map(lambda _: audiosep.stems(x, sample_rate=16000, model=tiny_folder)["bass"], range(4)))
    assert len(loads) == 1
    assert all(np.array_equal(out, outs[0]) for out in outs)


def test_mistakes_of_calls_get_messages_that_fit(
    separator: Separator, tmp_path: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, mixture(0.2), 16000)
    with pytest.raises(InputError, match=r"one recording at a time, got 1 paths: .*separate_files"):
        separator.separate([str(path)], "piano")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="sample_rate is for arrays"):
        separator.separate(path, "piano", sample_rate=16000)
    (tmp_path / "broken.mp3").write_bytes(b"ID3\x04\0\0\0\0\0\x0a\xff\xfb\x90\0" + bytes(500))
    with pytest.raises(AudioError, match="soundfile: the data is damaged"):
        separator.separate(tmp_path / "broken.mp3", "piano")
    (tmp_path / "repet").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="folder repet here is no model of audiosep, and repet is a baseline"):
        audiosep.load("repet")


def test_one_sound_under_several_names_is_taken_out_once(
    separator: Separator, mixture: Mixture, tmp_path: Path
) -> None:
    mix = mixture(1.0, 16000, 1)
    one = separator.separate(mix, "piano", sample_rate=16000)
    names = [Query("piano", name="keys"), Query("piano", name="grand"), Query("piano", negative="rain", name="dry")]
    out = separator.separate(mix, names, sample_rate=16000)
    assert list(out) == ["keys", "grand", "dry"]
    np.testing.assert_array_equal(out["keys"], out["grand"])
    np.testing.assert_array_equal(out.residual, mix - (out["keys"] + out["dry"]))
    write_audio(tmp_path / "mix.wav", mix, 16000, depth="float")
    for output in (OutputOptions(), OutputOptions(everywhere=False, rest_only=True)):
        alone, both = (
            separator.separate_files(
                tmp_path / "mix.wav", queries, tmp_path / f"{output.rest_only} {number}", output=output
            )
            for number, queries in enumerate(("piano", names[:2]))
        )
        left, also = ([*report.results[0].outputs.values()][-1] for report in (alone, both))
        assert (left.stem, also.stem) == ("mix (without piano)", "mix (without keys, grand)")
        np.testing.assert_allclose(read_audio(left)[0], read_audio(also)[0], atol=1e-6)
    np.testing.assert_array_equal(one.residual, mix - one["piano"])
    songs = [Query("vocals", name="her"), Query("singing", name="him"), "drums"]
    options = Options(stem_head=True)
    (result,) = separator.separate_files(tmp_path / "mix.wav", songs, tmp_path / "stems", options=options).results
    assert list(result.outputs) == ["her", "him", "drums", "without her, him, drums"]
    her, him, drums, rest = (read_audio(path)[0] for path in result.outputs.values())
    np.testing.assert_array_equal(her, him)
    np.testing.assert_allclose(rest, mix - her - drums, atol=1e-6)
