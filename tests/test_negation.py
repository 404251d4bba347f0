"""Texts that ask for what is left: refused with the right call, and never answered with the sound itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Mixture

import audiosep
from audiosep.audio.encode import write_audio
from audiosep.cli import main
from audiosep.errors import QueryError
from audiosep.query.negation import sound_taken_out
from audiosep.separator import Separator


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("no guitar", "guitar"),
        ("Everything but the guitar", "guitar"),
        ("everything except for a dog barking", "dog barking"),
        ("all but drums", "drums"),
        ("remove the vocals", "vocals"),
        ("please remove all the wind noise.", "wind noise"),
        ("without   any drums", "drums"),
        ("the song without the vocals", "vocals"),
        ("background music without speech", "speech"),
        ("get rid of the hum", "hum"),
        ("vocals removed", "vocals"),
        ("drop the vocals", "vocals"),
        ("the vocals are muted", "the vocals"),
    ],
)
def test_what_is_to_be_taken_out(text: str, sound: str) -> None:
    assert sound_taken_out(text) == sound


@pytest.mark.parametrize(
    "text",
    [
        "piano",
        "noise",
        "note of a piano",
        "knock on a door",
        "notification",
        "mute swan",
        "all",
        "muted trumpet",
        "trumpet, muted",
        "guitar palm muted",
        "drop of water",
        "drop falling into water",
    ],
)
def test_names_of_sounds_are_no_negations(text: str) -> None:
    assert sound_taken_out(text) is None


def test_the_refusal_names_the_call(separator: Separator, mixture: Mixture) -> None:
    for query in ("no guitar", audiosep.Query("piano", negative="without drums")):
        with pytest.raises(QueryError, match=r"audiosep remove FILE \"(guitar|drums)\""):
            separator.separate(mixture(0.5), query, sample_rate=16000)


def test_a_remembered_name_may_look_like_one(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    sounds = audiosep.Sounds(tmp_path / "sounds.safetensors")
    sounds.remember("no brand kettle", (mixture(1.0), 16000), separator)
    separator.sounds = sounds
    try:
        assert "no brand kettle" in separator.separate(mixture(0.5), "no brand kettle", sample_rate=16000)
    finally:
        separator.sounds = None


def test_the_command_line_says_it_in_one_line(
    tiny_folder: Path, mixture: Mixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(tmp_path / "street.wav", mixture(0.5), 16000)
    command = ["separate", str(tmp_path / "street.wav"), "everything but the dog", "-m", str(tiny_folder)]
    assert main([*command, "-o", str(tmp_path / "out")]) != 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "dog" in line)
    assert 'audiosep remove FILE "dog"' in line
    assert not (tmp_path / "out").exists()
