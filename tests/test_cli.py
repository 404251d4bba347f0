"""The command line: verbs in this process, and in one of their own to test signals, pipes and exit codes."""

from __future__ import annotations

import importlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main
from conftest import Mixture, Run

import audiosep
from audiosep import cli
from audiosep.audio import read_audio, write_audio
from audiosep.cli.doctor import OPTIONAL
from audiosep.cli.manifests import read_inputs
from audiosep.cli.query_options import build, read_embedding, split
from audiosep.errors import InputError, QueryError
from audiosep.weights import catalogue

ROOT = Path(__file__).parents[1]
# Verbs whose options docs/cli.md lists one by one; the others leave them to --help, or to `separate`.
OPTION_BY_OPTION = (
    *("separate", "convert", "models", "doctor", "live", "export", "bench", "studio", "listen", "evaluate"),
)


@pytest.fixture
def song(tmp_path: Path, mixture: Mixture) -> Path:
    path = tmp_path / "in" / "my söng 1.wav"
    path.parent.mkdir()
    write_audio(path, mixture(1.5, 44100, 2), 44100)
    return path


def process(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "command.py", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


# ---- the table of verbs ----------------------------------------------------------------------------------------------


def test_help_names_every_verb_and_each_has_a_module(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for verb, text in cli.VERBS.items():
        assert f"  {verb} " in out
        assert text in out
        assert (Path(cli.__file__).parent / f"{verb}.py").is_file()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_and_is_documented(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"Usage: audiosep {verb}" in out
    section = section_of(verb)
    for name in options_of(verb) if verb in OPTION_BY_OPTION else ():
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", section), f"docs/cli.md: {verb} lacks {name}"


@pytest.mark.parametrize(("verb", "own"), [("stems", {"--only"}), ("remove", set())])
def test_the_options_of_separate_are_those_of_other_verbs_but_for_those_that_are_named(
    verb: str, own: set[str]
) -> None:
    section = section_of(verb)
    named = re.search(r"options are\s+those\s+of\s+`separate`, but for (.*?)\.\s", section, re.S)
    assert named, f"docs/cli.md: {verb}"
    assert set(re.findall(r"`(--[\w-]+)", named[1])) | own == options_of(verb) ^ options_of("separate")
    assert all(f"`{name} " in section for name in own)


def section_of(verb: str) -> str:
    """What docs/cli.md says of a verb."""
    text = (ROOT / "docs" / "cli.md").read_text()
    section = re.search(rf"^## {verb}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"docs/cli.md has no section {verb!r}"
    return section[1]


def options_of(verb: str) -> set[str]:
    """The long options of a verb, or of all its parts."""
    command = typer.main.get_command(importlib.import_module(f"audiosep.cli.{verb}").app)
    parts = getattr(command, "commands", {"": command}).values()
    names = [name for one in parts for parameter in one.params for name in [*parameter.opts, *parameter.secondary_opts]]
    return {name for name in names if name.startswith("--")} - {"--help"}


def test_help_explains_a_verb_or_a_part_of_it(run: Run) -> None:
    assert run("help", "stems") == run("stems", "--help")
    assert run("help", "data", "build") == run("data", "build", "--help")
    assert run("help", "nonsense")[0] == 2


def test_no_verb_is_wrong_usage_and_prints_the_help(run: Run) -> None:
    code, out, _ = run()
    assert code == 2
    assert "Verbs:" in out


def test_version(run: Run) -> None:
    assert run("--version")[:2] == (0, f"audiosep {audiosep.__version__}\n")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("separat", "did you mean 'separate'"),
        ("isolate", "did you mean 'separate'"),
        ("pyproject.toml", "audiosep separate"),
        ("x", "doctor"),
        pytest.param(300 * "x", "doctor", id="longer than names of files are"),
        ("--quiet", "the verb comes first"),
    ],
)
def test_an_unknown_verb_gets_a_hint(run: Run, word: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code, out, err = run(word)
    assert (code, out) == (2, "")
    assert hint in err
    for words in ((word, "--json"), ("help", word, "--json-lines")):
        code, out, err = run(*words)
        assert (code, json.loads(out)["error"]["type"]) == (2, "InputError")
        assert json.loads(out)["error"]["message"] == err.removeprefix("audiosep: ").strip()
        assert hint in err
    assert run(word, "--", "--json")[1] == ""


# ---- inputs and queries ----------------------------------------------------------------------------------------------


def test_the_first_argument_is_the_input_unless_queries_are_options() -> None:
    assert split(["a.wav", "piano", "violin"], False) == (["a.wav"], ["piano", "violin"])
    assert split(["a.wav", "b.wav"], True) == (["a.wav", "b.wav"], [])


def test_a_query_that_is_a_path_names_the_remedy(song: Path) -> None:
    with pytest.raises(InputError, match="-q"):
        split(["a.wav", str(song)], False)
    with pytest.raises(QueryError, match="name a sound"):
        split(["a.wav"], False)


def test_queries_of_all_kinds(tmp_path: Path, song: Path) -> None:
    np.save(tmp_path / "cat.npy", np.ones((1, 16)))
    queries = build(["piano"], [song], [tmp_path / "cat.npy"], ["drums", "bass"], 0.5)
    assert [query.label for query in queries] == ["piano", song.stem, "cat"]
    assert all(query.weight == 0.5 and len(query.negatives) == 2 for query in queries)
    assert queries[2].embedding.shape == (16,)


@pytest.mark.parametrize("content", [b"", b"no array", None, np.ones((2, 3)), np.array(["a", "b"]), np.float32(3)])
def test_an_embedding_must_be_one_vector(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "v.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(QueryError, match=r"v\.npy"):
        read_embedding(path)


# ---- separate and stems ----------------------------------------------------------------------------------------------


def test_separate_writes_targets_and_residual_that_sum_to_the_mixture(
    run: Run, song: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    before = song.read_bytes()
    code, out, err = run("separate", song, "piano", "dog: barking?", "-o", tmp_path / "out dir", "-m", tiny_folder)
    assert code == 0, err
    paths = [Path(line) for line in out.splitlines()]
    assert [path.name for path in paths] == [
        "my söng 1 (piano).wav",
        "my söng 1 (dog_ barking_).wav",
        "my söng 1 (without piano, dog_ barking_).wav",
    ]
    mix, rate = read_audio(song)
    total = np.zeros_like(mix)
    for path in paths:
        x, its_rate = read_audio(path)
        assert (x.shape, its_rate) == (mix.shape, rate)
        total += x
    assert np.abs(total - mix).max() < 3 / 32768
    assert "probably absent: piano" in err
    assert song.read_bytes() == before


def test_explain_says_which_recordings_answered_and_what_each_estimate_weighed(run: Run, tmp_path: Path) -> None:
    song = Path(__file__).parents[1] / "examples" / "audio" / "song.flac"
    rest = ["--quality", "fast", "--explain", "--end", "2"]
    code, _, err = run("separate", song, "dog barking", "drums", "--by-words", *rest, "-o", tmp_path / "words")
    assert code == 0, err
    for name in ("dog barking", "drums"):
        assert re.search(rf"{name}: from .* recordings\).*; estimates: as asked \d+%, what that leaves \d+%", err), err
    code, out, _ = run("separate", song, "dog barking", *rest, "-o", tmp_path / "explained", "--json")
    assert json.loads(out)["results"][0]["explanation"]["dog barking"]["labels"]
    rest.remove("--explain")
    code, out, _ = run("separate", song, "dog barking", *rest, "-o", tmp_path / "not", "--json")
    assert "explanation" not in json.loads(out)["results"][0]
    rest.append("--explain")
    # Beside a query that names no stem the drums are not answered by stems alone.
    code, _, err = run("separate", song, "dog barking", "drums", *rest, "-o", tmp_path / "stems")
    assert code == 0, err
    assert re.search(r"drums: .*; estimates: as asked \d+%, the refined stem \d+%, the stem \d+%", err), err


PROGRAM = """
import atexit, sys, threading, time
from audiosep import cli

def late():
    time.sleep(0.2)
    print("thread", flush=True)

threading.Thread(target=late).start()
atexit.register(lambda: sys.stdout.write("exit function"))
sys.argv = ["audiosep", *sys.argv[1:]]
cli.command()
"""


@pytest.mark.parametrize(("arguments", "code", "says"), [(["--version"], 0, "audiosep "), (["nonsense"], 2, "")])
def test_the_program_waits_for_threads_and_runs_exit_functions(arguments: list[str], code: int, says: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.startswith(says)
    assert done.stdout.endswith("thread\nexit function")
    assert ("no verb" in done.stderr) == (code == 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has this file")
def test_a_failed_write_to_standard_output_is_a_failure() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "audiosep", "--version"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "cannot write to standard output" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_closed_standard_output_changes_no_exit_code() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m audiosep nonsense >&-', sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [("separate", "piano"), ("stems",)])
def test_a_job_computes_with_the_threads_it_is_given(
    run: Run, song: Path, tiny_folder: Path, tmp_path: Path, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int | None] = []
    monkeypatch.setattr("audiosep.inference.threads.use_threads", used.append)
    rest = ("-m", tiny_folder, "--overwrite", "-o", tmp_path / "out")
    assert run(verb[0], song, *verb[1:], *rest)[0] == 0
    assert run(verb[0], song, *verb[1:], *rest, "--threads", 1)[0] == 0
    assert used == [None, 1]  # None: as many as the process may use
    assert run(verb[0], song, *verb[1:], *rest, "--threads", 0)[0] == 2


def test_options_reach_the_separator(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    code, out, err = run(
        *("separate", song.parent, "-q", "piano", "--not", "drums", "--weight", "0.5", "--no-residual", "--json"),
        *(
            "-f",
            "flac",
            "--template",
            "{stem}/{file}.{ext}",
            "-o",
            tmp_path / "out",
            "-m",
            tiny_folder,
            "--overlap",
            "0.1",
        ),
        *("--shifts", "1", "--batch", "2", "--device", "cpu", "--precision", "fp32", "--on-clip", "clip", "-vv"),
    )
    assert code == 0, err
    document = json.loads(out)
    (result,) = document["results"]
    assert result["outputs"] == {"piano": str(tmp_path / "out" / "piano" / f"{song.stem}.flac")}
    assert (result["samples"], result["sample_rate"], result["channels"]) == (66150, 44100, 2)
    assert 0 <= result["presence"]["piano"] <= 1
    assert (document["model"], document["device"], document["precision"]) == ("tiny", "cpu", "fp32")
    assert document["failures"] == []
    assert "tiny on cpu" in err


@pytest.mark.parametrize("words", [("separate", "SONG", "piano"), ("stems", "SONG"), ("describe", "SONG", "--csv")])
def test_folders_that_cannot_be_are_refused_before_anything_is_loaded(
    run: Run, song: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    given = [str(song) if word == "SONG" else word for word in words]
    for name, says in (("x" * 300, "choose another name"), ("file", "is a file: name a folder")):
        code, _, err = run(*given, "-m", "no such model", "-o", tmp_path / name)
        assert (code, says in err) == (2, True), err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("separate", "SONG", "piano", "--engine", "tvm"), 2, "tvm"),
        (("bench", "--engine", "torch,tvm"), 2, "--engine takes torch or openvino"),
        (("bench", "--threads", "nan"), 2, "--threads takes whole numbers, got 'nan'"),
        (("bench", "--threads", "100000"), 2, "the number of CPUs of this machine"),
        (("bench", "--queries", "1.9"), 2, "--queries takes whole numbers, got '1.9'"),
        (("bench", "--seconds", "1e12"), 2, "--seconds takes lengths up to 43200, got '1e12'"),
        (("bench", "--plot", "no/such/folder/x.png"), 2, "there is no folder no/such/folder, make it first"),
        (("bench", "--plot", "bench.pdf"), 2, "--plot draws a PNG: give it a name such as bench.png"),
        (("separate", "SONG", "piano", "--engine", "openvino"), 1, 'pip install ".[openvino]"'),
        (("stems", "SONG", "--engine", "openvino", "--device", "cuda:7"), 2, "cuda:7"),
        (("stems", "SONG", "--device", "openvino"), 2, "--engine openvino"),
    ],
)
def test_engines(
    run: Run,
    song: Path,
    mini_folder: Path,
    words: tuple[str, ...],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    done = run(*(song if word == "SONG" else word for word in words), "-m", mini_folder)
    assert done[0] == code
    assert says in done[2]


def test_by_example_and_by_embedding(run: Run, song: Path, tiny_folder: Path, tmp_path: Path, mixture: Mixture) -> None:
    write_audio(tmp_path / "cat.wav", mixture(0.5, 16000, 1, seed=3), 16000)
    np.save(tmp_path / "vector.npy", np.eye(16)[0])
    common = ("separate", song, "-o", tmp_path / "out", "-m", tiny_folder, "--json", "--no-residual")
    code, out, err = run(*common, "--like", tmp_path / "cat.wav", "--embedding", tmp_path / "vector.npy")
    assert code == 0, err
    assert list(json.loads(out)["results"][0]["outputs"]) == ["cat", "vector"]


def test_stems_and_only(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    code, out, err = run("stems", song, "-o", tmp_path / "all", "-m", tiny_folder)
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(
        f"{song.stem} ({stem}).wav" for stem in ("vocals", "drums", "bass", "other")
    )
    code, out, err = run("stems", song, "--only", "vocals", "-o", tmp_path / "karaoke", "-m", tiny_folder)
    assert code == 0, err
    assert len(out.splitlines()) == 2


def test_a_list_of_sounds_in_one_query_is_told_as_such(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    common = ["-m", str(tiny_folder), "-o", str(tmp_path / "out"), "--overwrite"]
    code, _, err = run("separate", str(song), "Speech, bass guitar", *common)
    assert (code, "-q for each" in err, '"Speech" "bass guitar"' in err) == (0, True, True)
    for text in ("a dog barks, then a man speaks", "guitar", "guitar,"):
        assert "for each" not in run("separate", str(song), text, *common)[2]
    assert "for each" not in run("separate", str(song), "Speech, bass guitar", "--quiet", *common)[2]


def test_a_bad_file_does_not_stop_the_others(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    bad = song.parent / "bad.wav"
    bad.write_text("this is no sound")
    code, out, err = run("separate", bad, song, "-q", "piano", "-o", tmp_path / "out", "-m", tiny_folder)
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "bad.wav" in err
    assert "1 of 2 files failed" in err
    code, out, _ = run("separate", bad, "-q", "piano", "-o", tmp_path / "out2", "-m", tiny_folder, "--json")
    assert code == 1
    (failure,) = json.loads(out)["failures"]
    assert failure["input"] == str(bad)
    assert failure["type"] in {"AudioError", "InputError"}


def test_clipping_is_reported(run: Run, tmp_path: Path, tiny_folder: Path, mixture: Mixture) -> None:
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, 4 * mixture(0.5, 16000, 1, level=1.0).T, 16000, subtype="FLOAT")
    common = ("separate", loud, "piano", "-m", tiny_folder, "--json", "-f", "flac")
    (result,) = json.loads(run(*common, "-o", tmp_path / "gain")[1])["results"]
    assert result["gain"] < 1
    assert result["clipped"] == 0
    (result,) = json.loads(run(*common, "-o", tmp_path / "clip", "--on-clip", "clip")[1])["results"]
    assert result["gain"] == 1
    assert result["clipped"] > 0
    _, _, err = run("separate", loud, "piano", "-m", tiny_folder, "-f", "flac", "-o", tmp_path / "said")
    assert "so that none clips" in err


def test_outputs_are_not_replaced_unless_asked(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    common = ("separate", song, "piano", "-o", tmp_path / "out", "-m", tiny_folder)
    assert run(*common)[0] == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    code, _, err = run(*common)
    assert code == 1
    assert "overwrite" in err
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert run(*common, "--overwrite")[0] == 0


@pytest.mark.parametrize("words", [("--bogus",), ("--shifts", "-1"), ("--on-clip", "wrap"), ("--shifts", "many")])
def test_wrong_options_are_wrong_usage(run: Run, song: Path, words: tuple[str, ...]) -> None:
    code, out, err = run("separate", song, "piano", *words)
    assert (code, out) == (2, "")
    assert "Usage: audiosep separate" in err


def test_a_file_whose_name_begins_with_a_dash_is_no_option(
    run: Run, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(song.parent)
    song.rename("-dash.wav")
    code, _, err = run("separate", "-dash.wav", "piano")
    assert (code, "write ./-dash.wav for the file" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-out", "res"), "there is no option -out: did you mean --out"),
        (("-quiet",), "did you mean --quiet"),
        (("-mod=mini",), "did you mean --model"),
        (("--quality", "bset"), "'bset' is none of fast, balanced, best; did you mean 'best'?"),
        (("--device", "cdua"), "did you mean 'cuda'"),
        (("--engine", "openvion"), "did you mean 'openvino'"),
        (("-f", "oggg"), "did you mean 'ogg'"),
        (("--start", "1,5"), "is no time"),
        (("--shifts", "many"), "'--shifts': must be a whole number, got 'many'"),
        (("--shifts", "-1"), "'--shifts': must be at least 0, got '-1'"),
        (("--jobs", "1.5"), "'--jobs': must be a whole number, got '1.5'"),
        (("--batch", "9" * 5000), "'--batch': must be a smaller number, got '9999"),
        (("--overlap", "half"), "'--overlap': must be a number, got 'half'"),
        (("--rate", "10"), "'--rate': must be at least 4000, got '10'"),
        (("--weight", "nan"), "--weight must be a finite number of at least 0, got nan"),
        (("--start", "5", "--end", "3"), "--end must lie behind the start (5 s), got 3 s"),
        (("-f", "mp3", "--bitrate", "999"), "mp3 has 8 to 320 kbit/s, not 999 (--bitrate)"),
        (("--overlap", "1.5"), "--overlap must be a number of at least 0 and below 1, got 1.5"),
        (("--formt", "x"), "No such option"),
        (("-" + 300 * "x",), "No such option: -x"),
    ],
)
@pytest.mark.parametrize("json_option", ["--json", "--json-lines"])
def test_wrong_usage_has_a_hint_and_is_json_too(
    run: Run, song: Path, words: tuple[str, ...], says: str, json_option: str
) -> None:
    code, out, err = run("separate", song, "piano", *words, json_option)
    assert (code, list(json.loads(out))) == (2, ["error"])
    assert says in json.loads(out)["error"]["message"]
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("live", "piano", "--rate", "10"), "'--rate' / '-r': must be at least 4000, got '10'"),
        (("live", "piano", "--channels", "99"), "'--channels' / '-c': must be at most 8, got '99'"),
        (("live", "piano", "--encoding", "s16"), "'s16' is none of s16le, f32le"),
        (("finetune", "sounds", "--rank", "0"), "'--rank': must be at least 1, got '0'"),
        (("finetune", "sounds", "--seconds", "nan"), "'--seconds': must be at least 0.1, got 'nan'"),
        (("finetune", "sounds", "--rehearsal", "2"), "'--rehearsal': must be at most 1, got '2'"),
        (("finetune", "sounds", "--held-back", "1"), "--held-back must lie between 0 and 1, got 1.0"),
        (("evaluate", "--seed", "-1"), "'--seed': must be at least 0, got '-1'"),
    ],
)
def test_wrong_numbers_are_told_with_the_option(run: Run, words: tuple[str, ...], says: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert says in err
    assert "Input should" not in err


@pytest.mark.parametrize(
    "words",
    [
        "separate ADDRESS piano -m MODEL", "separate SONG --like ADDRESS -m MODEL", "stems ADDRESS -m MODEL",
        "remove ADDRESS piano -m MODEL", "describe ADDRESS -m MODEL", "remember bell ADDRESS -m MODEL",
        "finetune ADDRESS --from MODEL", "convert ADDRESS out", "bench ADDRESS",
    ],
)  # fmt: skip
def test_addresses_are_not_fetched(
    run: Run, song: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    address = "https://example.com/a.wav"
    given = {"ADDRESS": address, "SONG": song, "MODEL": tiny_folder}
    code, _, err = run(*(given.get(word, word) for word in words.split()))
    assert code != 0
    assert f"{address} is an address, and nothing is fetched: download it first" in err


def test_words_of_options_have_any_case_and_values_may_look_like_options(run: Run) -> None:
    options = ("--quality", "Best", "--on-clip", "Gain", "--device", "CPU", "--engine", "Torch", "--precision", "FP32")
    code, _, err = run("separate", "none.wav", *options, "-q", "-quiet", "-vv")
    assert (code, "there is no file none.wav" in err) == (1, True)


def test_an_error_of_the_whole_job_is_json_too(run: Run, song: Path, tmp_path: Path) -> None:
    code, out, err = run("separate", song, "piano", "-m", tmp_path / "no model", "--json")
    assert code == 1
    assert json.loads(out)["error"]["type"] == "ModelError"
    assert "no model" in err


def test_quiet_says_nothing_when_all_is_well(run: Run, song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    code, _, err = run("separate", song, "piano", "-o", tmp_path / "out", "-m", tiny_folder, "--quiet")
    assert (code, err) == (0, "")


# ---- models, doctor --------------------------------------------------------------------------------------------------


def test_models_list_shows_what_was_downloaded_from_the_hub(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    folder = catalogue.model_folder("me/my-model")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"format": 1, "family": "hybrid", "licence": "CC0", "model": {}}')
    (folder / "sources.json").write_text('{"model.safetensors": {"sha256": "0a", "bytes": 7}}')
    (folder.parent / ".new-me--half").mkdir()
    catalogue.model_folder("me/broken").mkdir()
    (catalogue.model_folder("me/broken") / "config.json").write_text("[]")
    code, out, _ = run("models", "list", "--json")
    assert code == 0
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert list(entries) == [*catalogue.MODELS, "me/broken", "me/my-model"]
    assert all(entry.keys() == entries["mini"].keys() for entry in entries.values())
    mine = entries["me/my-model"]
    assert (mine["family"], mine["licence"], mine["folder"]) == ("hybrid", "CC0", str(folder))
    assert mine["sources"] == [
        {"repo": "me/my-model", "file": "model.safetensors", "about_bytes": 7, "bytes": 7, "sha256": "0a"}
    ]
    code, out, _ = run("models", "list")
    assert re.search(r"me/my-model +installed +CC0 +.*hub", out)
    monkeypatch.setattr("audiosep.weights.download.download", lambda name, *_, **kwargs: catalogue.model_folder(name))
    code, out, _ = run("models", "download", "me/my-model", "--json")
    assert code == 0
    assert json.loads(out) == mine


def test_models_list_and_info(run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    code, out, _ = run("models", "list", "--json")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)] == list(catalogue.MODELS)
    code, out, _ = run("models", "list")
    assert re.search(r"^audiosep-base +not installed", out, re.M)
    assert "(1.26 GB): audiosep models download audiosep-base\n" in out
    code, out, _ = run("models", "info", tiny_folder, "--json")
    info = json.loads(out)
    assert code == 0
    assert info["family"] == "tiny"
    assert info["parameters"] > 100
    code, out, _ = run("models", "info", "audiosep-base")
    assert code == 0
    assert "f8cda01bfd0ebd14" in out
    assert "licence: MIT\n" in out
    code, _, err = run("models", "info", "nonsense")
    assert code == 1
    assert "nonsense" in err


def test_an_installed_model_keeps_the_licence_of_the_catalogue(
    run: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converted checkpoints state no licence of their own."""
    monkeypatch.setattr(catalogue, "installed", lambda name: tiny_folder if name == "htdemucs" else None)
    code, out, _ = run("models", "info", "htdemucs", "--json")
    info = json.loads(out)
    assert (code, info["licence"], info["restricted"], info["extra"]) == (0, "scientific use only", True, "demucs")
    assert (info["family"], info["folder"]) == ("tiny", str(tiny_folder))
    assert "licence: scientific use only\n" in run("models", "info", "htdemucs")[1]
    entries = {entry["name"]: entry for entry in json.loads(run("models", "list", "--json")[1])}
    assert entries["htdemucs"]["licence"] == "scientific use only"
    assert entries["htdemucs"]["sources"][0]["bytes"] is None
    assert entries["htdemucs"]["sources"][0]["about_bytes"] == 84_000_000
    assert entries["audiosep-base"]["sources"][0]["about_bytes"] == 1_264_844_076


def test_models_info_of_what_is_no_model(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    code, _, err = run("models", "info", tmp_path)
    assert code == 1
    assert "is no whole model" in err
    (tiny_folder / "model.safetensors").write_bytes(b"damaged, and long enough for a length")
    code, _, err = run("models", "info", tiny_folder)
    assert code == 1
    assert "is no whole model" in err


@pytest.mark.parametrize("verb", ["separate", "stems", "doctor", "bench"])
def test_a_baseline_is_no_model(run: Run, song: Path, tmp_path: Path, verb: str) -> None:
    inputs = {"separate": (song, "speech"), "stems": (song,)}.get(verb, ())
    code, out, err = run(verb, *inputs, "-m", "repet")
    assert code == 1
    assert "repet is a baseline and no model: `audiosep evaluate --model repet`" in out + err


def test_convert_refuses_what_is_no_checkpoint(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = run("convert", ROOT / "README.md", out, "--json")
    assert (code, json.loads(said)["error"]["type"]) == (1, "ModelError")
    assert not out.exists()


def test_doctor_passes_what_works_and_names_what_does_not(run: Run, tiny_folder: Path) -> None:
    code, out, _ = run("doctor", "-m", tiny_folder, "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert {"torch", "device", "torchaudio", "soundfile", "more formats"} <= set(checks)
    assert checks[f"model {tiny_folder}"]["state"] == "ok"
    assert code == (1 if any(check["state"] == "problem" for check in checks.values()) else 0)
    (tiny_folder / "model.safetensors").write_bytes(b"damaged")
    code, out, _ = run("doctor", "-m", tiny_folder)
    assert code == 1
    assert "PROBLEM" in out
    assert "install or convert the model again" in out
    assert "install audiosep again" not in out  # that repairs nothing but `mini`


@pytest.mark.parametrize("name", ["htdemucs", "mini"])
def test_doctor_names_the_remedy_of_the_model(
    run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    monkeypatch.setattr(catalogue, "installed", lambda name: None)
    _, out, _ = run("doctor", "-m", name, "--json")
    check = {check["name"]: check for check in json.loads(out)}[f"model {name}"]
    assert check["state"] == "problem"
    assert ("models download htdemucs" in check["found"]) == (name == "htdemucs")
    assert ("install audiosep again" in check["remedy"]) == (name == "mini")


def test_doctor_names_every_optional_package(run: Run) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = {requirement for extra in {*extras} - {"dev", "docs", "corpus"} for requirement in extras[extra]}
    assert {re.split(r"[^\w-]", requirement)[0] for requirement in wanted} <= {*OPTIONAL, "torch"}


def test_doctor_finds_a_torchaudio_that_does_not_fit(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "site" / "torchaudio"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('undefined symbol: _ZN3c10')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(broken.parent), str(ROOT)]))
    code, out, _ = run("doctor", "-m", tiny_folder, "--json")
    (check,) = [check for check in json.loads(out) if check["name"] == "torchaudio"]
    assert (code, check["state"]) == (1, "problem")
    assert "undefined symbol" in check["found"]
    assert 'pip install ".[train]"' in check["remedy"]


def test_doctor_notes_that_ffmpeg_and_pyav_are_missing(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "av", None)
    _, out, _ = run("doctor", "-m", tiny_folder, "--json")
    (check,) = [check for check in json.loads(out) if check["name"] == "more formats"]
    assert check["state"] == "note"
    assert 'pip install ".[formats]"' in check["remedy"]


# ---- in a process of its own -----------------------------------------------------------------------------------------


def test_from_standard_input_to_standard_output(song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with song.open("rb") as file:
        done = process("separate", "-", "piano", "-o", "-", "-m", tiny_folder, stdin=file)
        out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    x, rate = soundfile.read(io.BytesIO(out))
    assert (x.shape, rate) == ((66150, 2), 44100)
    assert set(tmp_path.iterdir()) == {song.parent, tiny_folder}


def test_a_closed_output_pipe_is_reported_as_such(tmp_path: Path, tiny_folder: Path, mixture: Mixture) -> None:
    write_audio(tmp_path / "long.wav", mixture(20, 44100, 2), 44100)
    running = process("separate", tmp_path / "long.wav", "piano", "-o", "-", "-m", tiny_folder)
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    err = running.stderr.read()
    assert running.wait(timeout=120) == 1
    assert b"the program that reads standard output has ended" in err
    assert b"BrokenPipe" not in err


def test_a_reader_that_has_all_it_wants_is_no_error(tmp_path: Path) -> None:
    listing = process("evaluate", "--list")
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    assert (listing.stderr.read(), listing.wait(timeout=120)) == (b"", 1)


def test_a_text_too_long_for_a_name_is_a_query() -> None:
    assert split(["a.wav", 100 * "very long "], False) == (["a.wav"], [100 * "very long "])


@pytest.mark.parametrize(
    "words",
    [("data", "check"), ("data", "build", "-o", "m.jsonl"), ("listen", "make"), ("models", "info"), ("finetune",)],
)
def test_a_path_too_long_for_a_name_is_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, 300 * "x"]) == 2
    assert "no file has a name as long as 'xxxx" in capsys.readouterr().err


def test_a_list_of_inputs_with_other_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeffa.wav\r\nb\u2028c.wav\r\n\r\n".encode())
    assert read_inputs(tmp_path / "list.txt") == [str(tmp_path / "a.wav"), str(tmp_path / "b\u2028c.wav")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_leaves_nothing_half_written(
    tmp_path: Path, tiny_folder: Path, mixture: Mixture, number: signal.Signals
) -> None:
    long = tmp_path / "long.wav"
    write_audio(long, np.tile(mixture(10, 44100, 2), 60), 44100)
    out = tmp_path / "out"
    running = process("separate", long, "piano", "-o", out, "-m", tiny_folder)
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert b"cancelled" in err
    assert b"Traceback" not in err
    assert not out.exists()


def test_the_bar_shows_percent_on_a_terminal(song: Path, tiny_folder: Path, tmp_path: Path) -> None:
    terminal, other = pty.openpty()
    running = subprocess.Popen(
        [
            sys.executable,
            ROOT / "tests" / "command.py",
            "separate",
            song,
            "piano",
            "-o",
            tmp_path / "o",
            "-m",
            tiny_folder,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=other,
    )
    os.close(other)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # the other end was closed
        pass
    assert running.wait(60) == 0
    assert re.search(rb"\d+%", shown)


def test_the_command_shares_heaps_before_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(cli, "share_heaps", lambda: steps.append("heaps"))
    monkeypatch.setattr(cli, "main", lambda: steps.append("verb") or 3)
    with pytest.raises(SystemExit) as done:
        cli.command()
    assert (steps, done.value.code) == (["heaps", "verb"], 3)


def test_python_dash_m_runs_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "audiosep", "--version"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("audiosep ")
