"""Evaluations from end to end: resumed, parallel, summarised, reported, from the command line."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from audiosep.cli import main
from audiosep.errors import DataError
from audiosep.evaluation.benchmarks import Benchmark, Item, Scene, Target
from audiosep.evaluation.evaluation_report import EvaluationReport
from audiosep.evaluation.item_evaluation import EvaluationSettings, example_file, slug
from audiosep.evaluation.runner import choose_examples, read_results, run
from audiosep.evaluation.sets import load_set
from audiosep.evaluation.summary import Stat, SystemSummary, mean_interval, summarise
from audiosep.evaluation.systems import SeparationSystem, StemsSystem, load_system, query_for
from audiosep.evaluation.tables import benchmark_tables
from audiosep.query.query import Query

RATE = 16000
HERE = EvaluationSettings(workers=0, examples=1)


def songs(root: Path, count: int = 3, seconds: float = 1.0) -> Path:
    for index in range(count):
        folder = root / f"song {index}"
        folder.mkdir(parents=True)
        voice, loop = sounds.voice(seconds, RATE, index), sounds.loop(seconds, RATE, 0.25, index)
        for name, wave in {"mix": voice + loop, "vocals": voice, "accompaniment": loop}.items():
            soundfile.write(folder / f"{name}.wav", wave, RATE, subtype="FLOAT")
    return root


@pytest.fixture
def music(tmp_path: Path) -> Benchmark:
    return load_set(f"folder={songs(tmp_path / 'songs')}")


def made(target: str, seed: int) -> Scene:
    voice, noise = sounds.voice(0.5, RATE, seed)[None], sounds.noise(0.5, RATE, seed)[None]
    return Scene(voice + noise, {target: voice, "noise": noise}, RATE)


def grouped() -> Benchmark:
    """Present and absent targets, in groups and labels, one of them asked with a recording."""
    items = []
    for i in range(6):
        query = Query(audio=(sounds.voice(0.5, RATE, 20), RATE)) if i == 5 else Query("a voice")
        there = Target("it", query, "voice" if i % 2 else "singing", ("speech", "vocals"))
        items.append(Item(f"p{i}", (there,), partial(made, "it", i), "present", str(i)))
        items.append(Item(f"a{i}", (Target("it", query, "dog"),), partial(made, "voice", i), "absent", str(i)))
    return Benchmark("made", tuple(items), "made for the test", average="classes")


def table(outcome_or_rows, benchmark: Benchmark) -> list[tuple]:
    """What a table prints, to nine digits: the last bits of a sum depend on where in memory its numbers lie."""
    rows = getattr(outcome_or_rows, "rows", outcome_or_rows)
    return [(s.name, s.separated, digits(s.stats), digits(s.groups), s.auc) for s in summarise(rows, benchmark)]


def digits(value):
    if isinstance(value, dict):
        return {name: digits(part) for name, part in value.items()}
    if isinstance(value, Stat):
        return tuple(float(f"{part:.9g}") for part in astuple(value))
    return value


def test_oracles_over_systems_over_floors(music: Benchmark, tmp_path: Path) -> None:
    systems = ["mixture", "repet-sim", "oracle-irm", "silence", "best-gain"]
    outcome = run(systems, [music], tmp_path / "out", HERE)
    assert not outcome.failures
    summaries = {s.name: s for s in summarise(outcome.rows, music)}
    assert list(summaries)[:2] == ["oracle-irm", "repet-sim"]
    assert list(summaries)[-1] == "silence"
    assert summaries["oracle-irm"].stats["si_sdri"].mean > 8
    assert summaries["oracle-irm"].stats["better"].mean == 1
    assert summaries["mixture"].stats["si_sdri"].mean == 0
    assert summaries["best-gain"].stats["si_sdri"].mean == pytest.approx(0, abs=1e-4)
    assert summaries["best-gain"].stats["better"].mean == 0
    assert summaries["best-gain"].stats["sdri"].mean > 2.5
    assert summaries["repet-sim"].separated == summaries["repet-sim"].total == 6
    assert summaries["repet-sim"].rtf is not None
    assert summaries["repet-sim"].rtf > 0
    assert summaries["repet-sim"].rss > 50 * 2**20


@pytest.mark.slow
def test_worker_processes_give_the_same_table(music: Benchmark, tmp_path: Path) -> None:
    systems = ["oracle-irm", "mixture"]
    alone = run(systems, [music], tmp_path / "alone", HERE)
    shared = run(systems, [music], tmp_path / "shared", EvaluationSettings(workers=2, examples=0))
    assert table(alone, music) == table(shared, music)


def test_finished_items_are_not_computed_again(music: Benchmark, tmp_path: Path, monkeypatch) -> None:
    first = run(["repet"], [music], tmp_path, HERE)
    lines = (tmp_path / "results.jsonl").read_bytes()
    monkeypatch.setattr("audiosep.evaluation.runner.evaluate", lambda *a: pytest.fail("computed again"))
    calls: list[tuple[int, int, str]] = []
    again = run(["repet"], [music], tmp_path, HERE, lambda *call: calls.append(call))
    assert again.rows == first.rows
    assert (tmp_path / "results.jsonl").read_bytes() == lines


def test_only_what_changed_is_computed_again(music: Benchmark, tmp_path: Path) -> None:
    run(["mixture"], [music], tmp_path / "out", HERE)
    path = music.root / "song 1" / "vocals.wav"
    soundfile.write(path, 0.5 * soundfile.read(path)[0], RATE, subtype="FLOAT")
    changed = load_set(f"folder={music.root}")
    done: list[int] = []
    run(["mixture"], [changed], tmp_path / "out", HERE, lambda n, total, name: done.append(n))
    assert done == [3]  # two were there
    run(
        ["mixture"],
        [changed],
        tmp_path / "out",
        EvaluationSettings(("bss",), workers=0, examples=0),
        lambda n, t, s: done.append(n),
    )
    assert done == [3, 1, 2, 3]


def test_an_incomplete_last_line_is_removed(music: Benchmark, tmp_path: Path) -> None:
    whole = run(["oracle-ibm"], [music], tmp_path, HERE)
    path = tmp_path / "results.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    assert len(read_results(path)) == 2
    assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:2])
    assert table(run(["oracle-ibm"], [music], tmp_path, HERE), music) == table(whole, music)
    assert len(read_results(path)) == 3


@pytest.mark.slow
def test_a_killed_evaluation_continues_to_the_same_table(tmp_path: Path) -> None:
    music = load_set(f"folder={songs(tmp_path / 'songs', 4, 4.0)}")
    command = [
        sys.executable,
        "-m",
        "audiosep",
        "evaluate",
        "-m",
        "rpca",
        "-m",
        "oracle-irm",
        "-s",
        f"folder={music.root}",
    ]
    command += ["--workers", "0", "--quiet", "--json", "--results"]
    path = tmp_path / "killed" / "results.jsonl"
    process = subprocess.Popen([*command, str(path.parent)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not (path.is_file() and path.stat().st_size):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = len(read_results(path))
    assert 0 < finished < 20
    tables = []
    for folder in (path.parent, tmp_path / "whole"):
        done = subprocess.run([*command, str(folder)], capture_output=True, check=True)
        tables.append(json.loads(done.stdout)["sets"]["songs"])
    for first, second in zip(*(t.values() for t in tables), strict=True):
        for timing in ("rtf", "rss", "device_memory"):
            first.pop(timing), second.pop(timing)
    assert tables[0] == tables[1]
    assert next(iter(tables[0])) == "oracle-irm"


def test_one_bad_item_and_one_bad_system_do_not_end_an_evaluation(music: Benchmark, tmp_path: Path) -> None:
    soundfile.write(music.root / "song 1" / "vocals.wav", np.zeros(10), RATE)
    names = ["no such model", "oracle-irm", "convtasnet"]
    outcome = run(names, [load_set(f"folder={music.root}")], tmp_path, HERE)
    assert len(outcome.rows) == 2
    assert [failure[:3] for failure in outcome.failures] == [
        ("no such model", "", ""),
        ("convtasnet", "", ""),
        ("oracle-irm", "songs", "song 1"),
    ]
    assert "audiosep models download convtasnet" in outcome.failures[1][3]
    assert "not the same recording" in outcome.failures[2][3]


def test_two_sets_of_one_name_are_refused(music: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same name"):
        run(["mixture"], [music, music], tmp_path)


def test_groups_labels_and_presence(tmp_path: Path) -> None:
    benchmark = grouped()
    outcome = run(["oracle-irm", "spectral-gating", "nmf", "mixture"], [benchmark], tmp_path, HERE)
    summaries = {s.name: s for s in summarise(outcome.rows, benchmark)}
    oracle = summaries["oracle-irm"]
    assert oracle.groups["absent"]["suppression"].mean > 50
    assert "si_sdri" not in oracle.groups["absent"]
    assert oracle.auc["level"] == 1
    assert summaries["mixture"].auc["level"] == 0.5
    assert set(oracle.labels) == {"singing", "voice"}
    classes = np.mean([oracle.labels[label].mean for label in ("singing", "voice")])
    assert oracle.published["si_sdri"] == pytest.approx(classes)
    assert summaries["spectral-gating"].separated == 6  # it has no name for the dog
    assert summaries["nmf"].separated == 2  # the two with a recording as query


def test_groups_are_explained_under_their_table(tmp_path: Path) -> None:
    benchmark = replace(grouped(), groups={"absent": "nobody sings", "present": "somebody does"})
    outcome = run(["mixture"], [benchmark], tmp_path, HERE)
    text = EvaluationReport([benchmark], outcome, tmp_path, HERE).markdown()
    assert "| *mixture* | 0.0 dB (90%: 0.0) | 0.00 (0%) |" in text
    assert "absent: nobody sings; present: somebody does." in text


def test_the_query_for_a_system() -> None:
    repet, nmf, oracle = (load_system(name) for name in ("repet", "nmf", "oracle-irm"))
    voice = Target("it", Query("a woman singing"), aliases=("lead", "vocals"))
    asked = query_for(repet, voice)
    assert (asked.text, asked.label) == ("vocals", "it")
    assert query_for(repet, Target("it", Query("vocals"))) is None
    assert query_for(nmf, voice) is None
    assert (query_for(oracle, voice).text, query_for(oracle, voice).label) == ("a woman singing", "it")
    assert query_for(nmf, Target("it", Query(audio=np.ones(5)))).label == "it"
    assert query_for(oracle, Target("it", Query(embedding=np.ones(5)))).label == "it"


class FourStems:
    """Stands for a model with stems: each is a quarter of the mixture."""

    name, stem_names = "tiny", ("vocals", "drums", "bass", "other")

    def stems(self, mix, *, sample_rate):
        class Parts(dict):
            def rest(self, name):
                return mix - self[name]

        return Parts(dict.fromkeys(self.stem_names, 0.25 * mix))


@pytest.mark.parametrize("name", ["mixture", "oracle-irm", "MODEL", "MODEL:stems", "MODEL:live=0.3"])
def test_models_and_baselines_are_systems(name: str, tiny_folder: Path, mixture: Any) -> None:
    mix = mixture(0.2)
    system = load_system(name.replace("MODEL", str(tiny_folder)), "cpu", "fp32")
    assert isinstance(system, SeparationSystem)
    query = Query("vocals", name="it")
    estimate = system.separate(mix, query, sample_rate=16000, references={"it": 0.5 * mix})["it"]
    assert estimate.shape == mix.shape
    assert system.needs_references == (name == "oracle-irm")


def test_stems_of_a_model_as_a_system() -> None:
    system = StemsSystem(FourStems())
    mix = sounds.voice(0.1, RATE)
    assert system.targets == {"vocals", "drums", "bass", "other", "accompaniment"}
    parts = system.separate(mix, [Query("drums", name="d"), Query("accompaniment", name="a")], sample_rate=RATE)
    np.testing.assert_array_equal(parts["d"], 0.25 * mix)
    np.testing.assert_array_equal(parts["a"], mix - 0.25 * mix)


def test_our_models_their_stems_and_their_clap(mini_folder: Path, music: Benchmark, tmp_path: Path) -> None:
    model = str(mini_folder)
    settings = EvaluationSettings(("clap",), clap=model, workers=0, examples=0)
    outcome = run([model, f"{model}:stems"], [music, grouped()], tmp_path, settings)
    assert not outcome.failures
    whole, stems = (s for name in (model, f"{model}:stems") for s in summarise(outcome.rows, music) if s.name == name)
    assert whole.separated == stems.separated == 6
    assert whole.stats["clap"].count == 6
    assert 0 <= whole.stats["presence"].low <= whole.stats["presence"].high <= 1
    both = [row for row in outcome.rows if row["set"] == "songs" and row["system"] == f"{model}:stems"]
    sdr = [[t["scores"]["sdr"] for t in row["targets"]] for row in both]
    assert all(len(row) == 2 for row in sdr)
    made_set = {s.name: s for s in summarise(outcome.rows, grouped())}
    assert made_set[model].separated == 12  # also the recordings
    assert 0 <= made_set[model].auc["presence"] <= 1
    assert made_set[f"{model}:stems"].separated == 6


def test_a_changed_model_is_another_system(mini_folder: Path, tmp_path: Path) -> None:
    from audiosep.evaluation.systems import identity

    copy = Path(shutil.copytree(mini_folder, tmp_path / "copy"))
    before = identity(str(copy))
    assert identity(str(copy)) == before != identity(f"{copy}:stems")
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert identity(str(copy)) != before


def test_bootstrap_covers_the_mean_and_resamples_items() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for trial in range(100):
        values = random.normal(3, 2, 40)
        low, high = mean_interval(values, np.ones(40), [str(i) for i in range(40)], seed=trial)
        inside += low < 3 < high
    assert 85 <= inside <= 99
    twice = mean_interval(np.repeat(values, 2), np.ones(80), [str(i // 2) for i in range(80)])
    assert twice == pytest.approx(mean_interval(values, np.ones(40), [str(i) for i in range(40)]))


def test_gnsdr_weights_by_length(tmp_path: Path) -> None:
    rows = [
        {"system": "x", "set": "s", "item": str(n), "group": "", "seconds": seconds, "targets": [
            {"label": "", "present": True, "scores": {"nsdr": value, "sdri": value}}
        ]}
        for n, (seconds, value) in enumerate([(1.0, 2.0), (3.0, 6.0)])
    ]  # fmt: skip
    stats = summarise(rows, Benchmark("s", (), ""))[0].stats
    assert stats["nsdr"].mean == 5
    assert stats["sdri"].mean == 4


def test_the_mean_of_one_item_has_no_spread() -> None:
    assert mean_interval(np.array([1.0, 5.0]), np.array([3.0, 1.0]), ["a", "a"]) == (2.0, 2.0)


def test_examples_take_turns_among_groups() -> None:
    benchmark = grouped()
    chosen = choose_examples(benchmark, 4, seed=0)
    assert sorted(name[0] for name in chosen) == ["a", "a", "p", "p"]
    assert chosen == choose_examples(benchmark, 4, seed=0)
    assert chosen != choose_examples(benchmark, 4, seed=1)
    assert len(choose_examples(benchmark, 99, seed=0)) == 12


def test_slugs_never_collide() -> None:
    names = ["a b", "a_b", "a/b", "../etc", "..", "x" * 200, "x" * 201, "ä"]
    assert len({slug(name) for name in names}) == len(names)
    assert all(re.fullmatch(r"[\w.-]{1,120}", slug(name)) and not slug(name).startswith(".") for name in names)


class Page(html.parser.HTMLParser):
    """Collects what a page needs from elsewhere, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "img", "line", "rect", "path", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "rect", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_html_is_one_file_and_escapes_what_it_shows(tmp_path: Path) -> None:
    folder = songs(tmp_path / "songs", 1)
    (folder / "queries.json").write_text('{"vocals": "<script>alert(1)</script>"}', encoding="utf-8")
    benchmark = load_set(f"folder={folder}")
    outcome = run(["oracle-irm", "repet"], [benchmark], tmp_path / "out", HERE)
    text = EvaluationReport([benchmark], outcome, tmp_path / "out", HERE, "Voices & <loops>").html()
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    kinds = ("data:image/webp;base64,", "data:audio/ogg; codecs=opus;base64,")
    assert all(source.startswith(kinds) for source in page.sources)
    assert len(page.sources) == 2 * (1 + 2 * 3)  # picture and sound of a mixture, two targets, their estimates
    assert len(text) < 300_000  # 14 recordings of a second
    (row,) = [row for row in outcome.rows if row["system"] == "repet"]
    scores = {target["name"]: target["scores"]["si_sdri"] for target in row["targets"]}
    assert text.count("<b>repet</b>") == len(scores) == 2
    for score in scores.values():
        assert f"<b>repet</b><br>SI-SDRi {round(score, 1) + 0.0:.1f} dB" in text
    assert text.count("95 % interval, and a mark for each clip") == 1
    assert "<script>" not in text
    assert "Voices & <loops>" in page.words
    assert any("Le Roux" in words for words in page.words)


def test_markdown_names_measures_systems_and_machine(music: Benchmark, tmp_path: Path) -> None:
    outcome = run(["oracle-irm", "hpss", "mixture", "nothing"], [music], tmp_path, HERE)
    text = EvaluationReport([music], outcome, tmp_path, HERE).markdown()
    lines = [line for line in text.splitlines() if line.startswith("| *oracle-irm* |")]
    assert lines[0].count("[") == 2
    assert "No query of this benchmark" in text
    assert "- **SI-SDRi**: Improvement" in text
    assert "- **hpss**: median filtering" in text
    assert re.search(r"- software: audiosep [\d.]+, torch [\d.]+", text)
    assert "- models: device auto, precision auto, engine torch" in text
    assert "- nothing: " in text
    widths = {
        line.count("|") for line in text.split("### Scores")[1].split("###")[0].splitlines() if line.startswith("|")
    }
    assert len(widths) == 1


def test_command_line(tmp_path: Path, capsys) -> None:
    folder = songs(tmp_path / "songs", 2)
    common = ["--results", str(tmp_path / "out"), "--workers", "0", "--quiet"]
    report, markdown = tmp_path / "deep" / "report.html", tmp_path / "report.md"
    arguments = ["evaluate", "-m", "oracle-irm", "-s", f"folder={folder}", *common, "--html", str(report)]
    assert main([*arguments, "--markdown", str(markdown), "--title", "Songs", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "| *best-gain* |" in shown
    assert report.is_file()
    assert markdown.read_text().startswith("# Songs")
    assert main(["evaluate", "-m", "oracle-irm", "-s", f"folder={folder}", *common, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["sets"]["songs"]) == ["oracle-irm", "best-gain", "mixture", "silence"]


def test_command_line_errors(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = songs(tmp_path / "songs", 1)
    common = ["--results", str(tmp_path / "out"), "--workers", "0", "--quiet"]
    assert main(["evaluate", "-m", "mixture"]) == 2
    assert "--list" in capsys.readouterr().err
    assert main(["evaluate", "-m", "mixture", "-s", f"songs={folder}", *common]) == 2
    assert "musdb18-hq" in capsys.readouterr().err
    assert main(["evaluate", "-m", "mixture", "-s", f"dnr={folder}", *common]) == 1
    assert "tt/1002/mix.wav" in capsys.readouterr().err
    assert main(["evaluate", "-m", "mixture", "-s", f"folder={folder}", "--measure", "loud", *common]) == 2
    monkeypatch.setattr("audiosep.evaluation.runner.run", None)  # all of it is said before anything is evaluated
    for wrong, code, says in [
        (["-m", "nowhere"], 1, "no model and no folder 'nowhere'"),
        (["-m", "nowhere:stems"], 1, "no model and no folder 'nowhere'"),
        (["--measure", "clap"], 2, "with --clap"),
        (["--measure", "clap", "--clap", "nowhere"], 1, "no model and no folder 'nowhere'"),
        (["--clap", "mini"], 2, "add --measure clap"),
        (["--device", "cuda:99"], 2, "no device 'cuda:99'"),
        (["--results", str(folder / "song 0" / "mix.wav")], 2, "is a file: name a folder"),
    ]:
        assert main(["evaluate", "-m", "mixture", "-s", f"folder={folder}", *common, *wrong]) == code, wrong
        assert says in capsys.readouterr().err


def test_models_of_a_kind_that_are_not_here_are_told_at_the_start(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    folder = songs(tmp_path / "songs", 1)
    common = ["--results", str(tmp_path / "out"), "--workers", "0"]
    assert main(["evaluate", "-m", "networks", "-s", f"folder={folder}", *common]) == 1
    said = capsys.readouterr()
    assert "warning: htdemucs is left out" in said.err
    assert "not evaluated: htdemucs: " in said.err
    assert "mixture" in said.out


def test_listing_shows_every_set_and_baseline(capsys) -> None:
    from audiosep.evaluation.baselines import BASELINES
    from audiosep.evaluation.sets import READERS
    from audiosep.weights.baseline_names import BASELINE_NAMES

    assert set(BASELINES) == BASELINE_NAMES
    assert main(["evaluate", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}: " in shown for name in (*BASELINES, *READERS))
    assert "options: mixtures=200" in shown
    assert main(["evaluate", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed["sets"]] == list(READERS)
    assert [one["name"] for one in listed["baselines"]] == list(BASELINES)
    assert next(one for one in listed["sets"] if one["name"] == "manifest")["options"]["mixtures"] == 200


def test_workers_get_their_share_of_the_cores(monkeypatch) -> None:
    from audiosep.evaluation.runner import _threads

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setattr("audiosep.evaluation.runner.available_cpus", lambda: 8)
    with _threads(3):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert os.environ["MKL_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "7"


def test_without_scipy_the_remedy_is_named() -> None:
    code = (
        "import sys, importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'scipy' else f(name, *rest)\n"
        "from audiosep.cli import main; sys.exit(main(['evaluate', '--list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install ".[eval]"' in done.stderr
    assert "Traceback" not in done.stderr


def rows(scores: dict[str, list[float]], group: str = "") -> list[dict]:
    """Rows of system "x" on benchmark "s": label -> SI-SDRi of its clips."""
    return [
        {"system": "x", "set": "s", "item": f"{label}{n}", "group": group, "seconds": 1.0, "targets": [
            {"label": label, "present": True, "scores": dict.fromkeys(("si_sdri", "si_sdr", "sdri"), value)}
        ]}
        for label, values in scores.items() for n, value in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(("average", "expected"), [("classes", (4 + 9) / 2), ("class medians", (1 + 9) / 2)])
def test_averages_over_classes_as_the_owners_publish_them(average: str, expected: float) -> None:
    (summary,) = summarise(rows({"a": [0, 1, 11], "b": [9]}), Benchmark("s", (), "", average=average))
    assert summary.published["si_sdri"] == pytest.approx(expected)
    assert summary.stats["si_sdri"].mean == pytest.approx(21 / 4)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"device": "cpu"}, {"engine": "openvino"}])
def test_other_settings_are_other_results(music: Benchmark, tmp_path: Path, change: dict[str, str]) -> None:
    run(["mixture"], [music], tmp_path, HERE)
    run(["mixture"], [music], tmp_path, replace(HERE, **change))
    assert len(read_results(tmp_path / "results.jsonl")) == 6


def test_another_clap_under_the_same_name_scores_anew(music: Benchmark, mini_folder: Path, tmp_path: Path) -> None:
    clap = Path(shutil.copytree(mini_folder, tmp_path / "clap"))
    settings = EvaluationSettings(("clap",), clap=str(clap), workers=0, examples=0)
    done: list[int] = []
    for _ in range(2):
        run(["mixture"], [music], tmp_path / "out", settings, lambda n, total, name: done.append(n))
    assert done == [1, 2, 3]
    (clap / "config.json").write_text((clap / "config.json").read_text() + "\n")
    run(["mixture"], [music], tmp_path / "out", settings, lambda n, total, name: done.append(n))
    assert done == [1, 2, 3] * 2


def test_the_audio_of_an_example_is_the_scene_at_one_gain(music: Benchmark, tmp_path: Path) -> None:
    results = run(["oracle-irm"], [music], tmp_path, HERE)
    (name,) = results.examples["songs"]
    item = next(item for item in music.items if item.id == name)
    scene, folder = item.load(), tmp_path / "examples" / "songs" / slug(name)
    mix = soundfile.read(example_file(folder, "mix"))[0]
    gain = np.abs(mix).max() / np.abs(scene.mix).max()
    for target in item.targets:
        true = soundfile.read(example_file(folder, "true", target.name))[0]
        np.testing.assert_allclose(true, gain * scene.reference(target)[0], atol=1e-4)
        assert example_file(folder, "estimate", target.name, "oracle-irm").is_file()


def door_and_voice() -> Scene:
    """One second: a voice at its beginning, a louder door at its end."""
    voice, door = (np.zeros((1, RATE), np.float32) for _ in range(2))
    voice[0, :4000], door[0, -4000:] = sounds.voice(0.25, RATE), 3 * sounds.noise(0.25, RATE)
    return Scene(voice + door, {"door": door, "vocals": voice}, RATE)


def test_examples_of_systems_with_other_targets_are_of_one_time_at_one_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.evaluation.item_evaluation.EXAMPLE_SECONDS", 0.2)
    targets = (Target("door", Query("a door")), Target("vocals", Query("a voice"), aliases=("vocals",)))
    made_set = Benchmark("made", (Item("one", targets, door_and_voice),), "")
    folder = tmp_path / "examples" / "made" / "one"
    shared = [example_file(folder, "mix"), *(example_file(folder, "true", target.name) for target in targets)]
    found = []
    for system in ("repet", "oracle-irm"):  # the first has no name for the door
        run([system], [made_set], tmp_path, HERE)
        found.append([path.read_bytes() for path in shared])
    assert found[0] == found[1]
    assert not example_file(folder, "estimate", "door", "repet").exists()
    assert np.abs(soundfile.read(shared[1])[0]).max() > 0.5


def test_embeddings_go_to_systems_that_take_text() -> None:
    target = Target("it", Query(embedding=np.ones(5)))
    text = SimpleNamespace(targets=None, capabilities=frozenset({"text"}))
    audio = SimpleNamespace(targets=None, capabilities=frozenset({"audio"}))
    assert query_for(text, target).label == "it"
    assert query_for(audio, target) is None


def test_the_cell_of_an_absent_group_shows_median_and_tenth_percentile() -> None:
    down = Stat(mean=20.0, low=18.0, high=22.0, median=21.0, tenth=3.0, count=9)
    summary = SystemSummary("x", False, 9, 9, groups={"a": {}, "c": {"suppression": down}})
    table = benchmark_tables([summary], Benchmark("s", (), ""))[1]
    assert table.rows == [["x", "–", "21.0 dB (90%: 3.0)"]]
