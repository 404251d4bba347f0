"""The bench: what is measured, counted and shown; no test depends on how long something takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audiosep.audio import read_audio, write_audio
from audiosep.audio.synthetic import tone_and_noise
from audiosep.bench import roofline, suite, table
from audiosep.bench.bench_recordings import BenchRecording, find_recording, scores
from audiosep.bench.case import Case, CaseFacts, CaseRunner, Findings, Times
from audiosep.bench.comparison import OtherImplementation
from audiosep.bench.object_process import ObjectProcess
from audiosep.bench.pictures import draw
from audiosep.bench.roofline import Roofline
from audiosep.bench.suite import Comparison, Measurement, Spread, conditions, grid, measure_cases
from audiosep.cli import main
from audiosep.cli.bench import _tasks, describe, document
from audiosep.errors import InputError, ModelError
from audiosep.inference.options import Options
from audiosep.query.resolve import resolve
from audiosep.separator import Separator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Counter:
    """An object to put into a process."""

    def __init__(self, start: int) -> None:
        self.value = start

    def run(self) -> int:
        self.value += 1
        return self.value

    def die(self) -> None:
        os._exit(9)

    def refuse(self) -> None:
        raise InputError("no")


class Here:
    """In place of `ObjectProcess`: the same calls in this process, which saves the start of another."""

    def __init__(self, make: type, *arguments: object) -> None:
        self.held = make(*arguments)

    def call(self, method: str) -> object:
        return getattr(self.held, method)()

    def close(self) -> None:
        pass


def reference(mix: np.ndarray, queries: list[str] | None, sample_rate: int) -> None:
    with Path(os.environ["AUDIOSEP_TEST_LOG"]).open("a") as log:
        log.write(json.dumps([list(mix.shape), queries, sample_rate]) + "\n")


def half(mix: np.ndarray, queries: list[str] | None, sample_rate: int) -> dict[str, np.ndarray]:
    """Another implementation: the mixture itself, at another level, for each query."""
    return dict.fromkeys(queries or ["vocals", "drums"], mix / 2)


def measurement(task: tuple[str, ...] | None = ("speech",), **changes: object) -> Measurement:
    spread = Spread.of([1.0, 2.0, 4.0])
    facts = CaseFacts("small", "cpu", "fp32", 1, 10.0, 44100, 2, 1.5, 0.5, 1.0)
    values: dict[str, object] = {
        "case": Case("small", queries=task), "facts": facts, "runs": 3, "total": spread, "decode": spread,
        "separate": spread, "write": spread, "findings": Findings(500.0),
        "roofline": Roofline(10.0, 4 * 10**9, 10**9, 0.5, 16e9, 8e9),
        "against": (Comparison("a:b", spread, spread, Findings(1.0)),),
    }  # fmt: skip
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


def test_a_grid_has_all_combinations() -> None:
    cases = grid(["a", "b"], precisions=["fp32", "bf16"], threads=[1, 2], tasks=[("x",), None], lengths=[1, 2])
    assert len(set(cases)) == 32
    assert len(grid(["a"], recordings=["song.wav", "b.wav"], lengths=[1, 2])) == 2
    qualities = grid(["a"], tasks=[("x",), None], qualities=["fast", "best"])
    assert [(case.queries, case.quality) for case in qualities] == [
        (("x",), "fast"), (("x",), "best"), (None, "fast"),
    ]  # fmt: skip
    for lengths in ([0.0], [float("nan")], [-1.0]):
        with pytest.raises(InputError, match="longer than 0"):
            grid(["a"], lengths=lengths)
    with pytest.raises(InputError, match="query"):
        grid(["a"], tasks=[()])
    with pytest.raises(InputError, match="one run"):
        measure_cases(grid(["a"]), runs=0)
    with pytest.raises(InputError, match="--against"):
        measure_cases(grid(["x:y"]))
    with pytest.raises(ModelError, match="no model and no folder 'htdemuks', did you mean 'htdemucs'"):
        measure_cases(grid(["a"]), against=["htdemuks"])


def test_tasks_of_the_command_line() -> None:
    usual = ("a", "b", "c")
    assert _tasks((), None, False, usual) == [("a",)]
    assert _tasks((), ["1,3"], True, usual) == [("a",), usual, None]
    assert _tasks(("x", "y"), None, False, usual) == [("x", "y")]
    assert _tasks((), None, True, usual) == [None]
    for wrong in ("4", "0", "two"):
        with pytest.raises(InputError, match="--queries"):
            _tasks((), [wrong], False, usual)


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


@pytest.mark.slow
def test_an_object_process_is_fresh_and_its_death_is_an_error() -> None:
    worker = ObjectProcess(Counter, 3)
    assert [worker.call("run"), worker.call("run")] == [4, 5]
    memory, device = worker.memory()
    assert memory is None or 10 < memory < 5000
    assert device is None
    with pytest.raises(ModelError, match="memory"):
        worker.call("die")
    worker = ObjectProcess(Counter, 0)
    with pytest.raises(InputError, match="no"):
        worker.call("refuse")


def test_a_run_has_its_parts(mini_folder: Path, tmp_path: Path) -> None:
    runner = CaseRunner(Case(str(mini_folder), "cpu", "fp32", 1, ("piano", "dog"), None, 2.0), 0.0)
    times, facts = runner.run(), runner.warm_up()
    assert all(value > 0 for value in (times.total, times.decode, times.separate, times.write))
    assert (facts.audio_seconds, facts.sample_rate, facts.channels) == (2.0, 44100, 2)
    assert (facts.device, facts.precision, facts.threads) == ("cpu", "fp32", 1)
    assert 0 < facts.latency_seconds <= 2
    written = {path.relative_to(runner.folder).as_posix() for path in runner.folder.rglob("*.wav")}
    names = ("piano", "dog", "without piano, dog")
    assert written == {"test.wav", *(f"{place} ({n}).wav" for n in names for place in ("out/test", "parts/audio"))}
    for name in names:
        files, _ = read_audio(runner.folder / "out" / f"test ({name}).wav")
        memory, _ = read_audio(runner.folder / "parts" / f"audio ({name}).wav")
        np.testing.assert_allclose(memory, files, atol=1e-4)  # the files have 16 bits, as the test sound


@pytest.mark.parametrize(("queries", "method"), [(("piano",), "separate"), (None, "stems")])
def test_both_passes_have_the_options_of_the_case(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch, queries: tuple[str, ...] | None, method: str
) -> None:
    given: dict[str, Options] = {}
    for name in ("separate_files", method):
        inner = getattr(Separator, name)

        def spy(*arguments: object, name: str = name, inner: object = inner, **keywords: object) -> object:
            given[name] = keywords["options"]  # type: ignore[assignment]
            return inner(*arguments, **keywords)  # type: ignore[operator]

        monkeypatch.setattr(Separator, name, spy)
    case = Case(str(mini_folder), "cpu", "fp32", 1, queries, None, 0.5, quality="best")
    CaseRunner(case, 0.0).run()
    assert given == {"separate_files": Options(quality="best"), method: Options(quality="best")}


def test_the_peak_of_memory_is_that_of_file_to_files(mini_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CaseRunner(Case(str(mini_folder), "cpu", "fp32", 1, ("piano",), None, 0.5), 0.0)
    inner, passes = runner.separator.separate, []
    monkeypatch.setattr("audiosep.bench.case.memory_peaks", lambda: (float(len(passes)), None))
    monkeypatch.setattr(runner.separator, "separate", lambda *a, **k: passes.append(1) or inner(*a, **k))
    runner.run()
    runner.run()
    assert (len(passes), runner.findings().peak_memory_mb) == (2, 0.0)


def test_cases_and_what_they_are_compared_with_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Fake:
        def __init__(self, make: type, case: Case, *rest: object) -> None:
            self.name = case.model
            assert (make is CaseRunner) == (self.name != "x:y")

        def call(self, method: str) -> object:
            order.append(f"{self.name} {method}")
            if method == "findings":
                return Findings(100.0)
            if method == "warm_up":
                return measurement().facts
            return Times(9.0, 1.0, 6.0 if self.name == "x:y" else 2.0, 3.0)

        def close(self) -> None:
            order.append(f"{self.name} closed")

    monkeypatch.setattr(suite, "ObjectProcess", Fake)
    done = measure_cases(
        grid(["a", "b"]), runs=2, roofline=False, against=["x:y"], progress=lambda f: order.append(f"{f:.0%}")
    )
    start = ["a warm_up", "x:y warm_up", "b warm_up"]
    turn = ["a run", "x:y run", "b run"]
    results = ["a findings", "x:y findings", "b findings", "x:y findings"]
    assert order == [*start, *turn, "50%", *turn, "100%", *results, "a closed", "x:y closed", "b closed"]
    assert [peer.ratio for one in done for peer in one.against] == [Spread(3.0, 3.0, 3.0)] * 2
    assert [(row.system, row.separate) for row in table.rows(done) if row.system == "x:y"] == [("x:y", 6.0)]
    order.clear()
    monkeypatch.setattr(suite, "TOGETHER", 1)
    measure_cases(grid(["a", "b"]), runs=1, roofline=False)
    assert [line for line in order if "findings" not in line] == [
        "a warm_up", "a run", "a closed", "b warm_up", "b run", "b closed",
    ]  # fmt: skip


def test_a_process_that_fails_closes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Fake:
        def __init__(self, make: type, case: Case, *rest: object) -> None:
            self.name = case.model

        def call(self, method: str) -> object:
            if self.name == "b":
                raise ModelError("not here")
            return measurement().facts

        def close(self) -> None:
            closed.append(self.name)

    monkeypatch.setattr(suite, "ObjectProcess", Fake)
    with pytest.raises(ModelError, match="not here"):
        measure_cases(grid(["a", "b"]), runs=1)
    assert sorted(closed) == ["a", "b"]


def test_another_implementation_gets_the_mixture_and_the_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("AUDIOSEP_TEST_LOG", str(log))
    for queries in (("speech",), None):
        other = OtherImplementation(Case("test_bench:reference", queries=queries, seconds=0.5, threads=1))
        assert other.run().separate >= 0
        assert other.findings().si_sdr == {}
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert calls == [[[2, 22050], ["speech"], 44100], [[2, 22050], None, 44100]]
    with pytest.raises(InputError, match="nonsense"):
        OtherImplementation(Case("nonsense:f", queries=None, seconds=0.5, threads=1))


# ---- quality ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def song_folder(tmp_path: Path) -> Path:
    """A mixture of two stems, which are beside it."""
    folder = tmp_path / "a song"
    folder.mkdir()
    rng = np.random.default_rng(0)
    vocals, drums = 0.1 * rng.standard_normal((2, 2, 16000), np.float32)
    for name, samples in {"mixture": vocals + drums, "vocals": vocals, "drums": drums}.items():
        write_audio(folder / f"{name}.wav", samples, 32000, depth="float")
    return folder


def test_a_folder_is_a_mixture_and_its_true_sounds(song_folder: Path, tmp_path: Path) -> None:
    found = find_recording(song_folder)
    true = {name: song_folder / f"{name}.wav" for name in ("drums", "vocals")}
    assert (found.path, found.references) == (song_folder / "mixture.wav", true)
    assert find_recording(song_folder / "vocals.wav") == BenchRecording(song_folder / "vocals.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"mix\.wav or mixture\.wav .* 0 mixtures"):
        find_recording(tmp_path / "empty")


def test_scores_are_those_of_the_targets_with_a_true_sound(song_folder: Path) -> None:
    references = find_recording(song_folder).references
    mix = read_audio(song_folder / "mixture.wav")[0]
    found = scores({"vocals": 3 * mix, "piano": mix}, 32000, references)
    assert list(found) == ["vocals"]
    assert abs(found["vocals"]) < 0.5  # two uncorrelated sounds of one level
    write_audio(song_folder / "piano.wav", np.zeros((2, 16000), np.float32), 32000)
    assert list(scores({"vocals": mix, "piano": mix}, 32000, find_recording(song_folder).references)) == ["vocals"]
    for wrong in (mix[:1], mix[:, 1:]):
        with pytest.raises(InputError, match=r"vocals\.wav has 2 x 16000 samples at 32000 Hz"):
            scores({"vocals": wrong}, 32000, references)
    with pytest.raises(InputError, match="at 44100 Hz"):
        scores({"vocals": mix}, 44100, references)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="x:y gives NaN or infinity for 'vocals'"):
            scores({"vocals": bad * mix}, 32000, references, "x:y")


def broken(mix: np.ndarray, queries: list[str] | None, sample_rate: int) -> dict[str, np.ndarray]:
    return {"vocals": np.full_like(mix, np.nan)}


def test_what_is_compared_with_is_named_where_it_gives_no_sound(song_folder: Path) -> None:
    other = OtherImplementation(Case("test_bench:broken", queries=None, recording=str(song_folder), threads=1))
    other.run()
    with pytest.raises(InputError, match="test_bench:broken gives NaN"):
        other.findings()


def test_peers_beside_each_other(
    mini_folder: Path, song_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(suite, "ObjectProcess", Here)
    peers = ["--against", f"{mini_folder},test_bench:half", "--no-roofline", "--plot", str(tmp_path / "quality.png")]
    options = ["-m", str(mini_folder), "--runs", "1", "--precision", "fp32", "--device", "cpu", "--threads", "1"]
    assert main(["bench", str(song_folder), *options, *peers, "--stems", "-q", "vocals", "--quality", "fast,best"]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "quality.png").stat().st_size > 0
    lines = [line.split("  ") for line in said.split("\n\n")[-1].splitlines()]
    systems = [line[0] for line in lines]
    assert systems[0] == "system"
    assert systems.count("test_bench:half") == 2
    assert {"mini, fast, cpu torch fp32, 1 thread", "mini, best, cpu torch fp32, 1 thread"} <= set(systems)
    mix, rate = read_audio(song_folder / "mixture.wav")
    level = scores({"vocals": mix}, rate, find_recording(song_folder).references)
    assert "test_bench:half: " in said
    assert f"; SI-SDR vocals {level['vocals']:.2f} dB" in said


# ---- the roofline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", [False, True])
def test_operations_and_bytes_are_counted(inference: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(1, 3, 16, 8)
    with torch.inference_mode(inference):
        operations, traffic = roofline.count(lambda: conv(x))
    assert operations == 2 * 9 * 3 * 5 * 16 * 8
    assert traffic == 4 * (3 * 16 * 8 + 5 * 16 * 8 + 5 * 3 * 9 + 5)
    assert roofline.count(lambda: x + 1) == (0, 4 * 2 * x.numel())
    assert roofline.count(lambda: x.transpose(0, 1)[None]) == (0, 0)
    assert roofline.count(lambda: x.mul_(2))[1] == 4 * 2 * x.numel()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_roofline_of_a_window(mini_folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    from audiosep.api import load

    monkeypatch.setattr(roofline, "CHANNELS", (8,))
    monkeypatch.setattr(roofline, "COPIED", 1 << 16)
    monkeypatch.setattr(roofline, "MEASURED_SECONDS", 0.0)
    separator = load(mini_folder, device="cpu")
    assert separator.encoder is not None
    model, texts = separator.model, ["piano", "speech", "rain", "wind"]
    asked = [None if n is None else resolve(texts[:n], separator.encoder) for n in (1, 4, None)]
    one, four, stems = (roofline.roofline(model, ask, device=CPU, precision=precision, runs=1) for ask in asked)
    assert one.operations > 10**7
    assert one.operations < four.operations < 4 * one.operations
    assert one.bytes < four.bytes
    assert stems.operations < four.operations
    for line in (one, four, stems):
        assert min(line.seconds, line.share, line.bound_seconds, line.peak_bytes) > 0
        assert line.window_seconds == model.window / model.sample_rate


def test_peaks_are_operations_and_bytes_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "CHANNELS", (8, 16))
    monkeypatch.setattr(roofline, "COPIED", 1 << 16)
    monkeypatch.setattr(roofline, "fastest", lambda run, device: 0.5)
    x = torch.ones(1, 16, roofline.SIDE, roofline.SIDE)
    operations, _ = roofline.count(lambda: nn.functional.conv2d(x, torch.ones(16, 16, 3, 3), padding=1))
    assert roofline.convolution_peak(CPU, "fp32") == operations / 0.5
    assert roofline.copy_peak(CPU) == 2 * (1 << 16) / 0.5


def test_the_longer_of_the_two_times_is_the_bound() -> None:
    arithmetic, memory = Roofline(1.0, 100, 10, 20.0, 10.0, 10.0), Roofline(1.0, 10, 100, 20.0, 10.0, 10.0)
    assert (arithmetic.limit, arithmetic.bound_seconds, arithmetic.share) == ("arithmetic", 10.0, 0.5)
    assert (memory.limit, memory.bound_seconds, memory.share) == ("memory", 10.0, 0.05)


# ---- output ----------------------------------------------------------------------------------------------------------


def test_measurements_as_text_json_and_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measured = measurement()
    text = describe(measured)
    assert "real-time factor  0.200 (5.0 x real time)" in text
    assert "reached 50% of the first, 50% of the bound by arithmetic" in text
    assert "2 (1 to 4) times ours" in text
    whole = json.loads(json.dumps(document(measured), allow_nan=False))
    assert (whole["task"], whole["real_time_factor"], whole["roofline"]["share"]) == ("1 query", 0.2, 0.5)
    assert [measurement(t).task for t in (None, ("a", "b"))] == ["stems", "2 queries"]
    bare = measurement(None, roofline=None, against=(), findings=Findings())
    assert document(bare)["roofline"] is None
    assert "machine" not in describe(bare)
    draw([measured, bare], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert {"cpu", "versions", "threads", "load", "variables"} <= set(conditions())


def test_different_work_has_rows_of_its_own() -> None:
    def row(threads: int, **case: object) -> Measurement:
        whole = measurement()
        facts = replace(whole.facts, threads=threads)
        peers = tuple(replace(whole.against[0], reference=name) for name in ("a:b", "other"))
        return replace(whole, case=replace(whole.case, **case), facts=facts, against=peers)  # type: ignore[arg-type]

    places = ("x/one/mix.wav", "x/two/mix.wav", "song.wav")
    found = table.rows([row(1, recording=place) for place in places])
    assert {(one.system, one.recording) for one in found if one.system in ("a:b", "other")} == {
        (system, place) for system in ("a:b", "other") for place in ("one/mix.wav", "two/mix.wav", "song.wav")
    }
    found = table.rows([row(1), row(2), row(1, quality="best"), row(1)])
    ours = ["small, balanced, cpu torch fp32, 1 thread", "small, balanced, cpu torch fp32, 2 threads"]
    peers = ["a:b, 1 thread", "a:b, 2 threads", "other, balanced, 1 thread", "other, balanced, 2 threads"]
    best = ["small, best, cpu torch fp32, 1 thread", "other, best, 1 thread"]
    assert sorted(one.system for one in found) == sorted([*ours, *peers, *best])
    assert len(table.rows([row(1, queries=("piano",)), row(1, queries=("dog",))])) == 6


@pytest.fixture
def song(tmp_path: Path) -> Path:
    write_audio(tmp_path / "song.wav", tone_and_noise(32000, 32000), 32000)
    return tmp_path / "song.wav"


def test_the_command(
    mini_folder: Path, song: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "ObjectProcess", Here)
    options = ["-m", str(mini_folder), "--runs", "1", "--no-roofline", "--device", "cpu"]
    assert main(["bench", str(song), *options, "--stems", "-q", "piano", "--threads", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [case["task"] for case in said["cases"]] == ["1 query", "stems"]
    for case in said["cases"]:
        assert (case["facts"]["audio_seconds"], case["facts"]["threads"]) == (1.0, 1)
        assert case["real_time_factor"] == pytest.approx(case["total"]["median"])
        memory = case["findings"]["peak_memory_mb"]
        assert memory is None or memory > 50
    for wrong in (["--seconds", "0"], ["--seconds", "soon"], ["--queries", "99"], ["--threads", "0"]):
        assert main(["bench", *options, *wrong]) == 2
    assert main(["bench", *options, "--against", "nonsense:f", "--seconds", "1"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_in_fresh_processes(
    mini_folder: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.py").write_text("def separate(mix, queries, sample_rate):\n    assert queries == ['piano']\n")
    monkeypatch.chdir(tmp_path)
    options = ["-m", str(mini_folder), "-q", "piano", "--runs", "2", "--against", "other:separate", "--quiet"]
    assert main(["bench", str(song), *options]) == 0
    said = capsys.readouterr().out
    assert "GFLOP/s in a convolution" in said
    assert "other:separate" in said
