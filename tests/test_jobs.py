"""Jobs of the command line that people finish their work with: early checks, removing, going on, reports, kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Mixture, Run

from audiosep.api import load
from audiosep.atomic import PendingFile, remove_leftovers
from audiosep.audio import probe, read_audio, write_audio
from audiosep.audio.covers import Cover
from audiosep.audio.marker import Origin, fingerprint, is_marked, mark_for, origin_of
from audiosep.cli import main
from audiosep.cli.common import ModelOptions, on_command_line
from audiosep.cli.query_options import build, split
from audiosep.errors import Cancelled, InputError
from audiosep.inference.options import Options
from audiosep.inference.parallel import check_jobs, free_memory, jobs_that_fit
from audiosep.output.batch_report import BatchEvent, FileResult
from audiosep.output.names import earlier_outputs, folded_names
from audiosep.query.query import Query
from audiosep.query.stem_words import stem_of
from audiosep.separator import Separator
from research import jobs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def songs(tmp_path: Path, mixture: Mixture) -> Path:
    """A folder with three songs."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 3):
        write_audio(folder / f"{number}.wav", mixture(0.5, 16000, 1, seed=number), 16000)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ---- checks before the model is loaded -------------------------------------------------------------------------------


REFUSED = [
    (["separate", "none.wav", "piano"], 1, "there is no file"),
    (["separate", "", "piano"], 2, "an input has an empty name"),
    (["separate", "SONG", "piano", "-o", ""], 2, "--out is empty"),
    (["separate", "SONG", "piano", "-f", "xyz"], 2, "unknown format 'xyz'"),
    (["separate", "SONG", "piano", "-f", "mp4"], 2, "its own format with --video, and m4a is mp4"),
    (["separate", "SONG", "piano", "-f", "aac"], 2, "did you mean 'm4a'?"),
    (["separate", "SONG", "piano", "-o", "new.wav"], 2, "new.wav would be a folder, though its name"),
    (["separate", "SONG", "piano", "-o", "-dash.mp4"], 2, "-dash.mp4 would be a folder, though its name"),
    (["separate", "SONG", "piano", "-o", "OUT"], 1, "or template, --overwrite or --skip-existing"),
    (["separate", "SONG", "piano", "-m", "none"], 1, "no folder 'none'"),
    (["separate", "SONG", "--like", "none.wav"], 1, "there is no file none.wav"),
    (["separate", "SONG", "piano", "--adapter", "none"], 1, "there is no file none"),
    (
        ["separate", "SONG", "piano", "--overwrite", "--skip-existing"],
        2,
        "--overwrite and --skip-existing exclude",
    ),
    (["remove", "SONG", "piano", "--rest"], 2, "No such option: --rest"),
    (["stems", "SONG", "--only", "Guitar", "-m", "MINI"], 2, "audiosep separate FILE Guitar"),
    (["stems", "SONG", "the vocals", "-o", "x"], 2, "1.wav --only 'the vocals' -o x"),
    (["separate", "-o", "x", "speech", "SONG", "--mono"], 2, "1.wav speech --mono"),
    (["separate", "speech", "SONG", "dog"], 2, "1.wav speech dog"),
    (["separate", "speech", "SONG", "SONG"], 2, "separate -q speech"),
    (["separate", "typo.wav", "SONG", "dog"], 2, "separate typo.wav"),
    (["stems", "SONG", "--only", "Drumms", "-m", "MINI"], 2, "did you mean 'drums'?"),
    (["stems", "SONG", "--only", "Voice", "-m", "MINI"], 2, "did you mean 'vocals'?"),
    (["stems", "SONG", "--rest", "-m", "MINI"], 2, "name those to remove"),
    (["stems", "SONG", "--explain", "-m", "MINI"], 2, "stems have none"),
    (["separate", "SONG", "piano", "--rest", "--no-residual"], 2, "--no-residual leaves it out"),
    (["separate", "SONG", "drums", "--by-words", "--stems-model", "htdemucs"], 2, "--by-words takes no stems"),
]
# Reads command lines, and writes the exit code of each, what it says, and the large packages that are loaded then.
PROGRAM = """
import contextlib, io, json, sys
from audiosep.cli import main
for command in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(command)
    heavy = {"torch", "numpy", "soundfile", "mutagen", "rich"} & set(sys.modules)
    print(json.dumps([code, said.getvalue(), sorted(heavy)]))
"""


def test_what_cannot_work_is_refused_before_anything_large_is_imported(
    songs: Path, mini_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "1 (piano).wav").write_text("mine")
    places = {"SONG": str(songs / "1.wav"), "OUT": str(out), "MINI": str(mini_folder)}
    commands = [[places.get(word, word) for word in words] for words, _, _ in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        input=json.dumps(commands), capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line, (words, code, says) in zip(done.stdout.splitlines(), REFUSED, strict=True):
        found, said, loaded = json.loads(line)
        assert (found, says in said, loaded) == (code, True, []), (words, said)
    assert names(tmp_path) == sorted(["in", "in/1.wav", "in/2.wav", "in/3.wav", "out", "out/1 (piano).wav"])


def test_a_forgotten_q_is_answered_with_the_whole_command(songs: Path) -> None:
    one, two = str(songs / "1.wav"), str(songs / "2.wav")
    command = ["separate", one, two, "my piano", "-o", "out"]
    with pytest.raises(InputError) as caught:
        split([one, two, "my piano"], False, command=command)
    assert str(caught.value).endswith(f"audiosep separate {one} {two} -q 'my piano' -o out")
    with pytest.raises(InputError, match=r"2\.wav -q QUERY$"):
        split([one, two], False)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("x exists already: overwrite=True or skip_existing=True", "x exists already: --overwrite or --skip-existing"),
        ("use precision='fp32', or device='cpu'", "use --precision fp32, or --device cpu"),
        ("reads audio track 2; others (track=): 1", "reads audio track 2; others (--track): 1"),
        ("raise max_seconds if that is right", "raise --max-seconds if that is right"),
        ("write wav, or leave out on_clip", "write wav, or leave out --on-clip"),
        ("overlap must be a number", "--overlap must be a number"),
        ("name those to remove (only=)", "name those to remove (--only)"),
        ("there is no file max_seconds.wav", "there is no file max_seconds.wav"),
        ("there is no file track=1/none.wav", "there is no file track=1/none.wav"),
        ("there is no file a/engine='x'/y.wav", "there is no file a/engine='x'/y.wav"),
    ],
)
def test_messages_name_options_in_place_of_arguments(said: str, shown: str) -> None:
    assert on_command_line(said) == shown


def test_a_sound_that_is_named_twice_is_separated_once() -> None:
    found = build(["grand piano", "Grand  piano ", "dog"], [Path("a.wav"), Path("a.wav")])
    assert [query.label for query in found] == ["grand piano", "dog", "a"]


def test_the_corrected_command_has_the_options(run: Run, songs: Path) -> None:
    code, _, err = run("separate", songs / "1.wav", songs / "2.wav", "piano", "--format", "flac")
    assert code == 2
    assert f"audiosep separate {songs / '1.wav'} {songs / '2.wav'} -q piano --format flac" in err


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_of_formats_and_stems_have_any_case(run: Run, songs: Path, mini_folder: Path, tmp_path: Path) -> None:
    code, _, err = run(
        "stems", songs / "1.wav", "--only", "VOCALS", "--only", "bass guitar", "-f", ".FLAC", "-m", mini_folder,
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert names(tmp_path / "out") == ["1 (bass).flac", "1 (vocals).flac", "1 (without vocals, bass).flac"]


def test_words_for_stems() -> None:
    assert [stem_of(text) for text in ("Vocals", " the  drum kit", "bass guitar", "speech", "double bass")] == [
        "vocals", "drums", "bass", None, None,
    ]  # fmt: skip


def test_a_query_that_names_a_stem_is_answered_by_it(run: Run, songs: Path, mini_folder: Path, tmp_path: Path) -> None:
    song, model = songs / "1.wav", ("-m", mini_folder)
    assert run("stems", song, "--only", "drums", "-o", tmp_path / "stems", *model)[0] == 0
    code, _, err = run("separate", song, "drum kit", "-o", tmp_path / "query", *model)
    assert (code, "drum kit: by the stems of mini" in err) == (0, True)
    assert names(tmp_path / "query") == ["1 (drum kit).wav", "1 (without drum kit).wav"]
    stem, target = tmp_path / "stems" / "1 (drums).wav", tmp_path / "query" / "1 (drum kit).wav"
    assert np.array_equal(read_audio(stem)[0], read_audio(target)[0])
    code, _, err = run("separate", song, "drum kit", "--by-words", "-o", tmp_path / "words", *model)
    assert (code, "by the stems" in err) == (0, False)
    assert not np.array_equal(read_audio(stem)[0], read_audio(tmp_path / "words" / "1 (drum kit).wav")[0])


def test_stems_answer_only_where_all_queries_name_one(separator: Separator) -> None:
    assert separator.stems_for(["singer", "drums"]) == {"singer": "vocals", "drums": "drums"}
    assert separator.stems_for(["singer", "piano"]) == {}


def test_two_words_for_a_stem_are_one_sound(run: Run, songs: Path, mini_folder: Path, tmp_path: Path) -> None:
    song, model = songs / "1.wav", ("-m", mini_folder)
    code, _, err = run("separate", song, "vocals", "singing", "drums", "-o", tmp_path / "two", *model)
    assert (code, "singing is the same stem as vocals" in err) == (0, True), err
    assert run("separate", song, "vocals", "drums", "-o", tmp_path / "one", *model)[0] == 0
    assert names(tmp_path / "two") == names(tmp_path / "one")
    for name in names(tmp_path / "one"):  # and what is left has lost it once
        assert np.array_equal(read_audio(tmp_path / "one" / name)[0], read_audio(tmp_path / "two" / name)[0])
    code, _, err = run("separate", song, "vocals", "singing", "--by-words", "-o", tmp_path / "words", *model)
    assert (code, "same stem" in err) == (0, False)
    assert names(tmp_path / "words")[:2] == ["1 (singing).wav", "1 (vocals).wav"]


# ---- removing --------------------------------------------------------------------------------------------------------


def test_remove_writes_the_recording_without_the_sound(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    song, model = songs / "1.wav", ("-m", tiny_folder)
    assert run("separate", song, "dog barking", "-o", tmp_path / "both", *model)[0] == 0
    code, out, err = run("remove", song, "dog barking", "-o", tmp_path / "one", *model, "--everywhere")
    assert code == 0, err
    path = tmp_path / "one" / "1 (without dog barking).wav"
    assert out == f"{path}\n"
    assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes()
    code, out, err = run("remove", song, "dog barking", "-o", tmp_path / "within", *model, "--json")
    (result,) = json.loads(out)["results"]
    assert result["activity"]["dog barking"]["spans"] == []  # this model is never sure
    (sure,) = re.findall(r"not surely heard: dog barking \((\d+)% at the most\)", err)
    assert int(sure) == round(100 * max(result["activity"]["dog barking"]["presence"]))
    assert np.array_equal(read_audio(tmp_path / "within" / path.name)[0], read_audio(song)[0])


def test_only_silence_is_not_heard_for_a_fact(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "silence.wav", np.zeros((1, 16000)), 16000)
    code, _, err = run("separate", tmp_path / "silence.wav", "dog", "-o", tmp_path / "out", "-m", tiny_folder)
    assert (code, "not heard: dog" in err, "surely" in err) == (0, True, False)


def test_remove_to_standard_output_takes_several_sounds(
    songs: Path, tiny_folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    command = ["remove", str(songs / "1.wav"), "dog", "cat", "-o", "-", "-m", str(tiny_folder), "--quiet"]
    assert main(command) == 0
    out, err = capsysbinary.readouterr()
    assert (out[:4], err) == (b"RIFF", b"")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="videos are made with ffmpeg")
def test_a_video_keeps_its_picture_and_gets_other_sound(
    run: Run, tiny_folder: Path, tmp_path: Path, suffix: str
) -> None:
    film = tmp_path / f"film{suffix}"
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=2"]
    make += [
        "-itsoffset",
        "0.5",
        "-f",
        "lavfi",
        "-i",
        "sine=440:d=1.5",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-metadata",
        "title=My film",
        "-metadata:s:a:0",
        "language=deu",
    ]
    subprocess.run([*make, str(film)], check=True)
    code, out, err = run("remove", film, "dog", "--video", "-o", tmp_path / "out", "-m", tiny_folder)
    assert code == 0, err
    made = tmp_path / "out" / f"film (without dog){suffix}"
    assert (out, names(tmp_path / "out")) == (f"{made}\n", [made.name])
    assert picture(made) == picture(film)
    assert probe(made).tags["title"] == "My film"
    assert probe(made).heard.language == "deu"
    (before, rate), (after, _) = read_audio(film), read_audio(made)
    assert abs(before.shape[1] - after.shape[1]) <= 0.05 * rate
    assert np.argmax(np.abs(after[0]) > 0.01) == pytest.approx(0.5 * rate, abs=0.05 * rate)


def picture(path: Path) -> list[tuple[int, bytes]]:
    """Time since the first and digest of each compressed picture."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    fields = [line.replace(b" ", b"").split(b",") for line in lines if not line.startswith(b"#")]
    return [(int(field[2]) - int(fields[0][2]), field[-1]) for field in fields]


def test_a_sound_that_is_known_by_example_is_removed(run: Run, songs: Path, tiny_folder: Path, tmp_path: Path) -> None:
    command = ("remove", songs / "1.wav", "--like", songs / "2.wav", "--not", "dog", "--weight", "0.5")
    code, out, err = run(*command, "-o", tmp_path / "out", "-m", tiny_folder)
    assert (code, out) == (0, f"{tmp_path / 'out' / '1 (without 2).wav'}\n"), err


def test_what_is_no_video_has_no_picture(run: Run, songs: Path, tiny_folder: Path) -> None:
    code, _, err = run("remove", songs / "1.wav", "dog", "--video", "-m", tiny_folder)
    assert (code, "is no video whose picture could be copied" in err) == (1, True)
    assert run("remove", songs / "1.wav", "dog", "--video", "-f", "flac")[0] == 2


# ---- going on --------------------------------------------------------------------------------------------------------


def test_what_exists_is_skipped_and_what_is_missing_is_made(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("separate", songs, "piano", "-o", out, "-m", tiny_folder, "--skip-existing", "--json")
    first = json.loads(run(*command)[1])
    assert (len(first["results"]), first["skipped"]) == (3, [])
    (out / "2 (without piano).wav").unlink()  # as if the process had been killed before it was in its place
    stays = (out / "2 (piano).wav").stat().st_mtime_ns
    second = json.loads(run(*command)[1])
    assert [Path(one["input"]).name for one in second["results"]] == ["2.wav"]
    assert [one["outputs"] for one in second["skipped"]] == [
        first["results"][0]["outputs"],
        first["results"][2]["outputs"],
    ]
    assert soundfile.info(out / "2 (without piano).wav").frames == 8000
    assert (out / "2 (piano).wav").stat().st_mtime_ns == stays
    third = json.loads(run(*command)[1])
    assert (third["results"], len(third["skipped"]), third["model"]) == ([], 3, str(tiny_folder))


def test_outputs_of_other_recordings_are_nobodys_own(
    run: Run, tiny_folder: Path, tmp_path: Path, mixture: Mixture
) -> None:
    def job(*inputs: str) -> dict[str, list[str]]:
        """Input -> names of its outputs, of those that are made now and of those that are skipped."""
        command = ("separate", *(tmp_path / name for name in inputs), "-q", "piano", "--no-residual", "--skip-existing")
        found = json.loads(run(*command, "-o", tmp_path / "out", "-m", tiny_folder, "--json")[1])
        return {
            kind: [f"{Path(one['input']).relative_to(tmp_path)}: {Path(one['outputs']['piano']).name}" for one in made]
            for kind in ("results", "skipped") if (made := found[kind])
        }  # fmt: skip

    for seed, name in enumerate(("x/a.wav", "y/a.wav", "x/a.aiff")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, mixture(0.2, seed=seed).T, 16000)
    assert job("x/a.wav") == {"results": ["x/a.wav: a (piano).wav"]}
    assert job("y/a.wav") == {"results": ["y/a.wav: a (2) (piano).wav"]}
    assert job("x") == {"results": ["x/a.aiff: a (3) (piano).wav"], "skipped": ["x/a.wav: a (piano).wav"]}
    (tmp_path / "x").rename(tmp_path / "z")
    assert job("z", "y") == {
        "skipped": ["z/a.aiff: a (3) (piano).wav", "z/a.wav: a (piano).wav", "y/a.wav: a (2) (piano).wav"]
    }
    soundfile.write(tmp_path / "out" / "a (piano).wav", mixture(0.2).T, 16000)  # without the mark
    command = ("separate", tmp_path / "z" / "a.wav", "piano", "--no-residual", "--skip-existing")
    err = run(*command, "-o", tmp_path / "out", "-m", tiny_folder)[2]
    assert re.search(r"left out by the names .* \(piano\)\.wav for .*a\.wav .*--overwrite", err)


def test_going_on_never_replaces_a_file(run: Run, songs: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("separate", songs / "1.wav", "piano", "-o", out, "-m", tiny_folder, "--labels", "--skip-existing")
    assert run(*command)[0] == 0
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    target, rest, labels = (out / f"1 ({name}" for name in ("piano).wav", "without piano).wav", "piano).txt"))
    for theirs, missing in (
        ((target, b"somebody's own"), rest),
        ((target, (songs / "1.wav").read_bytes()), rest),
        ((labels, b"0.0\t1.0\tedited\n"), target),
    ):
        theirs[0].write_bytes(theirs[1])
        missing.unlink()
        code, _, err = run(*command)
        assert (code, f"{theirs[0]} exists already and" in " ".join(err.split())) == (1, True), err
        assert theirs[0].read_bytes() == theirs[1]
        for name, data in made.items():
            (out / name).write_bytes(data)
    labels.unlink()
    assert run(*command)[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == made
    target.write_bytes((songs / "1.wav").read_bytes())
    code, _, err = run(*command)
    assert (code, "left out by the names" in err, str(target) in err) == (0, True, True)


def test_another_gain_of_outputs_beside_earlier_ones_is_said(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    command = ("separate", songs / "1.wav", "piano", "-o", tmp_path / "out", "-m", tiny_folder, "--loudness", "-20")
    assert run(*command)[0] == 0
    (tmp_path / "out" / "1 (without piano).wav").unlink()
    code, _, err = run(*command, "--skip-existing")
    assert (code, "perhaps with another gain" in err) == (0, True)
    assert names(tmp_path / "out") == ["1 (piano).wav", "1 (without piano).wav"]


@pytest.mark.parametrize(
    "first",
    [
        ["--preview", "0.2"], ["--end", "0.3"], ["--quality", "fast"], ["--mono"], ["--rate", "8000"],
        ["--shifts", "1"], ["--not", "dog"], ["-m", "mini"],
    ],
)  # fmt: skip
def test_what_was_made_otherwise_is_not_taken_for_what_is_asked(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path, first: list[str]
) -> None:
    command = ("separate", songs / "1.wav", "piano", "-o", tmp_path / "out", "--no-residual", "-m", tiny_folder)
    assert run(*command, *first)[0] == 0
    code, _, err = run(*command, "--skip-existing")
    assert (code, "was made with other options or by another model" in err, "--overwrite" in err) == (1, True, True)
    code, _, err = run(*command, *first, "--skip-existing")
    assert (code, "outputs of 1 recording exist already" in err) == (0, True)


def test_python_and_the_command_line_know_each_others_outputs(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    separator = load(tiny_folder)
    queries = [Query("a piano", name="piano"), Query("dog", negative="rain", weight=2)]
    separator.separate_files(songs, queries, tmp_path / "out", options=Options(stem_head=True)).raise_for_failures()
    for sounds in (["piano"], ["dog", "--not", "rain", "--weight", "2"]):
        command = ("separate", songs, *sounds, "-o", tmp_path / "out", "-m", tiny_folder, "--no-residual")
        code, _, err = run(*command, "--skip-existing")
        assert (code, "outputs of 3 recordings exist already" in err) == (0, True), err


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("{file} ({stem}).{ext}", "a ({}).wav", "a (2) ({}).wav"),
        ("{stem}/{file}", "{}/a.wav", "{}/a (2).wav"),
        ("{file}/{stem} of {file}", "a/{} of a.wav", "a (2)/{} of a (2).wav"),
    ],
)
def test_a_recording_keeps_its_number_for_other_queries(
    run: Run, tiny_folder: Path, tmp_path: Path, mixture: Mixture, template: str, first: str, second: str
) -> None:
    def job(words: str, *inputs: str) -> dict[str, list[str]]:
        """Input -> its outputs."""
        queries = [part for word in words.split() for part in ("-q", word)]
        command = ("separate", *(tmp_path / name for name in inputs), *queries, "--no-residual", "--skip-existing")
        found = json.loads(
            run(*command, "-o", tmp_path / "out", "-m", tiny_folder, "--template", template, "--json")[1]
        )
        return {
            str(Path(one["input"]).relative_to(tmp_path)): [
                Path(path).relative_to(tmp_path / "out").as_posix() for path in one["outputs"].values()
            ]
            for one in found["results"] + found["skipped"]
        }

    for seed, name in enumerate(("x/a.wav", "y/a.wav", "x/a (live).wav")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, mixture(0.2, seed=seed).T, 16000)
    assert job("piano", "x/a.wav", "y/a.wav") == {
        "x/a.wav": [first.format("piano")],
        "y/a.wav": [second.format("piano")],
    }
    assert job("horn", "y/a.wav") == {"y/a.wav": [second.format("horn")]}
    assert job("horn piano", "y/a.wav", "x/a.wav") == {
        "x/a.wav": [first.format("horn"), first.format("piano")],
        "y/a.wav": [second.format("horn"), second.format("piano")],
    }
    (tmp_path / "out" / first.format("piano")).unlink()
    (tmp_path / "out" / first.format("horn")).unlink()
    assert job("bell", "x/a.wav", "y/a.wav") == {"x/a.wav": [first.format("bell")], "y/a.wav": [second.format("bell")]}


@pytest.mark.parametrize(
    ("template", "names", "numbers"),
    [
        (
            "{file} ({stem}).{ext}",
            ["a (piano).wav", "A (2) (horn).wav", "a (live) (piano).wav", "ab (piano).wav"],
            [1, 2],
        ),
        ("{file}_{stem}", ["a_piano.wav", "a (2)_piano.wav", "a_live_piano.wav", "a_piano.flac"], [1, 2]),
        ("{stem} of {file}", ["dog of a.wav", "dog of a (3).wav", "dog of big a.wav"], [1, 3]),
        ("{file}/{stem}", ["a/dog.wav", "a (2)/dog.wav", "b/dog.wav"], [1, 2]),
        ("{file}{stem}", ["adog.wav"], []),
    ],
)
def test_earlier_outputs_are_known_by_the_template(
    tmp_path: Path, template: str, names: list[str], numbers: list[int]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = earlier_outputs(tmp_path, file="a", format="wav", template=template, listed=folded_names)
    assert found == {tmp_path / name: number for name, number in zip(names, numbers, strict=False)}
    assert earlier_outputs(tmp_path / "none", file="a", format="wav", template=template, listed=folded_names) == {}


def test_outputs_say_of_which_recording_they_are_beside_large_covers_and_after_small_edits(tmp_path: Path) -> None:
    recording, output = tmp_path / "a.wav", tmp_path / "x.m4a"
    data = bytearray(np.random.default_rng(0).bytes(2_000_000))
    recording.write_bytes(data)
    mark = mark_for(Origin(fingerprint(recording), "0123abcd"))
    write_audio(
        output, np.zeros((1, 9000)), 44100, tags={"software": mark}, cover=Cover(b"\xff\xd8\xff" + bytes(700_000))
    )
    assert is_marked(output)
    assert origin_of(output) == (fingerprint(recording), "0123abcd")
    data[1_234_567] ^= 1
    recording.write_bytes(data)
    assert origin_of(output).recording != fingerprint(recording)


def test_a_second_query_goes_into_the_same_folder(run: Run, songs: Path, tiny_folder: Path, tmp_path: Path) -> None:
    for query in ("piano", "violin"):
        code, _, err = run("separate", songs / "1.wav", query, "-o", tmp_path / "out", "-m", tiny_folder)
        assert code == 0, err
    assert names(tmp_path / "out") == [
        "1 (piano).wav", "1 (violin).wav", "1 (without piano).wav", "1 (without violin).wav",
    ]  # fmt: skip


def test_leftovers_of_the_living_stay(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "song.wav", overwrite=False, durable=False)
    (tmp_path / ".audiosep-dead.part").write_text("half")
    (tmp_path / ".audiosep-dead.old").write_text("old")
    remove_leftovers(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    pending.file.write(b"whole")
    pending.commit()
    assert names(tmp_path) == ["song.wav"]


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_recordings_are_reported_when_they_are_finished(separator: Separator, songs: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, bool]] = []

    def watch(event: BatchEvent) -> None:
        finished = isinstance(event.outcome, FileResult)
        seen.append((event.input.name, event.number, event.total, finished))
        if finished:
            assert all(path.is_file() for path in event.outcome.outputs.values())
            assert not (tmp_path / "out" / f"{event.number + 1} (piano).wav").exists()

    separator.separate_files(songs, "piano", tmp_path / "out", watch=watch)
    assert seen == [(f"{n}.wav", n, 3, finished) for n in (1, 2, 3) for finished in (False, True)]


def test_json_lines(run: Run, songs: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (songs / "2.wav").write_text("no sound")
    command = ("separate", songs, "piano", "-o", tmp_path / "out", "-m", tiny_folder, "--json-lines")
    code, out, _ = run(*command)
    lines = [json.loads(line) for line in out.splitlines()]
    events = [line["event"] for line in lines if line["event"] != "progress"]
    assert (code, events) == (1, ["start", "result", "start", "failure", "start", "result", "end"])
    assert [line["fraction"] for line in lines if line["event"] == "progress"][-1] == 1
    assert (lines[-1]["results"], lines[-1]["failures"], lines[-1]["model"]) == (2, 1, "tiny")
    code, out, _ = run(*command, "--skip-existing")
    assert [json.loads(line)["event"] for line in out.splitlines()][:2] == ["skipped", "skipped"]
    assert run(*command, "--json")[0] == 2


def test_a_cancelled_job_says_what_is_done_and_leaves_no_empty_folder(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate_planned = Separator.separate_planned

    def interrupted(self: Separator, *arguments: object, **options: object) -> object:
        tell = options.pop("watch")

        def watch(event: BatchEvent) -> None:
            tell(event)
            if event.number == stop and event.outcome is None:
                raise KeyboardInterrupt

        return separate_planned(self, *arguments, watch=watch, **options)

    monkeypatch.setattr(Separator, "separate_planned", interrupted)
    stop = 1
    command = ("separate", songs, "piano", "-m", tiny_folder)
    code, out, err = run(*command, "-o", tmp_path / "none" / "deep")
    assert (code, out, "0 of 3 recordings finished" in err) == (130, "", True)
    assert not (tmp_path / "none").exists()
    stop = 3
    code, out, err = run(*command, "-o", tmp_path / "two", "--json")
    assert (code, "2 of 3 recordings finished" in err) == (130, True)
    document = json.loads(out)
    assert (document["error"]["type"], len(document["results"])) == ("Cancelled", 2)


def test_a_failed_recording_leaves_no_empty_folder(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    assert separator.separate_files(tmp_path / "bad.wav", "piano", tmp_path / "out" / "deep").failures
    assert names(tmp_path) == ["bad.wav"]
    out = tmp_path / "mine"
    out.mkdir()
    separator.separate_files(tmp_path / "bad.wav", "piano", out)
    assert out.is_dir()


# ---- several at once -------------------------------------------------------------------------------------------------


def test_several_at_once_give_the_same_bytes_in_order(
    separator: Separator, songs: Path, tmp_path: Path, mixture: Mixture
) -> None:
    write_audio(songs / "1 long.wav", mixture(6, 16000, 1), 16000)  # is finished after those that follow it
    (songs / "2 bad.wav").write_text("no sound")
    one = separator.separate_files(songs, ["piano", "dog"], tmp_path / "one")
    events: list[tuple[str, bool]] = []
    fractions: list[float] = []
    three = separator.separate_files(
        songs, ["piano", "dog"], tmp_path / "three", jobs=3, progress=fractions.append,
        watch=lambda event: events.append((event.input.name, event.outcome is not None)),
    )  # fmt: skip
    assert [result.input for result in three.results] == [result.input for result in one.results]
    assert [*three.failures] == [songs / "2 bad.wav"]
    assert [name for name, done in events if done] == ["1 long.wav", "1.wav", "2 bad.wav", "2.wav", "3.wav"]
    for expected, result in zip(one.results, three.results, strict=True):
        assert result.presence == expected.presence
        for name, path in result.outputs.items():
            assert path.read_bytes() == expected.outputs[name].read_bytes()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_what_was_finished_out_of_order_is_told_when_the_others_are_cancelled(
    separator: Separator, songs: Path, tmp_path: Path, mixture: Mixture
) -> None:
    write_audio(songs / "0 long.wav", mixture(60, 16000, 1), 16000)
    told: list[str] = []

    def watch(event: BatchEvent) -> None:
        if event.outcome is not None:
            told.append(event.input.name)

    with pytest.raises(Cancelled):
        separator.separate_files(
            songs, "piano", tmp_path / "out", jobs=2, watch=watch,
            progress=lambda fraction: not (tmp_path / "out" / "2 (piano).wav").exists(),
        )  # fmt: skip
    assert told == ["1.wav", "2.wav"][: len(told)] != []
    assert {name.split(" ")[0] + ".wav" for name in names(tmp_path / "out")} == set(told)


def test_cancelling_several_at_once_leaves_nothing_half_written(
    separator: Separator, songs: Path, tmp_path: Path, mixture: Mixture
) -> None:
    for number in range(4, 8):
        write_audio(songs / f"{number}.wav", mixture(20, 16000, 1), 16000)
    with pytest.raises(Cancelled):
        separator.separate_files(songs, "piano", tmp_path / "out", jobs=2, progress=lambda fraction: fraction < 0.3)
    made = names(tmp_path / "out")
    assert made == [name for number in (1, 2, 3, 4) for name in made if name.startswith(f"{number} ")]
    assert len(made) % 2 == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_progress_callback_raises_reaches_who_called_the_batch(
    separator: Separator, songs: Path, tmp_path: Path, jobs: int
) -> None:
    told: list[BatchEvent] = []

    def broken(fraction: float) -> None:
        if fraction > 0.5:  # after the first recording
            raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError, match="nobody listens"):
        separator.separate_files(songs, "piano", tmp_path / "out", jobs=jobs, progress=broken, watch=told.append)
    outcomes = [event.outcome for event in told if event.outcome is not None]
    assert all(isinstance(outcome, FileResult) for outcome in outcomes)
    assert names(tmp_path / "out") == sorted(
        path.name for outcome in outcomes if isinstance(outcome, FileResult) for path in outcome.outputs.values()
    )


def test_jobs_fit_into_cpus_and_memory(tmp_path: Path) -> None:
    assert jobs_that_fit(4, cpus=2, free=2**40) == 2
    assert jobs_that_fit(4, cpus=8, free=2**30) == 1
    assert jobs_that_fit(0, cpus=3, free=None) >= 1
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 4000000 kB\n")
    assert free_memory(tmp_path) == 4_096_000_000
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("400\n")
    assert free_memory(tmp_path) == 600
    assert free_memory(tmp_path / "none") is None


def test_the_command_line_divides_the_threads(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    load = ModelOptions.load
    monkeypatch.setattr(ModelOptions, "load", lambda self, **more: (seen.append(self.threads), load(self, **more))[1])
    before = torch.get_num_threads()
    code, out, err = run(
        "separate", songs, "piano", "-o", tmp_path / "out", "-m", tiny_folder, "--jobs", "2", "--threads", "4", "--json"
    )
    torch.set_num_threads(before)
    assert code == 0, err
    assert (seen, json.loads(out)["jobs"]) == ([2], 2)


# ---- kills -----------------------------------------------------------------------------------------------------------


def test_what_jobs_gain_is_measured_on_songs_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def time_command(command: Sequence[str]) -> jobs.Times:
        files = [path.read_bytes() for path in sorted(Path(command[-5]).iterdir())]
        assert len(set(files)) == 3
        return jobs.Times({"1": 3.0, "2": 2.0}[command[-1]], 4.0)

    monkeypatch.setattr(jobs, "time_command", time_command)
    assert jobs.main(["--songs", "3", "--seconds", "0.5", "--repeats", "2"]) == 0
    assert "--jobs 2:    2.0 s,    4.0 s of CPU, 1.50 times" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_batches_are_completed_by_the_next(songs: Path, tiny_folder: Path, tmp_path: Path) -> None:
    from research.kills import kill_batches

    killed = kill_batches(
        [sys.executable, str(ROOT / "tests" / "command.py")], songs, tmp_path / "out", kills=8,
        options=["-m", str(tiny_folder)], seed=1,
    )  # fmt: skip
    assert killed.kills == 8
    assert killed.wrong == []


@pytest.mark.parametrize(
    "words",
    [
        ["export", "OUT"], ["convert", "none.ckpt", "OUT"], ["listen", "make", "none", "-o", "OUT"],
        ["data", "build", "none", "-o", "OUT"], ["data", "extend", "none", "none", "-o", "OUT"],
        ["data", "draw", "none", "--cache", "none", "-o", "OUT"], ["data", "captions", "none", "-o", "OUT"],
        ["data", "recipe", "none", "--cache", "none", "-o", "OUT"], ["finetune", "none", "-o", "OUT"],
    ],
)  # fmt: skip
def test_other_verbs_skip_what_exists_too(run: Run, tmp_path: Path, words: list[str]) -> None:
    out = tmp_path / "made"
    out.write_text("whole")
    command = [str(out) if word == "OUT" else word for word in words]
    assert run(*command, "--skip-existing")[:2] == (0, f"{out}\n")
    assert out.read_text() == "whole"
    out.unlink()
    assert run(*command, "--skip-existing", *(["-m", "none"] if words[0] == "export" else []))[0] != 0


def test_failures_of_stems_are_told_also_where_only_the_model_knows_their_names(
    run: Run, songs: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (songs / "notes.mid").write_text("no sound")
    code, out, err = run("stems", songs, tmp_path / "none.wav", "-o", tmp_path / "out", "-m", tiny_folder)
    assert (code, len(out.splitlines())) == (1, 12)
    assert err.count("there is no file") == 1
    assert err.count("left out by their suffix") == 1


def test_several_at_once_are_for_the_cpu() -> None:
    with pytest.raises(InputError, match="for the CPU"):
        check_jobs(2, "cuda")
    check_jobs(1, "cuda")
