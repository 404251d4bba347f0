"""Live streams as systems of an evaluation, and the table of their quality and speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from audiosep.errors import AudioSepError, InputError
from audiosep.evaluation.runner import read_results
from audiosep.evaluation.sets import load_set
from audiosep.evaluation.systems import LiveSystem, identity, load_system
from audiosep.models.adapters import Adapter, AdapterConfig
from audiosep.query.query import Query
from audiosep.weights.checkpoint import load_model
from research import latency
from research.latency import main, speed
from research.pages import put

RATE = 16000


@pytest.fixture
def songs(tmp_path: Path) -> str:
    for index in range(3):
        folder = tmp_path / "songs" / str(index)
        folder.mkdir(parents=True)
        voice, loop = sounds.voice(1.0, RATE, index), sounds.loop(1.0, RATE, 0.25, index)
        for name, wave in {"mix": voice + loop, "vocals": voice, "accompaniment": loop}.items():
            soundfile.write(folder / f"{name}.wav", wave, RATE, subtype="FLOAT")
    return f"folder={tmp_path / 'songs'}"


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("0.1", {"latency": 0.1, "past": None, "thorough": None}),
        ("0.25,past=0.2", {"latency": 0.25, "past": 0.2, "thorough": None}),
        ("0.25,past=0.2,quick", {"latency": 0.25, "past": 0.2, "thorough": False}),
        ("0.1,thorough", {"latency": 0.1, "past": None, "thorough": True}),
    ],
)
def test_a_live_stream_is_a_system(tiny_folder: Path, songs: str, mode: str, options: dict[str, Any]) -> None:
    system = load_system(f"{tiny_folder}:live={mode}", "cpu", "fp32")
    assert isinstance(system, LiveSystem)
    assert system.options == options
    mix = load_set(songs).items[0].load().mix
    queries = [Query(text="piano", name="a"), Query(text="voice", name="b")]
    out = system.separate(mix, queries, sample_rate=RATE)
    assert out.presence is not None
    assert list(out) == list(out.presence) == ["a", "b"]
    stream = system.separator.stream(["piano", "voice"], sample_rate=RATE, channels=len(mix), **options)
    expected = np.concatenate([stream.push(mix), stream.finish()], axis=-1)
    assert np.array_equal(np.stack(list(out.values())), expected)
    with pytest.raises(InputError, match="sample rate"):
        system.separate(mix, queries)


def test_each_mode_has_results_of_its_own(tiny_folder: Path) -> None:
    names = [str(tiny_folder), *(f"{tiny_folder}:live={mode}" for mode in ("0.1", "0.2", "0.2,past=1", "0.2,quick"))]
    assert len({identity(name) for name in names}) == len(names)


def test_a_model_with_an_adapter_is_a_system_of_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    network, _ = load_model(tiny_folder)
    file = tmp_path / "mine.safetensors"
    Adapter(network).save(file, base="tiny")
    before = identity(f"{tiny_folder}+{file}")
    assert before != identity(str(tiny_folder))
    system = load_system(f"{tiny_folder}+{file}:live=0.1", "cpu", "fp32")
    assert isinstance(system, LiveSystem)
    assert system.separator.name.endswith(" + mine")
    Adapter(network, AdapterConfig(rank=2)).save(file, base="tiny")
    assert identity(f"{tiny_folder}+{file}") != before
    with pytest.raises(InputError, match=rf"as tiny\+{file}"):
        identity(str(file))
    with pytest.raises(InputError, match="there is no adapter"):
        identity("mini+none.safetensors")


def test_the_table_and_the_picture(
    tiny_folder: Path, songs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text("before\n<!-- latency -->\nold\n<!-- end of latency -->\nafter\n")
    options = ["--model", str(tiny_folder), "--results", str(tmp_path / "results"), "--seconds", "0.5"]
    options += ["--into", str(page), "--plot", str(plot)]
    monkeypatch.setattr(latency, "use_threads", lambda count: count or 2)
    main([songs, "offline", "0.2,quick", "0.1,past=0.2", *options])
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    assert rows[0][:6] == ["latency", "window, s", "computed, s/s", "real-time factor", "SI-SDRi, dB", "better"]
    assert [row[0] for row in rows[2:]] == ["whole recording", "200 ms, quick", "100 ms, past 0.2 s"]
    offline, live, longer = ([float(cell) for cell in row[1:4]] for row in rows[2:])
    assert offline[1] < live[1] < longer[1]  # computed seconds a second
    assert all(factor > 0 for _, _, factor in (offline, live, longer))
    scores = [float(row[4].split()[0]) for row in rows[2:]]
    assert np.ptp(scores) < 3
    assert all(0 <= float(row[5].rstrip("%")) <= 100 for row in rows[2:])
    assert "3 mixtures" in printed
    assert "2 threads" in printed
    assert page.read_text() == f"before\n<!-- latency -->\n{printed}<!-- end of latency -->\nafter\n"
    assert plot.read_bytes().startswith(b"\x89PNG")
    results = read_results(tmp_path / "results" / "results.jsonl")
    assert len(results) == 9
    main([songs, "offline", "0.2,quick", "0.1,past=0.2", *options])  # nothing is evaluated again
    assert read_results(tmp_path / "results" / "results.jsonl") == results


def test_what_cannot_be_measured_is_an_error(tiny_folder: Path, songs: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="latency must be"):
        speed(f"{tiny_folder}:live=0.001", 0.1)
    with pytest.raises(InputError, match="name a model"):
        speed("mixture", 0.1)
    with pytest.raises(InputError, match="to put the table between"):
        put("table", tiny_folder / "config.json", "latency")
    with pytest.raises(AudioSepError):
        main([songs, "offline", "--model", str(tmp_path / "none")])
