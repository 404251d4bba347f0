"""docs/reliability.md, row by row: each input is made, tried from Python and from the command line, and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import audiosep
import audiosep.audio
from audiosep import errors
from audiosep.cli import main
from audiosep.separator import Separator

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
# bad input -> (exception, exit code); an exit code of "-": only Python can say such a thing.
TABLE = {
    row: (exception, code)
    for row, exception, code in re.findall(r"^\| (.+?) \| `?(\w+|-)`? \| (\d+|-) \|$", TEXT, re.M)
}
TAKEN = re.findall(r"^\| ([^|]+) \| [^|`]+ \|$", TEXT.split("## Unusual")[1], re.M)[1:]
RATE = 16000
Queries = str | audiosep.Query | list[str]


@dataclass
class Trial:
    """One bad input.

    Attributes:
        mix: for `separate` in Python; None: there is nothing to try there.
        arguments: for the command line, in front of the usual ones; None: the command line has no such input.
    """

    mix: object = None
    queries: Queries = "piano"
    options: dict[str, object] = field(default_factory=lambda: {"sample_rate": RATE})
    arguments: list[str] | None = None
    call: Callable[[Separator], object] | None = None


def noise(samples: int = RATE // 2, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, samples))).astype(np.float32)


def wav(path: Path, x: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, x.T, rate, **options)
    return path


def file(path: Path, *arguments: str) -> Trial:
    """The same file from Python and from the command line."""
    return Trial(mix=path, options={}, arguments=[str(path), "piano", *arguments])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def poisoned(path: Path, value: float) -> Path:
    x = noise()
    x[0, 1000] = value
    return wav(path, x, subtype="FLOAT")


def array(x: object, **options: object) -> Trial:
    return Trial(mix=x, options={"sample_rate": RATE, **options})


def trials(here: SimpleNamespace) -> dict[str, Callable[[], Trial]]:
    """Row of the table -> how to make it. `here`: folder, good (a file), tiny (a model's folder)."""
    folder, good, tiny = here.folder, here.good, here.tiny
    command = [str(good), "piano"]
    return {
        "a file that does not exist": lambda: file(folder / "missing.wav"),
        "a file of 0 bytes": lambda: file(write(folder / "empty.wav", b"")),
        "a text file called .wav": lambda: file(write(folder / "text.wav", b"Dear diary, " * 50)),
        "a wav with a header and no samples": lambda: file(wav(folder / "none.wav", noise(0))),
        "a picture": lambda: file(write(folder / "cat.jpg", bytes.fromhex("ffd8ffe000104a464946") + bytes(500))),
        "NaN in a float wav": lambda: file(poisoned(folder / "nan.wav", np.nan)),
        "infinity in a float wav": lambda: file(poisoned(folder / "inf.wav", np.inf)),
        "9 channels": lambda: file(wav(folder / "nine.wav", noise(channels=9))),
        "a sample rate of 2 kHz": lambda: file(wav(folder / "slow.wav", noise(), 2000)),
        "a sample rate of 384 kHz": lambda: file(wav(folder / "fast.wav", noise(), 384000)),
        "a recording longer than --max-seconds": lambda: Trial(arguments=[*command, "--max-seconds", "0.1"]),
        "a folder without recordings": lambda: Trial(arguments=[str(here.bare), "piano"]),
        "an audio track that does not exist": lambda: Trial(
            call=lambda s: audiosep.audio.probe(good, "deu"), arguments=[*command, "--track", "deu"]
        ),
        "outputs that exist": lambda: Trial(arguments=[*command, "--out", str(here.taken)]),
        "outputs among the recordings of a folder": lambda: Trial(
            arguments=[str(folder), "piano", "--out", str(folder)]
        ),
        "an output folder that is a file": lambda: Trial(arguments=[*command, "--out", str(good)]),
        "an array with NaN": lambda: array(np.full((1, 1000), np.nan, np.float32)),
        "an array without samples": lambda: array(np.zeros((2, 0), np.float32)),
        "an array with three axes": lambda: array(np.zeros((1, 2, 1000), np.float32)),
        "an array of (samples, channels)": lambda: array(np.zeros((1000, 2), np.float32)),
        "an array without a sample rate": lambda: array(noise(), sample_rate=None),
        "something that is no recording": lambda: array({"left": [0.0]}),
        "several paths at once": lambda: Trial(mix=[str(good)], options={}),
        "a sample rate beside a path": lambda: Trial(mix=good),
        "--overwrite beside --skip-existing": lambda: Trial(arguments=[*command, "--overwrite", "--skip-existing"]),
        "--video for a file without a picture": lambda: Trial(arguments=[*command, "--video"]),
        "--start behind --end": lambda: Trial(arguments=[*command, "--start", "2", "--end", "1"]),
        "no query": lambda: Trial(mix=good, queries=[], options={}, arguments=[str(good)]),
        "an empty query": lambda: Trial(call=lambda s: audiosep.Query(" "), arguments=[str(good), " "]),
        "a query that is a file": lambda: Trial(arguments=[str(good), str(good)]),
        "an example that does not exist": lambda: Trial(
            mix=good,
            queries=audiosep.Query(audio=folder / "missing.wav"),
            options={},
            arguments=[str(good), "--like", str(folder / "missing.wav")],
        ),
        "an embedding of the wrong size": lambda: Trial(
            mix=good,
            queries=audiosep.Query(embedding=np.ones(7)),
            options={},
            arguments=[str(good), "--embedding", str(save(folder / "seven.npy", np.ones(7)))],
        ),
        "an embedding with NaN": lambda: Trial(
            mix=good,
            queries=audiosep.Query(embedding=np.full(16, np.nan)),
            options={},
            arguments=[str(good), "--embedding", str(save(folder / "nan.npy", np.full(16, np.nan)))],
        ),
        "a pickle called .npy": lambda: Trial(
            arguments=[str(good), "--embedding", str(save(folder / "code.npy", np.array([print]), allow_pickle=True))]
        ),
        "a negative --weight": lambda: Trial(
            call=lambda s: audiosep.Query("piano", negative="drums", weight=-1),
            arguments=[*command, "--not", "drums", "--weight", "-1"],
        ),
        "an overlap of 1": lambda: Trial(
            call=lambda s: audiosep.Options(overlap=1.0), arguments=[*command, "--overlap", "1"]
        ),
        "an unknown format": lambda: Trial(arguments=[*command, "--format", "xyz"]),
        "--on-clip float with flac": lambda: Trial(arguments=[*command, "--on-clip", "float", "-f", "flac"]),
        "a template without {stem}": lambda: Trial(arguments=[*command, "--template", "{file}.{ext}"]),
        "a template for another format": lambda: Trial(arguments=[*command, "--template", "{stem}.mp3"]),
        "a bit rate for wav": lambda: Trial(arguments=[*command, "--bitrate", "128"]),
        "a template that leaves the folder": lambda: Trial(arguments=[*command, "--template", "../{stem}.{ext}"]),
        "two queries to standard output": lambda: Trial(arguments=[*command, "drums", "--out", "-"]),
        "several recordings to standard output": lambda: Trial(
            call=lambda s: s.separate_files([good, here.second], "piano", "-"),
            arguments=[str(folder), "piano", "--out", "-"],
        ),
        "an unknown device": lambda: Trial(
            call=lambda s: audiosep.load(tiny, device="tpu9"), arguments=[*command, "--device", "tpu9"]
        ),
        "fp16 on a CPU": lambda: Trial(
            call=lambda s: audiosep.load(tiny, device="cpu", precision="fp16"),
            arguments=[*command, "--device", "cpu", "--precision", "fp16"],
        ),
        "an unknown model": lambda: Trial(
            call=lambda s: audiosep.load("gigantic"), arguments=[*command, "--model", "gigantic"]
        ),
        "a baseline where a model is expected": lambda: Trial(
            call=lambda s: audiosep.separate(good, "speech", model="repet"), arguments=[*command, "--model", "repet"]
        ),
        "a checkpoint where a model's folder is expected": lambda: Trial(
            call=lambda s: audiosep.load(str(here.checkpoint)), arguments=[*command, "--model", str(here.checkpoint)]
        ),
        "a model with damaged weights": lambda: Trial(
            call=lambda s: audiosep.load(here.damaged), arguments=[*command, "--model", str(here.damaged)]
        ),
        "a model with an unknown key in its config": lambda: Trial(
            call=lambda s: audiosep.load(here.odd), arguments=[*command, "--model", str(here.odd)]
        ),
        "a model with an unknown query encoder": lambda: Trial(
            call=lambda s: audiosep.load(here.untaught), arguments=[*command, "--model", str(here.untaught)]
        ),
        "an option that does not exist": lambda: Trial(arguments=[*command, "--bogus"]),
        "Ctrl-C": lambda: Trial(
            call=lambda s: s.separate(good, "piano", progress=lambda fraction: False),
            arguments=command,
        ),
    }


def save(path: Path, x: np.ndarray, allow_pickle: bool = False) -> Path:
    np.save(path, x, allow_pickle=allow_pickle)
    return path


@pytest.fixture
def here(tmp_path: Path, tiny_folder: Path) -> SimpleNamespace:
    """A folder of good and bad things."""
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "taken").mkdir()
    good, second = wav(folder / "good.wav", noise()), wav(folder / "second.wav", noise())
    for name in ("piano", "residual"):
        (tmp_path / "taken" / f"good ({name}).wav").write_bytes(b"precious")
    damaged, odd, untaught = tmp_path / "damaged", tmp_path / "odd", tmp_path / "untaught"
    for model in (damaged, odd, untaught):
        model.mkdir()
        for path in tiny_folder.iterdir():
            (model / path.name).write_bytes(path.read_bytes())
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    config = odd / "config.json"
    config.write_text(config.read_text().replace('"hop"', '"hops"'))
    config = untaught / "config.json"
    config.write_text(config.read_text().replace('"fake"', '"telepathy"'))
    return SimpleNamespace(
        folder=folder,
        good=good,
        tiny=tiny_folder,
        bare=tmp_path / "bare",
        taken=tmp_path / "taken",
        checkpoint=write(tmp_path / "published.ckpt", b"PK"),
        damaged=damaged,
        odd=odd,
        untaught=untaught,
        second=second,
        out=tmp_path / "out",
    )


def test_every_row_has_a_trial(here: SimpleNamespace) -> None:
    assert list(TABLE) == list(trials(here))


@pytest.mark.parametrize("row", TABLE)
def test_python_raises_the_exception_of_the_table(row: str, here: SimpleNamespace, separator: Separator) -> None:
    trial = trials(here)[row]()
    if trial.call is None and trial.mix is None:
        assert trial.arguments is not None
        return
    call = trial.call or (lambda separator: separator.separate(trial.mix, trial.queries, **trial.options))
    with pytest.raises(getattr(errors, TABLE[row][0])) as caught:
        call(separator)
    assert type(caught.value).__name__ == TABLE[row][0]
    assert len(str(caught.value)) > 15


@pytest.mark.parametrize("row", TABLE)
def test_the_command_line_exits_as_the_table_says(
    row: str, here: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trials(here)[row]()
    exception, code = TABLE[row]
    assert (trial.arguments is None) == (code == "-")
    if trial.arguments is None:
        return
    if row == "Ctrl-C":
        monkeypatch.setattr("audiosep.inference.stream.Stream.pieces", interrupt)
    usual = {"--out": str(here.out), "--model": str(here.tiny)}
    extra = [word for option, value in usual.items() if option not in trial.arguments for word in (option, value)]
    before = contents(here)
    assert main(["separate", *trial.arguments, *extra, "--json"]) == int(code)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert contents(here) == before, "something half-written is left, or something was touched"
    if exception == "-":
        assert "Usage:" in captured.err
        return
    document = json.loads(captured.out)
    told = document["error"] if "error" in document else document["failures"][0]
    assert told["type"] == exception
    assert len(told["message"]) > 15


def interrupt(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


def contents(here: SimpleNamespace) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in here.folder.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize("row", TAKEN)
def test_unusual_input_is_taken(
    row: str, here: SimpleNamespace, capsys: pytest.CaptureFixture[str], separator: Separator
) -> None:
    queries = ["piano"]
    shape, rate, name = (RATE // 2, 1), RATE, "input.wav"
    path = here.folder / name
    match row:
        case "a flac that ends early":
            soundfile.write(here.folder / "whole.flac", noise(RATE).T, RATE)
            path = write(here.folder / "input.flac", (here.folder / "whole.flac").read_bytes()[:12000])
            shape = (4096, 1)
        case "silence":
            wav(path, 0 * noise())
        case "a single sample":
            wav(path, noise(1))
            shape = (1, 1)
        case "8 channels at 96 kHz":
            rate, shape = 96000, (9600, 8)
            wav(path, noise(9600, 8), rate)
        case "float samples beyond full scale":
            wav(path, 40 * noise(), subtype="FLOAT")
        case "a name with spaces, umlauts and emoji":
            path = wav(here.folder / "mein schönes Stück 🎻.wav", noise())
        case "the same query twice":
            wav(path, noise())
            queries = ["piano", "piano"]
    code = main(["separate", str(path), *queries, "--out", str(here.out), "--model", str(here.tiny), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    (result,) = json.loads(captured.out)["results"]
    outputs = {key: soundfile.read(file, always_2d=True) for key, file in result["outputs"].items()}
    assert len(outputs) == len({*queries}) + 1
    assert len(set(result["outputs"].values())) == len(outputs)
    for x, its_rate in outputs.values():
        assert (x.shape, its_rate) == (shape, rate)
    total = sum(x for x, _ in outputs.values())
    mix, _ = soundfile.read(path, always_2d=True) if row != "a flac that ends early" else (total, 0)
    assert np.abs(total - mix).max() < 1e-3
    assert row != "silence" or not any(x.any() for x, _ in outputs.values())
    assert all(path.stem in Path(file).name for file in result["outputs"].values())
    assert ("ends early" in captured.err) == (row == "a flac that ends early")
    assert result["gain"] == 1
