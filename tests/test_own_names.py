"""Sounds with names of the user's own: remembered, asked for, kept whole, refused for other models."""

from __future__ import annotations

import errno
import io
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from doubles import FakeEncoder, TinyModel
from safetensors import safe_open
from safetensors.torch import save_file

from audiosep import Options, Query, Separator, Sounds, atomic
from audiosep.audio import probe, read_audio, write_audio
from audiosep.audio.marker import MARK
from audiosep.cli import main
from audiosep.cli.common import ModelOptions
from audiosep.errors import AudioError, AudioSepError, InputError, ModelError, QueryError
from audiosep.query.prototypes import Prototypes, Recordings
from audiosep.query.resolve import resolve

RATE = 16000


def clip(path: Path, level: float = 0.5, seconds: float = 0.5) -> Path:
    write_audio(path, level * np.random.default_rng(0).uniform(-1, 1, (1, int(seconds * RATE))), RATE)
    return path


def write_nan(path: Path) -> None:
    """Put a sample that is no number into a wav file of floats."""
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", np.nan)
    path.write_bytes(data)


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    return [clip(tmp_path / f"kettle{number}.wav", level) for number, level in enumerate((0.2, 0.5, 0.9))]


@pytest.fixture
def sounds(tmp_path: Path) -> Sounds:
    return Sounds(tmp_path / "own" / "sounds.safetensors")


@pytest.fixture
def separator(sounds: Sounds) -> Separator:
    encoder = FakeEncoder()
    vectors = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    prototypes = Prototypes.of(Recordings(("dog", "rain"), vectors), encoder)
    return Separator(TinyModel(), encoder, "cpu", "fp32", prototypes=prototypes, sounds=sounds)


class Other(FakeEncoder):
    """An encoder with other weights."""

    def audio(self, waveforms, sample_rate):  # type: ignore[no-untyped-def]
        return super().audio(waveforms, sample_rate).roll(1, -1)


def other(sounds: Sounds) -> Separator:
    return Separator(TinyModel(), Other(), "cpu", "fp32", name="other", sounds=sounds)


def embedding(separator: Separator, query: str | Query) -> torch.Tensor:
    assert separator.encoder is not None
    own = separator.own_names(query)
    return resolve(query, separator.encoder, None, separator.prototypes, own).embeddings[0]


@pytest.mark.parametrize("text", ["my kettle", "The  My KETTLE ", "a my kettle"])
def test_a_name_is_answered_by_its_examples_and_other_texts_are_as_before(
    sounds: Sounds, separator: Separator, clips: list[Path], text: str
) -> None:
    before, word = embedding(separator, "kettle"), embedding(separator, text)
    sound = sounds.remember("my kettle", clips, separator)
    mean = F.normalize(torch.stack([one.embedding for one in sound.examples]).mean(0), dim=-1)
    assert embedding(separator, text) @ mean > 0.8 > word @ mean
    assert torch.equal(embedding(separator, "kettle"), before)
    assert text in sounds
    assert list(Sounds(sounds.path)) == ["my kettle"]


def test_sounds_can_be_compared(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    one, other = sounds.remember("kettle", clips, separator), sounds["kettle"]
    for part in (lambda sound: sound, lambda sound: sound.listening, lambda sound: sound.examples[0]):
        assert part(one) == part(one)
        assert part(one) != part(other)
        assert part(one) in {part(one), part(other)}


def test_results_say_that_the_name_is_the_users_own(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    sounds.remember("dog", clips, separator)
    mix = np.random.default_rng(1).uniform(-0.5, 0.5, RATE).astype(np.float32)
    explanation = separator.separate(mix, ["dog", "rain"], sample_rate=RATE, options=Options()).explanation
    assert explanation["dog"].own
    assert explanation["dog"].labels == (("dog", 1.0, 3),)
    assert not explanation["rain"].own


def test_a_name_counts_as_a_negative_and_before_the_stems(
    sounds: Sounds, separator: Separator, clips: list[Path]
) -> None:
    assert separator.encoder is not None
    query = Query("rain", negative="drums")
    before = resolve(query, separator.encoder).negatives
    assert separator.stems_for("drums") == {"drums": "drums"}
    sounds.remember("drums", clips, separator)
    assert not torch.equal(resolve(query, separator.encoder, own=separator.own_names(query)).negatives, before)
    assert separator.stems_for("drums") == {}


def test_examples_are_added_or_replaced_and_forgotten(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    sounds.remember("kettle", clips[0], separator)
    assert len(sounds.remember("Kettle", clips[1:], separator).examples) == 3
    sound = sounds.remember("kettle", clips[2], separator, at=[(0.1, 0.3), (0.3, 0.5)], replace=True)
    assert [(one.file, one.start) for one in sound.examples] == [("kettle2.wav", 0.1), ("kettle2.wav", 0.3)]
    assert sound.examples[0].seconds == pytest.approx(0.2)
    sounds.forget("KETTLE")
    assert not sounds
    with pytest.raises(InputError, match="no sound is remembered as 'kettle'"):
        sounds.forget("kettle")


def test_an_example_counts_once_by_what_it_sounds(
    sounds: Sounds, separator: Separator, clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples, rate = read_audio(clips[0])
    write_audio(tmp_path / "same.flac", samples, rate)
    once = sounds.remember("kettle", clips[:2], separator)
    assert not caplog.records
    again = sounds.remember("kettle", [clips[0], tmp_path / "same.flac", clips[2]], separator, keep_audio=True)
    assert "'kettle': 2 of 3 examples, exact copies of others, count once" in caplog.text
    assert [one.file for one in again.examples] == ["kettle0.wav", "kettle1.wav", "kettle2.wav"]
    assert [bool(one.audio) for one in again.examples] == [True, False, True]
    assert torch.equal(again.examples[0].embedding, once.examples[0].embedding.half().float())
    sounds.remember("kettle", clips[1], separator, keep_audio=True)
    other_model = sounds.remember("kettle", clips[2], other(sounds))  # which hears the kept audio again
    assert len(other_model.examples) == 3
    assert len(sounds.remember("bell", clips[0], separator, at=[(0.1, 0.3), (0.1, 0.3), (0, 0.2)]).examples) == 2


def test_examples_are_opened_files_and_bytes_too(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    by_path = sounds.remember("kettle", clips[0], separator, at=[(0.1, 0.3), (0.2, 0.4)])
    data = clips[0].read_bytes()
    with clips[0].open("rb") as file:
        opened = sounds.remember("opened", file, separator, at=[(0.1, 0.3), (0.2, 0.4)])
    assert [(one.file, one.digest) for one in opened.examples] == [(one.file, one.digest) for one in by_path.examples]
    assert [one.file for one in sounds.remember("bytes", data, separator).examples] == [""]
    assert len(sounds.remember("both", [io.BytesIO(data), clips[1]], separator).examples) == 2
    with pytest.raises(InputError, match="example 2: the BytesIO object was empty"):
        sounds.remember("empty", [data, io.BytesIO()], separator)


def test_bad_examples_are_all_named_and_nothing_is_remembered(
    sounds: Sounds, separator: Separator, clips: list[Path], tmp_path: Path
) -> None:
    silent, short = clip(tmp_path / "silent.wav", 0.0), clip(tmp_path / "short.wav", seconds=0.01)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"3 examples") as error:
        sounds.remember("kettle", [*clips, silent, short, broken], separator)
    assert all(path.name in str(error.value) for path in (silent, short, broken))
    assert "kettle0" not in str(error.value)
    write_audio(tmp_path / "silent night.wav", np.ones((1, RATE)), RATE, depth="float")
    write_nan(tmp_path / "silent night.wav")
    with pytest.raises(InputError, match="holds nan at sample"):  # whatever its name says
        sounds.remember("kettle", tmp_path / "silent night.wav", separator)
    with pytest.raises(InputError, match=r"it ends at 1\.00 s, before 5\.00 s"):
        sounds.remember("kettle", (np.ones((1, RATE)), RATE), separator, at=[(5, 6)])
    with pytest.raises(AudioError, match=r"1 example: there is no file none\.wav"):
        sounds.remember("kettle", [*clips, "none.wav"], separator)
    assert not sounds


def test_an_array_needs_its_rate_and_a_message_lists_some_problems(sounds: Sounds, separator: Separator) -> None:
    samples = np.full(RATE, 0.5, np.float32)
    for array in (samples, torch.from_numpy(samples), samples[None]):
        with pytest.raises(InputError, match=r"together with its sample rate: give \(array, 44100\)"):
            sounds.remember("kettle", array, separator)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"because of 300 examples: .*example 20: .*; and 280 more$") as error:
        sounds.remember("kettle", samples[:300].tolist(), separator)
    assert len(str(error.value)) < 5000


def test_a_damaged_model_is_no_fault_of_the_examples(
    sounds: Sounds, separator: Separator, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> torch.Tensor:
        raise ModelError("the weights are incomplete")

    monkeypatch.setattr(FakeEncoder, "audio", damaged)
    with pytest.raises(ModelError, match=r"^the weights are incomplete"):
        sounds.remember("kettle", clips, separator)


def test_another_model_needs_the_audio_of_the_examples(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    sounds.remember("kettle", clips, separator)
    sounds.remember("bell", clips, separator, keep_audio=True)
    stranger = other(sounds)
    with pytest.raises(ModelError, match=r"'kettle' was remembered with another model than other.* --replace"):
        stranger.own_names("kettle")
    with pytest.raises(ModelError, match="--replace"):
        sounds.remember("kettle", clips, stranger)
    heard = stranger.own_names("bell")["bell"]
    assert len(heard.examples) == 3
    assert heard.listening.same(sounds.remember("tap", clips, stranger).listening)
    assert not heard.listening.same(sounds["bell"].listening)


def test_export_and_import(sounds: Sounds, separator: Separator, clips: list[Path], tmp_path: Path) -> None:
    for name in ("kettle", "bell"):
        sounds.remember(name, clips, separator)
    assert sounds.export(tmp_path / "mail", ["bell"]) == 1
    elsewhere = Sounds(tmp_path / "second" / "sounds")
    assert elsewhere.add(tmp_path / "mail") == ["bell"]
    assert torch.equal(elsewhere["bell"].examples[0].embedding, sounds["bell"].examples[0].embedding)
    with pytest.raises(InputError, match="already: bell"):
        sounds.add(tmp_path / "mail")
    assert sounds.path is not None
    with pytest.raises(InputError, match="no file of sounds"):
        sounds.export(clips[0], overwrite=True)
    assert probe(clips[0]).samples == RATE // 2
    with pytest.raises(InputError, match="the file of these sounds itself"):
        sounds.export(sounds.path.parent / "x" / ".." / sounds.path.name, ["bell"], overwrite=True)
    assert sounds.add(tmp_path / "mail", overwrite=True) == ["bell"]
    assert sorted(sounds) == ["bell", "kettle"]
    assert (tmp_path / "mail").stat().st_size < 10_000


def test_a_damaged_file_is_an_error_and_stays(sounds: Sounds, separator: Separator, clips: list[Path]) -> None:
    sounds.remember("kettle", clips, separator)
    assert sounds.path is not None
    damaged = sounds.path.read_bytes()[:200]
    sounds.path.write_bytes(damaged)
    with pytest.raises(ModelError, match="no file of sounds, or damaged"):
        sounds.remember("bell", clips, separator)
    assert sounds.path.read_bytes() == damaged


def test_what_a_file_says_of_its_sounds_is_checked(
    sounds: Sounds, separator: Separator, clips: list[Path], tmp_path: Path
) -> None:
    sounds.remember("kettle", clips, separator, keep_audio=True)
    assert sounds.path is not None
    with safe_open(sounds.path, "pt") as file:
        about = json.loads(file.metadata()["sounds"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = {**tensors, "0.embeddings": -tensors["0.embeddings"]}
    for parts, entries in (
        (changed, about),
        (tensors, [{**about[0], "name": 5}]),
        (tensors, [{**about[0], "name": " "}]),
        (tensors, [{**about[0], "examples": []}]),
        (tensors, [about[0]["name"]]),
        ({}, about),
    ):
        save_file(parts, tmp_path / "changed", {"format": "1", "sounds": json.dumps(entries)})
        with pytest.raises(ModelError, match="no file of sounds, or damaged"):
            Sounds(tmp_path / "second").add(tmp_path / "changed")
    assert not (tmp_path / "second").exists()


def test_names_that_look_alike_are_one_and_what_is_no_name_is_refused(
    sounds: Sounds, separator: Separator, clips: list[Path]
) -> None:
    for name in ("café", "cafe\u0301", "CAFÉ"):
        sounds.remember(name, clips[0], separator)
    assert list(sounds) == ["café"]
    for wrong in (" ", None, "caf\udce9"):
        with pytest.raises(InputError, match="name"):
            sounds.remember(wrong, clips[0], separator)  # type: ignore[arg-type]
    samples = np.full((1, RATE), 0.5, np.float32)
    sounds.remember("tone", (samples, np.int64(RATE)), separator, at=[(0.1, 0.4)])  # type: ignore[arg-type]
    for span in ((0.0, np.inf), "1-2", (0.4, 0.1)):
        with pytest.raises(QueryError, match="span"):
            sounds.remember("tone", (samples, RATE), separator, at=[span])  # type: ignore[list-item]


def test_a_full_disk_loses_nothing(
    sounds: Sounds, separator: Separator, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds.remember("kettle", clips, separator)
    assert sounds.path is not None
    whole = sounds.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(AudioSepError, match="No space left on device: free space"):
            sounds.remember("bell", clips, separator)
    assert sounds.path.read_bytes() == whole
    assert not list(sounds.path.parent.glob("*.part"))


_PROCESS = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from doubles import FakeEncoder, TinyModel
from audiosep import Separator, Sounds, atomic
import audiosep.query.sounds as module
path, name, clip, mode = sys.argv[1:]
separator = Separator(TinyModel(), FakeEncoder(), "cpu", "fp32")
if mode == "killed":
    def stop(self):
        print("writing", flush=True)
        sys.stdin.read()
    atomic.PendingFile.commit = stop
for number in range(5):
    Sounds(path).remember(f"{{name}} {{number}}", clip, separator)
"""


def _process(sounds: Sounds, name: str, example: Path, mode: str) -> subprocess.Popen[str]:
    code = _PROCESS.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(sounds.path), name, str(example), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_lose_nothing_and_a_killed_one_leaves_the_file_whole(
    sounds: Sounds, separator: Separator, clips: list[Path]
) -> None:
    sounds.remember("kettle", clips, separator)
    with _process(sounds, "killed", clips[0], "killed") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "writing\n"
        killed.send_signal(signal.SIGKILL)
    assert list(sounds) == ["kettle"]
    both = [_process(sounds, name, clips[0], "") for name in ("one", "two")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(sounds) == 11
    assert sounds.path is not None
    assert not list(sounds.path.parent.glob("*.part"))


def test_a_thousand_names_are_read_once_and_only_what_is_asked_for(
    sounds: Sounds, separator: Separator, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiosep.query import sounds as module

    one = sounds.remember("kettle", clips[0], separator)
    from dataclasses import replace

    with sounds._changing() as all_of_them:
        all_of_them.update({f"sound {number}": replace(one, name=f"sound {number}") for number in range(1000)})
    calls: list[str] = []
    monkeypatch.setattr(module, "names_of", lambda path, f=module.names_of: (calls.append("names"), f(path))[1])
    monkeypatch.setattr(
        module, "unpacked", lambda path, keys, f=module.unpacked: (calls.append("read"), f(path, keys))[1]
    )
    for _ in range(3):
        separator.own_names(["dog", "rain"])
    assert calls == ["names"]
    separator.own_names("sound 7")
    assert calls == ["names", "read"]


def test_there_are_no_sounds_without_a_home(
    monkeypatch: pytest.MonkeyPatch, separator: Separator, clips: list[Path]
) -> None:
    for name in ("AUDIOSEP_SOUNDS", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert len(Sounds()) == 0
    with pytest.raises(InputError, match="set AUDIOSEP_SOUNDS"):
        Sounds().remember("kettle", clips, separator)


def test_the_command(
    separator: Separator,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AUDIOSEP_SOUNDS", str(tmp_path / "mine"))
    monkeypatch.setattr(ModelOptions, "load", lambda self, own_names=True: separator)
    assert main(["remember", "dog", *map(str, clips[:2])]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "mine")
    assert "knows 'dog' itself" in told.err
    for example, said in ((clips[0], "had these examples already: 2"), (clips[2], "was added to: 3")):
        assert main(["remember", "dog", str(example)]) == 0
        assert f"'dog' {said} examples" in capsys.readouterr().err
    assert main(["remember", "dog", *map(str, clips[:2]), "--replace"]) == 0
    assert "'dog' is remembered: 2 examples" in capsys.readouterr().err
    assert main(["remember", "Our Bell", str(clips[2]), "--at", "0.1-0.4", "--keep-audio", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 1
    assert main(["sounds", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["dog  2 examples", "Our Bell  1 example"]
    assert main(["sounds", "show", "our bell", "--json"]) == 0
    (example,) = json.loads(capsys.readouterr().out)["examples"]
    assert (example["file"], example["start"], example["seconds"]) == ("kettle2.wav", 0.1, 0.3)
    assert 0 < example["kept"] < 20_000
    assert main(["sounds", "export", str(tmp_path / "mail"), "dog"]) == 0
    assert main(["sounds", "forget", "dog"]) == 0
    assert main(["sounds", "import", str(tmp_path / "mail")]) == 0
    assert main(["sounds", "import", str(tmp_path / "mail")]) == 2
    assert "already: dog" in capsys.readouterr().err
    write_audio(tmp_path / "kettle0 (dog).wav", np.full((1, RATE), 0.1, np.float32), RATE, tags={"software": MARK})
    assert main(["remember", "kettles", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "left out: 1 output of audiosep, such as" in told
    assert "'kettles' is remembered: 3 examples" in told
    assert main(["remember", "x", str(tmp_path / "none.wav")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert main(["remember", "x", str(clips[0]), "--at", "soon"]) == 2
    assert "--at: 'soon' is no part" in capsys.readouterr().err
    assert main(["remember", "x", str(clips[0]), "--at", ".4–.2"]) == 2
    assert "--at: '.4–.2' ends before it begins" in capsys.readouterr().err
