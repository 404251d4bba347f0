"""The command line in the surroundings that users have: lists of other programs, no home, signals, full disks."""

from __future__ import annotations

import io
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Mixture, Run

from audiosep.audio import write_audio
from audiosep.cli import _occupy_closed_streams, main
from audiosep.cli.doctor import diagnose
from audiosep.cli.manifests import read_inputs
from audiosep.cli.reporting import Reporter
from audiosep.errors import InputError, ModelError
from audiosep.weights import catalogue

ROOT = Path(__file__).parents[1]
NAMES = ["a song.wav", "b;c.wav", "näme.wav"]


@pytest.fixture
def folder(tmp_path: Path, mixture: Mixture) -> Path:
    for name in NAMES:
        write_audio(tmp_path / name, mixture(0.3), 16000)
    return tmp_path


def read(folder: Path, content: bytes, name: str = "list.txt") -> list[str]:
    (folder / name).write_bytes(content)
    return [Path(path).name for path in read_inputs(folder / name)]


# ---- manifests -------------------------------------------------------------------------------------------------------


def test_lists_of_other_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(folder, "\0".join(NAMES).encode() + b"\0") == NAMES  # find -print0
    assert read(folder, "".join(f"./{name}\r\n" for name in NAMES).encode("utf-16")) == NAMES  # a Windows shell
    assert read(folder, "\n\n".join(NAMES).encode("utf-8-sig")) == NAMES
    assert read(folder, "\r".join(NAMES).encode()) == NAMES  # a spreadsheet on a Mac
    playlist = "#EXTM3U\n#EXTINF:4,A - song\n" + "\n".join(NAMES)
    assert read(folder, playlist.encode(), "list.m3u8") == NAMES
    assert read(folder, playlist.removeprefix("#EXTM3U\n").encode(), "list.m3u") == NAMES
    pls = "[playlist]\nFile1=a song.wav\nTitle1=A\nfile2=b;c.wav\nNumberOfEntries=2\n"
    assert read(folder, pls.encode(), "list.pls") == NAMES[:2]
    urls = f"{(folder / NAMES[0]).as_uri()}\nfile://localhost{folder}/b%3Bc.wav\nn%C3%A4me.wav\n"
    assert read(folder, urls.encode(), "list.m3u8") == NAMES
    quoted = f"# my; songs\n\"{NAMES[0]}\"\n#1 missing.wav\n'{NAMES[1]}'\n"
    assert read(folder, quoted.encode()) == [NAMES[0], "#1 missing.wav", NAMES[1]]
    assert read(folder, f"  {NAMES[0]}  \n".encode()) == [NAMES[0]]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: pytest.fail("it may be larger than the memory"))
        with pytest.raises(InputError, match="is a recording and no list"):
            read_inputs(folder / NAMES[0])
    with pytest.raises(InputError, match="there is no file"):
        read_inputs(folder / "missing.wav")
    with pytest.raises(InputError, match="no list of paths"):
        read(folder, b"\0/\0\x01\x02RIFF")
    assert read(folder, b"caf\xe9.wav\n") == [os.fsdecode(b"caf\xe9.wav")]  # a name that is no UTF-8


def test_names_in_the_code_page_of_windows(folder: Path) -> None:
    playlist = "#EXTM3U\r\n#EXTINF:4,Zoë\r\n" + "\r\n".join(NAMES)
    assert read(folder, playlist.encode("cp1252"), "list.m3u") == NAMES
    assert read(folder, "[playlist]\nFile1=näme.wav\n".encode("cp1252"), "list.pls") == NAMES[2:]
    assert read(folder, "näme.wav \n".encode("cp1252")) == NAMES[2:]
    (folder / os.fsdecode(b"n\xe4me.wav")).touch()  # a name that is no UTF-8 goes before one that would be meant
    assert read(folder, "näme.wav\n".encode("cp1252"), "list.m3u") == [os.fsdecode(b"n\xe4me.wav")]
    assert read(folder, b'{"path": "\\ud800 a.wav"}\n') == ["\ud800 a.wav"]


XSPF = """<?xml version="1.0" encoding="{encoding}"?>
<playlist xmlns="http://xspf.org/ns/0/" xmlns:vlc="http://www.videolan.org/vlc/playlist/ns/0/" version="1">
<title>Zoë</title><trackList>{tracks}</trackList>
<extension application="http://www.videolan.org/vlc/playlist/0"><vlc:item tid="0"/></extension></playlist>
"""


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "UTF-16"])
def test_playlists_in_xml(folder: Path, encoding: str) -> None:
    def lists(*tracks: str) -> list[str]:
        text = "".join(f"<track>{track}<duration>300</duration></track>" for track in tracks)
        return read(folder, XSPF.format(encoding=encoding, tracks=text).encode(encoding), "list.xspf")

    missing = "<location>https://music.example/1.ogg</location>"
    first = f"\n {missing}<location>{(folder / NAMES[0]).as_uri()}</location>"
    tracks = (first, "<location> b%3Bc.wav </location>", "<title>?</title>", "<location>n%C3%A4me.wav</location>")
    assert lists(*tracks) == NAMES
    assert lists("<location>gone.wav</location>") == ["gone.wav"]
    with pytest.raises(InputError, match="names no recording"):
        lists()


def test_other_xml_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"its XML is damaged .*: save it again"):
        read(folder, XSPF.format(encoding="UTF-8", tracks="<track>").encode(), "list.xspf")
    with pytest.raises(InputError, match="its XML is damaged"):
        read(folder, XSPF.format(encoding="klingon", tracks="").encode(), "list.xspf")
    with pytest.raises(InputError, match=r"XML of another kind.*save it as \.xspf or \.m3u8"):
        read(folder, b'<?xml version="1.0"?>\n<plist version="1.0"><dict></dict></plist>', "library.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_tables_of_spreadsheets(folder: Path, encoding: str) -> None:
    rows = 'Nr;Datei;Titel\r\n1;a song.wav;"A; song"\r\n2;"b;c.wav";B\r\n3;näme.wav;C\r\n'
    assert read(folder, rows.encode(encoding), "table.csv") == NAMES
    assert read(folder, rows.replace("Nr", "#").encode(encoding), "table.csv") == NAMES
    assert read(folder, b"#;path\n1;missing.wav\n", "table.csv") == ["missing.wav"]
    assert read(folder, b"# mine\n\nnr;path\n1;missing.wav\n", "table.csv") == ["missing.wav"]
    assert read(folder, rows.replace(";", "\t").replace("b\tc", "b;c").encode("utf-8"), "table.tsv") == NAMES


def test_tables_without_a_header_and_lists_called_csv(folder: Path) -> None:
    assert read(folder, b'a song.wav,1\n"b;c.wav",2\n', "table.csv") == NAMES[:2]
    assert read(folder, b"a song.wav\nb;c.wav\n", "list.csv") == NAMES[:2]
    assert read(folder, b"title,path\nA,missing.wav\n", "table.csv") == ["missing.wav"]
    with pytest.raises(InputError, match="no column names files that exist"):
        read(folder, b"title,artist\nA,B\n", "table.csv")


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_clips_without_a_path_are_named(folder: Path, name: Any) -> None:
    lines = json.dumps({"path": NAMES[0]}) + "\n" + json.dumps({"path": name})
    with pytest.raises(InputError, match=f"line 2: path must name a recording, got {name!r}"):
        read(folder, lines.encode(), "clips.jsonl")


def test_an_empty_name_is_not_the_folder_of_the_list(folder: Path) -> None:
    assert read(folder, b'""\n') == ['""']
    assert read(folder, b"[playlist]\nFile1= \n", "list.pls") == [" "]


def test_a_list_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\0b.wav\0")))
    assert read_inputs(Path("-")) == ["a.wav", "b.wav"]


def test_a_nul_in_a_name_is_one_line(folder: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "clips.jsonl").write_text('{"path": "a song.wav"}\n{"path": "a\\u0000b.wav"}\n')
    command = ["separate", "--manifest", str(folder / "clips.jsonl"), "piano", "-o", str(folder / "out")]
    assert main([*command, "-m", str(tiny_folder), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "contains the character NUL" in err
    assert "Traceback" not in err


# ---- no home ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container: no HOME, no entry in the file of passwords."""

    def missing(number: int) -> Any:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "AUDIOSEP_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_folder_the_embedded_model_is_found_and_doctor_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "CHECKOUT", tmp_path)
    (tmp_path / "checkpoints" / "mini").mkdir(parents=True)
    (tmp_path / "checkpoints" / "mini" / "config.json").write_text("{}")
    assert catalogue.locate("mini") == tmp_path / "checkpoints" / "mini"
    with pytest.raises(ModelError, match="set AUDIOSEP_HOME"):
        catalogue.locate("audiosep-base")
    check = next(check for check in diagnose(str(tmp_path)) if check.name == "models folder")
    assert (check.state, "AUDIOSEP_HOME" in check.remedy) == ("note", True)


def test_a_tilde_after_an_equals_sign_is_home(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tiny_folder)
    (folder / "list.txt").write_text("a song.wav\n")
    code = main(["separate", "--manifest=~/list.txt", "piano", "--out=~/sep", "-m", str(tiny_folder)])
    assert code == 0, capsys.readouterr().err
    assert (folder / "sep" / "a song (piano).wav").is_file()
    assert not (tiny_folder / "~").exists()
    for verb in (["separate", str(folder / "a song.wav"), "piano"], ["export", "new.onnx", "-q", "piano"]):
        assert main([*verb, "--adapter=~/none.safetensors", "-m", str(tiny_folder)]) != 0
        assert str(folder / "none.safetensors") in capsys.readouterr().err


# ---- signals and full disks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_leave_nothing_half_written_either(
    folder: Path, tiny_folder: Path, number: signal.Signals, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "progress", lambda self, fraction: signal.raise_signal(number))
    out = folder / "out"
    before = signal.signal(number, lambda *_: None)  # nohup has set it to be ignored, which is left so
    code, _, err = run("separate", folder / NAMES[0], "piano", "-o", out, "-m", tiny_folder, "--json-lines")
    signal.signal(number, before)
    assert (code, "0 of 1 recording finished" in err) == (130, True), err
    assert not out.exists()


full_output = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@full_output
def test_a_full_standard_output_is_a_clean_failure(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["separate", str(folder / NAMES[0]), "piano", "-o", str(folder / "out"), "-m", str(tiny_folder)]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command) == 1
    assert "standard output cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "code"), [("out", 0), ("-", 1)])
def test_a_closed_standard_output_loses_no_sound(
    folder: Path, tiny_folder: Path, target: str, code: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["separate", NAMES[0], "piano", "-o", target, "-m", str(tiny_folder)]) == code
    assert ("standard output is closed" in capsys.readouterr().err) == bool(code)
    assert (folder / "out").exists() != bool(code)


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    before = os.dup(2)
    os.close(2)
    try:
        _occupy_closed_streams()
        with (tmp_path / "x").open("w") as file:
            number = file.fileno()
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert number > 2


@full_output
@pytest.mark.parametrize("words", [["models", "list"], ["--help"]])
def test_what_python_would_write_at_its_end_is_a_clean_failure_too(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "audiosep", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "standard output" in done.stderr
    assert "Traceback" not in done.stderr
