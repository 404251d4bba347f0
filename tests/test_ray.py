"""Many files through Ray: a real cluster on this machine with two workers, some of which are killed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Mixture

from audiosep import Query, load
from audiosep.audio import write_audio
from audiosep.cli import main
from audiosep.cli.manifests import read_inputs
from audiosep.cli.query_options import split
from audiosep.cluster import jobs
from audiosep.cluster.allocation import Allocation, allocate
from audiosep.cluster.jobs import RayReport, separate_with_ray
from audiosep.cluster.ledger import REPORT, STAGING_FOLDER, Ledger, file_state, open_ledger
from audiosep.cluster.staging import Staging, settle_all
from audiosep.cluster.workers import (
    ModelFacts,
    SeparationWorker,
    WorkerSettings,
    inspect_model,
    job_digest,
    packed,
    unpacked,
)
from audiosep.data.manifest import Clip, write_manifest
from audiosep.errors import AudioError, AudioSepError, Cancelled, DependencyError, InputError, ModelError, QueryError
from audiosep.hearing.activity import Activity
from audiosep.hearing.spans import Span
from audiosep.inference.options import Options
from audiosep.output.output_options import OutputOptions

RATE = 16000
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def files(folder: Path) -> dict[str, int]:
    """Everything in a folder, hidden or not -> when it was written."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in paths}


# ---- outputs appear completely or not at all -------------------------------------------------------------------------

RECORD = {"input": "/in/song.wav", "outputs": {"piano": "a/song (piano).wav", "residual": "song.wav"}}


def make(staging: Staging, record: dict[str, Any] = RECORD, **options: bool) -> None:
    """One attempt that ends well."""
    with staging.attempt(3) as work:
        made = {name: work / f"{name}.part" for name in record["outputs"]}
        for name, path in made.items():
            path.write_text(f"new {name}")
        staging.commit(work, made, record, **options)


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in files(folder)}


def test_outputs_are_moved_to_their_places_and_recorded(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "out" / "hidden" / "0", tmp_path / "out")
    assert staging.settle() is None
    make(staging)
    assert staging.settle() == RECORD
    assert staging.settle() == RECORD
    assert settle_all(staging.folder.parent, tmp_path / "out") == {"0": RECORD}
    staging.clear()
    assert contents(tmp_path / "out") == {"a/song (piano).wav": "new piano", "song.wav": "new residual"}


def test_complete_outputs_of_a_killed_process_are_moved_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == "song.wav":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make(staging)
    monkeypatch.undo()
    assert (tmp_path / "a" / "song (piano).wav").exists()
    assert not (tmp_path / "song.wav").exists()
    assert settle_all(tmp_path / "hidden", tmp_path) == {"0": RECORD}
    assert (tmp_path / "song.wav").read_text() == "new residual"


def test_incomplete_outputs_are_deleted_and_attempts_are_counted(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    killed = []
    for number in range(1, 4):
        attempt = staging.attempt(3)
        killed.append(attempt)  # and never left
        work = attempt.__enter__()
        assert work.name == f"attempt-{number}"
        (work / "piano.part").write_text("half")
    with pytest.raises(AudioSepError, match="3 workers died"), staging.attempt(3):
        pass
    assert settle_all(tmp_path / "hidden", tmp_path) == {}
    assert files(tmp_path) == {}


def test_an_attempt_that_fails_leaves_nothing(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    with contextlib.suppress(InputError), staging.attempt(3) as work:
        (work / "piano.part").write_text("half")
        raise InputError("a bad recording")
    assert files(tmp_path) == {}


def test_nothing_is_replaced_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("theirs")
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    with pytest.raises(AudioError, match=r"song\.wav exists already"):
        staging.check_free(RECORD, ["residual"], overwrite=False)
    staging.check_free(RECORD, ["piano"], overwrite=False)
    with pytest.raises(AudioError, match=r"song\.wav has appeared meanwhile"):
        make(staging)
    assert (tmp_path / "song.wav").read_text() == "theirs"
    assert not (tmp_path / "a").exists()  # the outputs of a recording appear together
    assert staging.settle(overwrite=True) == RECORD
    assert contents(tmp_path)["song.wav"] == "new residual"
    (tmp_path / "a" / "song (piano).wav").unlink()
    (tmp_path / "a" / "song (piano).wav").mkdir()
    staging.clear()
    with pytest.raises(AudioError, match="appeared"):
        make(staging, overwrite=True)


def test_outputs_of_a_damaged_record_are_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    (staging.folder / "done").mkdir(parents=True)
    (staging.folder / "done" / "0").write_text("half")
    (staging.folder / "done" / "record.json").touch()  # as after a power cut
    assert settle_all(tmp_path / "hidden", tmp_path) == {}
    assert "is damaged" in caplog.text
    make(staging)
    assert contents(tmp_path)["song.wav"] == "new residual"


def test_outputs_that_cannot_be_moved_stay_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)

    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.is_relative_to(staging.folder):
            return replace(self, target)
        raise OSError("read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(AudioError, match="read-only"):
        make(staging)
    assert settle_all(tmp_path / "hidden", tmp_path) == {}
    assert "complete outputs could not be moved" in caplog.text
    monkeypatch.undo()
    assert settle_all(tmp_path / "hidden", tmp_path) == {"0": RECORD}
    assert (tmp_path / "song.wav").exists()


# ---- what is done ----------------------------------------------------------------------------------------------------


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "song.wav"
    path.parent.mkdir()
    path.write_bytes(b"sound")
    return path


def record(song: Path, job: str, **outputs: str) -> dict[str, Any]:
    return {"input": str(song), "outputs": outputs, "job": job, "source": file_state(song)}


def run(out: Path, name: str, *records: dict[str, Any]) -> dict[str, Any]:
    """A run into `out` that makes what the records say; its report."""
    with open_ledger(out) as known:
        for index, one in enumerate(records):
            make(known.staging(f"{name}-{index}"), one, overwrite=True)
        known.close(name, {"model": "m"}, [{"input": "x", "type": "E", "message": "m"}])
    assert not (out / STAGING_FOLDER).exists()
    return json.loads((out / REPORT).read_text())


def test_a_recording_is_finished_while_it_is_unchanged_and_its_outputs_exist(tmp_path: Path, song: Path) -> None:
    out = tmp_path / "out"
    made = record(song, "job", piano="song (piano).wav")
    report = run(out, "first", made)
    assert (report["model"], report["results"], report["earlier"]) == ("m", [made], [])
    assert report["failures"] == [{"input": "x", "type": "E", "message": "m"}]
    assert Ledger(out).done(song, "job") == made
    assert Ledger(out).done(song, "another job") is None
    assert Ledger(out).done(song.with_name("other.wav"), "job") is None
    (out / "song (piano).wav").unlink()
    assert Ledger(out).done(song, "job") is None
    run(out, "second", made)
    song.write_bytes(b"another sound")
    assert Ledger(out).done(song, "job") is None
    song.unlink()
    assert Ledger(out).done(song, "job") is None


def test_the_report_keeps_earlier_runs_except_replaced_outputs(tmp_path: Path, song: Path) -> None:
    out = tmp_path / "out"
    first, second = record(song, "a", piano="piano.wav"), record(song, "b", voice="voice.wav")
    run(out, "first", first)
    report = run(out, "second", second)
    assert (report["results"], report["earlier"]) == ([second], [first])
    third = record(song, "c", piano="piano.wav")
    report = run(out, "third", third)
    assert (report["results"], report["earlier"]) == ([third], [second])


def test_the_next_run_records_what_a_killed_run_finished(tmp_path: Path, song: Path) -> None:
    out, made = tmp_path / "out", record(song, "job", piano="piano.wav")
    make(Staging(out / STAGING_FOLDER / "killed-0", out), made)
    with open_ledger(out) as known:
        assert known.done(song, "job") == made
    report = run(out, "next")
    assert (report["results"], report["earlier"]) == ([], [made])


def test_a_file_that_appeared_since_a_run_was_killed_is_not_replaced(
    tmp_path: Path, song: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, made = tmp_path / "out", record(song, "job", piano="piano.wav")
    out.mkdir()
    (out / "piano.wav").write_text("theirs")
    with pytest.raises(AudioError, match="appeared"):
        make(Staging(out / STAGING_FOLDER / "killed-0", out), made)
    with open_ledger(out) as known:
        assert known.done(song, "job") is None
    assert "piano.wav has appeared meanwhile" in caplog.text
    assert (out / "piano.wav").read_text() == "theirs"
    (out / "piano.wav").rename(out / "mine.wav")
    with open_ledger(out) as known:
        assert known.done(song, "job") == made
    (out / "piano.wav").write_text("theirs")
    with pytest.raises(AudioError, match="appeared"):
        make(Staging(out / STAGING_FOLDER / "again-0", out), made)
    with open_ledger(out, overwrite=True) as known:
        assert known.done(song, "job") == made
    assert (out / "piano.wav").read_text() == "new piano"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "out"), pytest.raises(InputError, match="another run"), open_ledger(tmp_path / "out"):
        pass
    with open_ledger(tmp_path / "out"):
        pass


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"earlier": 1, "results": []}'])
def test_a_file_that_is_not_a_report_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / REPORT).write_text(text)
    with pytest.raises(InputError, match="not a report"), open_ledger(tmp_path):
        pass
    assert contents(tmp_path) == {REPORT: text}


# ---- allocation of workers ----------------------------------------------------------------------------------------


def node(cpus: int, gpus: int = 0, memory: float = 64e9) -> dict[str, float]:
    return {"CPU": cpus, "memory": memory} | ({"GPU": gpus} if gpus else {})


@pytest.mark.parametrize(
    ("nodes", "device", "wanted", "files", "expected"),
    [
        ([node(2)], "auto", None, 100, Allocation(1, 2, 0)),
        ([node(1)], "cpu", None, 100, Allocation(1, 1, 0)),
        ([node(2)], "auto", 2, 100, Allocation(2, 1, 0)),
        ([node(16)], "auto", None, 100, Allocation(8, 2, 0)),
        ([node(16)], "auto", None, 3, Allocation(3, 5, 0)),
        ([node(16)], "auto", None, 0, Allocation(1, 16, 0)),
        ([node(16, memory=3e9)], "auto", None, 100, Allocation(2, 8, 0)),
        ([node(16, memory=0)], "auto", None, 100, Allocation(1, 16, 0)),
        ([node(8), node(8)], "auto", 5, 100, Allocation(5, 2, 0)),
        ([{}, node(4), node(32)], "auto", None, 100, Allocation(18, 2, 0)),
        ([node(16, 2)], "auto", None, 100, Allocation(2, 4, 1)),
        ([node(16, 2)], "cuda", None, 1, Allocation(1, 4, 1)),
        ([node(4, 8)], "cuda", 3, 100, Allocation(3, 1, 1)),
        ([node(16, 2)], "cpu", None, 100, Allocation(8, 2, 0)),
    ],
)
def test_workers(
    nodes: list[dict[str, float]], device: str, wanted: int | None, files: int, expected: Allocation
) -> None:
    assert allocate(nodes, device, wanted, files) == expected


@pytest.mark.parametrize(
    ("nodes", "device", "wanted", "words"),
    [
        ([node(4)], "auto", 5, "5 workers need as many CPUs, and there are 4"),
        ([node(4, 1)], "auto", 2, "2 workers need as many GPUs"),
        ([node(4)], "cuda", None, "no machine of the cluster has a GPU"),
    ],
)
def test_too_many_workers_are_refused(
    nodes: list[dict[str, float]], device: str, wanted: int | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        allocate(nodes, device, wanted, 100)


def test_a_worker_has_no_more_threads_than_the_machine_has_cpus(mini_folder: Path, tmp_path: Path) -> None:
    settings = WorkerSettings(
        model=mini_folder, device="cpu", precision="fp32", engine="torch", adapter=None, queries=(Query("piano"),),
        folder=tmp_path, output=OutputOptions(), options=Options(),
    )  # fmt: skip
    before = torch.get_num_threads()
    try:
        SeparationWorker(settings, threads=10_000)  # as for one recording and `--workers 10000`
        assert torch.get_num_threads() <= (os.cpu_count() or 1)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def in_this_process(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers of Ray would do is done here."""

    def outcomes(ray: Any, allocation: Any, settings: WorkerSettings, tasks: list[dict[str, Any]]) -> Iterator[Any]:
        worker = SeparationWorker(settings, 1)
        for task in tasks:
            (outcome,) = worker({"task": [json.dumps(task)]})["outcome"]
            yield json.loads(outcome)

    nodes = [{"Alive": True, "Resources": {"CPU": 1}}]
    ray = SimpleNamespace(nodes=lambda: nodes, exceptions=SimpleNamespace(RayError=RuntimeError))
    monkeypatch.setattr(jobs, "import_ray", lambda: ray)
    monkeypatch.setattr(jobs, "is_of_this_machine", lambda *_: False)
    monkeypatch.setattr(jobs, "ray_session", lambda *_: contextlib.nullcontext(ray))
    monkeypatch.setattr(jobs, "_inspect", lambda ray, settings, allocation: inspect_model(settings))
    monkeypatch.setattr(jobs, "_outcomes", outcomes)


def test_only_the_outputs_that_are_missing_are_made(
    mini_folder: Path, tmp_path: Path, mixture: Mixture, in_this_process: None
) -> None:
    write_audio(tmp_path / "song.wav", mixture(0.5, RATE, 1), RATE)
    out, output = tmp_path / "out", OutputOptions(skip_existing=True)
    options: dict[str, Any] = {"model": mini_folder, "device": "cpu", "output": output}
    separate_with_ray(tmp_path / "song.wav", "piano", out, **options).raise_for_failures()
    first = files(out)
    (out / "song (without piano).wav").unlink()
    (out / REPORT).unlink()  # as for outputs of a run without Ray
    report = separate_with_ray(tmp_path / "song.wav", "piano", out, **options)
    report.raise_for_failures()
    assert [set(result.outputs) for result in report.results] == [{"piano", "without piano"}]
    second = files(out)
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] == second[name]] == ["song (piano).wav"]


def test_a_folder_of_outputs_that_may_not_be_read_is_one_failure(
    mini_folder: Path, tmp_path: Path, mixture: Mixture, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/one.wav", "b/two.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        write_audio(tmp_path / "in" / name, mixture(0.2, RATE, 1), RATE)
    out = tmp_path / "out"
    options: dict[str, Any] = {"model": mini_folder, "device": "cpu", "output": OutputOptions(skip_existing=True)}
    separate_with_ray(tmp_path / "in", "piano", out, **options).raise_for_failures()
    shutil.rmtree(out / "b")
    stat = os.stat

    def refused(path: Any, *args: Any, **options: Any) -> os.stat_result:  # as without permissions; root has all
        if isinstance(path, str | Path) and Path(path).parent == out / "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refused)
    report = separate_with_ray(tmp_path / "in", "piano", out, **options)
    assert [result.input.name for result in report.results] == ["two.wav"]
    (error,) = report.failures.values()
    assert isinstance(error, AudioError)
    assert "Permission denied" in str(error)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_without_ray_the_remedy_is_named(tmp_path: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r'pip install "\.\[ray\]"'):
        separate_with_ray(song, "piano", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_several_processes_cannot_do(tmp_path: Path, song: Path) -> None:
    for inputs, out in (("-", tmp_path), (song, "-")):
        with pytest.raises(InputError, match="standard input and output"):
            separate_with_ray(inputs, "piano", out)
    with pytest.raises(InputError, match="device 'cuda'"):
        separate_with_ray(song, "piano", tmp_path, device="cuda:1")
    with pytest.raises(InputError, match="at least 1"):
        separate_with_ray(song, "piano", tmp_path, workers=0)


def test_what_cannot_be_done_is_said_before_ray_is_started(
    tmp_path: Path, song: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", None)
    options: dict[str, Any] = {"model": tiny_folder, "device": "cpu"}
    for error, words, wrong in [
        (ModelError, "no model", {"model": tmp_path / "no model"}),
        (ModelError, "no model", {"stems": tmp_path / "no model"}),
        (AudioError, "there is no file .*typo", {"adapter": tmp_path / "typo.safetensors"}),
        (InputError, "unknown device", {"device": "typo"}),
        (InputError, "fp16", {"precision": "fp16"}),
        (InputError, "cannot be the only output", {"output": OutputOptions(only="drums")}),
    ]:
        with pytest.raises(error, match=words):
            separate_with_ray(song, "piano", tmp_path / "out", **{**options, **wrong})
        assert not (tmp_path / "out").exists()
    begun: list[Any] = []
    absent, empty = tmp_path / "absent.wav", tmp_path / "empty.wav"
    empty.touch()
    report = separate_with_ray(
        [absent, empty], "piano", tmp_path / "out", **options, begin=lambda found, total: begun.append((found, total))
    )
    assert list(report.failures) == [absent, empty]
    ((found, total),) = begun
    assert (found.failures, total) == (report.failures, 0)
    assert [failure["input"] for failure in entries(report)["failures"]] == [str(absent), str(empty)]


def test_records_keep_the_activity_of_targets_and_reports_do_not(tmp_path: Path, song: Path) -> None:
    curve = np.random.default_rng(0).uniform(-99, 0, 7).astype(np.float32)
    activity = Activity((Span(0.1, 0.3),), (Span(0.0, 0.4),), 0.1, curve, -curve)
    made = record(song, "job", piano="piano.wav") | {"activity": {"piano": json.loads(json.dumps(packed(activity)))}}
    again = unpacked(made["activity"]["piano"])
    assert (again.spans, again.extent, again.step) == (activity.spans, activity.extent, activity.step)
    assert np.array_equal(again.energy, curve)
    assert np.array_equal(again.presence, -curve)
    assert again.energy.dtype == np.float32
    staging = Staging(tmp_path / "hidden" / "0", tmp_path)
    make(staging, made)
    assert staging.settle() == made
    (entry,) = run(tmp_path / "out", "first", made)["results"]
    assert "activity" not in entry


def test_jobs_with_different_outputs_have_different_digests() -> None:
    settings = WorkerSettings(
        model="mini", device="cpu", precision="auto", engine="torch", adapter=None, queries=(Query("piano"),),
        folder=Path("out"), output=OutputOptions(), options=Options(),
    )  # fmt: skip
    about = ModelFacts("mini", "cpu", "fp32", {"piano": "0", "residual": "1"}, settings.queries, "weights")
    example = (np.ones((1, 8), np.float32), RATE)
    different = [
        (settings, about),
        (settings, dataclasses.replace(about, weights="other weights")),
        (settings, dataclasses.replace(about, works={"piano": "0"})),
        *(
            (dataclasses.replace(settings, queries=queries), about)
            for queries in [
                None,
                (Query("voice"),),
                (Query("piano"), Query("piano")),
                (Query("piano", negative="voice"),),
                (Query("piano", negative="voice", weight=0.5),),
                (Query("piano", negative=Query(audio=example)),),
                (Query(audio=example),),
                (Query(audio=(2 * example[0], RATE)),),
                (Query(audio=(example[0], 2 * RATE)),),
                (Query(embedding=np.ones(8)),),
            ]
        ),
        *(
            (dataclasses.replace(settings, **{name: value}), about)
            for name, value in [("precision", "bf16"), ("engine", "openvino")]
        ),
        *(
            (dataclasses.replace(settings, options=Options(**{name: value})), about)
            for name, value in [("overlap", 0.5), ("shifts", 1)]
        ),
        *(
            (dataclasses.replace(settings, output=OutputOptions(**{name: value})), about)
            for name, value in [("format", "flac"), ("on_clip", "clip"), ("template", "{stem}"), ("track", "2")]
        ),
    ]
    assert len({job_digest(*job) for job in different}) == len(different)
    elsewhere = dataclasses.replace(
        settings,
        device="cuda",
        folder=Path("elsewhere"),
        output=OutputOptions(overwrite=True),
        options=Options(batch=4),
    )
    assert job_digest(elsewhere, dataclasses.replace(about, device="cuda")) == job_digest(settings, about)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["song.wav", "piano", "--workers", "2"], "--workers and --cluster are for --ray"),
        (["song.wav", "piano", "--cluster", "auto"], "--workers and --cluster are for --ray"),
        (["song.wav", "piano", "--ray", "--threads", "2"], "--workers instead of --threads"),
        (["song.wav", "piano", "--ray", "-o", "-"], "standard input and output"),
        (["--ray"], "name a recording and a sound"),
        (["song.wav", "piano", "--ray", "--explain"], "--ray gives no explanations"),
        (["song.wav", "piano", "--weight", "2"], "--weight says how strongly"),
        (["song.wav", "--embedding", "nowhere.npy"], "there is no file nowhere.npy: check the spelling"),
        (["--manifest", "nowhere.txt", "piano"], "there is no file nowhere.txt: check the spelling"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["separate", *words]) == 2
    assert error in capsys.readouterr().err


def test_a_manifest_names_the_inputs(tmp_path: Path) -> None:
    path = tmp_path / "data" / "list.txt"
    path.parent.mkdir()
    path.write_bytes(b"a.wav\n\nsub/b c.flac\r\n/abs/d.mp3\n")
    folder = path.parent
    assert read_inputs(path) == [str(folder / "a.wav"), str(folder / "sub" / "b c.flac"), "/abs/d.mp3"]
    clips = [Clip(id=str(i), path=str(folder / f"{i}.wav"), label="dog") for i in range(2)]
    write_manifest(path, clips)
    assert read_inputs(path) == [str(folder / "0.wav"), str(folder / "1.wav")]
    assert split(["piano"], False, read_inputs(path)) == (read_inputs(path), ["piano"])
    assert split(["c.wav"], True, read_inputs(path)) == ([*read_inputs(path), "c.wav"], [])
    parts: list[dict[str, Any]] = [{"start": 3.5}, {"channel": 0}]
    for part in parts:
        write_manifest(path, [clips[0], dataclasses.replace(clips[1], **part)])
        with pytest.raises(InputError, match=rf"line 2: the clip is a part of .*1.wav \({next(iter(part))}\)"):
            read_inputs(path)
    write_manifest(path, [dataclasses.replace(clips[0], path=str(folder / "shard.tar"), member="a.wav")])
    for text, error in [(None, "unpack it first"), ("{}", "no clip"), ("{", "no clip"), ("\n", "names no recording")]:
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=error):
            read_inputs(path)


# ---- a real cluster --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two CPUs of this machine, for two workers."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        for _ in range(3):  # on a busy machine Ray's parts do not wait for each other long enough
            with contextlib.suppress(Exception):
                ray.init(
                    address="local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False,
                    log_to_driver=False,
                )  # fmt: skip
                break
            ray.shutdown()
        yield
        ray.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as each of the two workers has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def album(tmp_path: Path, mixture: Mixture) -> Path:
    """Five recordings in two folders, and one that is none."""
    folder = tmp_path / "album"
    (folder / "live").mkdir(parents=True)
    for number in range(4):
        write_audio(folder / f"{number}.wav", mixture(0.5, RATE, 1, seed=number), RATE)
    write_audio(folder / "live" / "0.wav", mixture(0.5, RATE, 2, seed=9), RATE)
    (folder / "bad.wav").write_text("this is no sound")
    return folder


def workers() -> set[int]:
    """Processes of the cluster that have a task."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::"):
                found.add(int(process.name))
    return found


def has_open(process: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(descriptor.readlink() == path for descriptor in Path(f"/proc/{process}/fd").iterdir())
    return False


class Killer(threading.Thread):
    """Kills workers while they separate certain recordings, a given number of times for each."""

    def __init__(self, victims: dict[Path, int]) -> None:
        super().__init__(daemon=True)
        self.times = victims
        self.killed: dict[Path, set[int]] = {victim: set() for victim in victims}
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.05):
            for worker in workers():
                for victim, killed in self.killed.items():
                    if worker not in killed and len(killed) < self.times[victim] and has_open(worker, victim):
                        os.kill(worker, signal.SIGKILL)
                        killed.add(worker)

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self.join()


def entries(report: RayReport) -> dict[str, Any]:
    return json.loads(report.path.read_text())


@needs_ray
@pytest.mark.slow
def test_killed_workers_change_no_output(
    cluster: None, one_thread: None, album: Path, mini_folder: Path, tmp_path: Path, mixture: Mixture
) -> None:
    long, poison = album / "long.wav", album / "poison.wav"
    for path in (long, poison):
        write_audio(path, mixture(60, RATE, 1), RATE)
    seen: list[float] = []
    options: dict[str, Any] = {"model": mini_folder, "device": "cpu", "precision": "fp32", "workers": 2}
    with Killer({long: 1, poison: 100}) as killer:
        report = separate_with_ray(album, ["piano", "voice"], tmp_path / "out", **options, progress=seen.append)
    assert {path.name: len(killed) for path, killed in killer.killed.items()} == {"long.wav": 1, "poison.wav": 3}
    assert set(report.failures) == {album / "bad.wav", poison}
    assert "3 workers died" in str(report.failures[poison])
    poison.unlink()
    good = sorted(path for path in album.rglob("*.wav") if path.name != "bad.wav")
    assert sorted(result.input for result in report.results) == good
    assert report.workers == 2
    assert seen == sorted(seen)
    assert seen[-1] == 1

    # The same files with the same bytes as without Ray: nothing is lost, doubled, or half there.
    plain = load(mini_folder, "cpu", "fp32").separate_files(album, ["piano", "voice"], tmp_path / "plain")
    assert set(files(tmp_path / "out")) == {*files(tmp_path / "plain"), REPORT}
    for name in files(tmp_path / "plain"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    told = {result.input: result for result in report.results}
    for result in plain.results:
        mine = told[result.input]
        assert (mine.samples, mine.sample_rate, mine.channels) == (result.samples, RATE, result.channels)
        assert mine.presence == pytest.approx(result.presence)
        assert {n: one.spans for n, one in mine.activity.items()} == {n: a.spans for n, a in result.activity.items()}
        for name, one in result.activity.items():
            assert mine.activity[name].energy == pytest.approx(one.energy)
        assert {n: p.relative_to(tmp_path / "out") for n, p in mine.outputs.items()} == {
            n: p.relative_to(tmp_path / "plain") for n, p in result.outputs.items()
        }
    document = entries(report)
    assert sorted(entry["input"] for entry in document["results"]) == [str(path) for path in good]
    assert {entry["input"] for entry in document["failures"]} == {str(album / "bad.wav"), str(poison)}
    assert len({entry["worker"] for entry in document["results"]}) >= 2


@needs_ray
@pytest.mark.slow
def test_the_next_run_skips_finished_recordings(cluster: None, album: Path, mini_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"model": mini_folder, "device": "cpu", "workers": 2}

    # A run that is stopped after its second recording.
    done: list[float] = []
    with pytest.raises(Cancelled):
        separate_with_ray(
            album, "piano", out, **options, progress=lambda fraction: done.append(fraction) or len(done) < 2
        )
    first = files(out)
    assert set(json.loads((out / REPORT).read_text())) >= {"results", "failures", "earlier", "model", "workers"}
    finished = {name.removesuffix(" (piano).wav") for name in first if name.endswith(" (piano).wav")}
    assert {f"{name} ({stem}).wav" for name in finished for stem in ("piano", "without piano")} == {*first} - {REPORT}

    # The next one goes on, with a recording that has come before the others and would take the name of one of them.
    shutil.copy(album / "0.wav", album / "0.aiff")
    report = separate_with_ray(album, "piano", out, **options)
    assert len(report.results) + len(report.skipped) == 6
    assert len(report.skipped) >= len(finished)
    assert list(report.failures) == [album / "bad.wav"]
    second = files(out)
    assert {name: second[name] for name in first if name != REPORT} == {n: t for n, t in first.items() if n != REPORT}
    assert len(second) == 2 * 6 + 1
    assert len(entries(report)["results"]) == len(report.results)
    assert len(entries(report)["earlier"]) == len(report.skipped)

    # And the third has nothing to do but what failed; relative paths make no difference.
    with contextlib.chdir(tmp_path):
        report = separate_with_ray("album", "piano", "out", **options)
    assert (len(report.results), len(report.skipped), len(report.failures)) == (0, 6, 1)
    assert {result.outputs["piano"].parts[0] for result in report.skipped} == {"out"}
    third = files(out)
    assert {name for name in third if third[name] != second[name]} == {REPORT}


@needs_ray
@pytest.mark.slow
def test_examples_are_encoded_once_and_errors_of_the_job_are_raised(
    cluster: None, album: Path, mini_folder: Path, tmp_path: Path, mixture: Mixture, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"model": mini_folder, "device": "cpu", "workers": 1}
    like = Query(audio=album / "1.wav", negative=Query(audio=album / "2.wav"))
    cut = tmp_path / "cut.flac"
    write_audio(cut, mixture(2, RATE, 1), RATE, format="flac")
    cut.write_bytes(cut.read_bytes()[:20_000])
    report = separate_with_ray([album / "0.wav", cut], like, tmp_path / "out", **options)
    report.raise_for_failures()
    assert "cut.flac" in caplog.text  # warnings of workers are logged here
    plain = load(mini_folder, "cpu").separate_files(album / "0.wav", like, tmp_path / "plain")
    for name, path in plain.results[0].outputs.items():
        ours = report.results[0].outputs[name]
        assert ours.name == path.name
        assert ours.stat().st_size == path.stat().st_size
    for error, words, wrong in [
        (QueryError, "512 numbers", {"queries": Query(embedding=[1.0, 2.0])}),
        (ModelError, "no model", {"model": tmp_path / "no model"}),
        (InputError, "cannot be the only output", {"output": OutputOptions(only=("drums",))}),
    ]:
        with pytest.raises(error, match=words):
            separate_with_ray(album, **{"queries": "piano", "out_dir": tmp_path / "no", **options, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "no").exists()


@needs_ray
@pytest.mark.slow
def test_the_command_starts_a_cluster_of_its_own_and_ends_it(album: Path, mini_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("album/1.wav\n\nalbum/bad.wav\nalbum/1.wav\n")
    words = ["separate", "--manifest", "list.txt", "piano", "--ray", "--workers", "2", "-m", str(mini_folder), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "audiosep", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert [result["input"] for result in document["results"]] == ["album/1.wav"]
    assert [failure["input"] for failure in document["failures"]] == ["album/bad.wav"]
    assert document["results"][0]["outputs"]["piano"] == "separated/1 (piano).wav"
    assert list(document["results"][0]["activity"]) == ["piano"]
    assert (document["skipped"], document["report"]) == ([], f"separated/{REPORT}")
    assert set(files(tmp_path / "separated")) == {"1 (piano).wav", "1 (without piano).wav", REPORT}
    here = [word for word in words if word not in ("--ray", "--workers", "2")]
    for command, key in (([*here, "--skip-existing"], "skipped"), ([*words, "--skip-existing", "--mono"], "failures")):
        done = subprocess.run(
            [sys.executable, "-m", "audiosep", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert "album/1.wav" in [one["input"] for one in json.loads(done.stdout)[key]], done.stderr
    assert "was made with other options" in done.stderr
