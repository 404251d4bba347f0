"""Fine-tuning on a folder of recordings: splits, the adapter file, the whole model, rehearsal of known sounds."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest
import soundfile
import torch
from doubles import PLAIN
from safetensors import safe_open
from tensorboard.backend.event_processing import event_accumulator

from audiosep import query
from audiosep.cli.finetune import app
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.errors import ConfigError, DataError, DependencyError, ModelError, TrainingError
from audiosep.metrics import si_sdr
from audiosep.models.adapters import AdapterConfig
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.training.engine.run_log import without_labels
from audiosep.training.engine.runtime import only_process
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.finetune import finetuning
from audiosep.training.finetune.finetune_task import FinetuneOptions
from audiosep.training.finetune.finetuning import FinetuneConfig, FinetuneReport, finetune
from audiosep.training.finetune.user_clips import gather_clips, hold_back
from audiosep.training.separation.bandwidth import band_limited
from audiosep.weights.checkpoint import load_model, save_model

RATE = 16000


def whistle(rng: np.random.Generator, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(700, 1200) + 200 * np.sin(2 * np.pi * rng.uniform(1, 3) * time)
    return 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))


def kettle(rng: np.random.Generator, seconds: float) -> np.ndarray:
    noise = np.diff(rng.standard_normal(round(seconds * RATE) + 1))
    return 0.1 * noise * (0.7 + 0.3 * np.sin(2 * np.pi * rng.uniform(5, 9) * np.arange(len(noise)) / RATE))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """my sounds/kettle/0.wav ... and my sounds/tin whistle/0.wav ..."""
    rng = np.random.default_rng(0)
    for name, make in (("kettle", kettle), ("tin_whistle", whistle)):
        (tmp_path / "my sounds" / name).mkdir(parents=True)
        for number in range(5):
            soundfile.write(tmp_path / "my sounds" / name / f"{number}.wav", make(rng, 2.5), RATE)
    return tmp_path / "my sounds"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny hybrid that has heard some audio, so that its statistics are not those of nothing, and learned nothing."""
    monkeypatch.setitem(query.ENCODERS, "fake", "doubles:FakeEncoder")
    shape = HybridConfig(
        sample_rate=RATE, n_fft=512, hop=256, bands=48, widths=(8, 12), features=16, dimension=16, listener=None,
        stems=(), window=80 * 256, context=16 * 256, **PLAIN,
    )  # fmt: skip
    torch.manual_seed(0)
    model, rng = Hybrid(shape).train(), np.random.default_rng(1)
    with torch.no_grad():
        for _ in range(50):
            mix = torch.from_numpy(whistle(rng, 0.5) + kettle(rng, 0.5)).float()[None, None]
            model(mix * torch.rand(4, 1, 1), torch.nn.functional.normalize(torch.randn(3, 16), dim=-1))
    return save_model(tmp_path / "base", model, query={"encoder": "fake"}, extra={"name": "tiny"})


@pytest.fixture
def quick() -> FinetuneConfig:
    options = FinetuneOptions(validation_batches=2, losses=({"name": "snr", "weight": 0.1},), rehearsal=0.0)
    options = replace(options, sampling=replace(options.sampling, seconds=0.75))
    return FinetuneConfig(steps=40, options=options, device="cpu", precision="fp32", learning_rate=0.02)


@pytest.mark.parametrize(
    ("place", "name"),
    [(".", "here"), ("..", "above"), ("v1.5", "v1.5"), ("my sounds/", "my sounds"), ("a/m.v2.jsonl", "m.v2")],
)
def test_results_have_the_name_of_the_recordings(
    place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    assert finetuning.default_output(Path(place), False) == Path(f"{name}.safetensors")
    assert finetuning.default_output(Path(place), True) == Path(f"{name}-model")

    def start(trainer: TrainerConfig, run_dir: Path) -> None:
        raise ConfigError(f"started in {run_dir}")

    monkeypatch.setattr(finetuning, "check_start", start)
    with pytest.raises(ConfigError, match=f"started in runs/finetune-{name}$"):
        finetune(place)


def test_an_adapter_improves_the_model(sounds, quick, base, tmp_path):
    out = tmp_path / "mine.safetensors"
    config = replace(quick, trackers=("tensorboard",))
    report = finetune(sounds, base, out, config=config, known=sounds, run_dir=tmp_path / "run")
    events = event_accumulator.EventAccumulator(str(tmp_path / "run/audiosep")).Reload()
    assert len(events.Tags()["audio"]) == len(events.Tags()["images"]) == 9
    assert report.known_after.keys() == report.known_before.keys() != set()
    assert report.labels == ["kettle", "tin whistle"]
    assert report.after["val/si_sdri"] > report.before["val/si_sdri"] + 3
    assert report.after["val/better"] >= 0.9
    assert {"val/si_sdri", "val/better"} < without_labels(report.after).keys()
    assert not any("kettle" in name for name in without_labels(report.after))
    with safe_open(out, framework="pt") as file:
        assert json.loads(file.metadata()["about"])["labels"] == report.labels

    import audiosep

    rng = np.random.default_rng(9)
    wanted = torch.from_numpy(kettle(rng, 2.0)).float()
    mix = wanted.numpy() + whistle(rng, 2.0).astype(np.float32)

    def quality(**adapter):
        separator = audiosep.load(base, device="cpu", **adapter)
        out = separator.separate(mix, "kettle", sample_rate=RATE)["kettle"]
        return float(si_sdr(torch.from_numpy(out)[None], wanted[None]))

    assert quality(adapter=tmp_path / "mine.safetensors") > quality() + 3


def test_a_run_in_which_another_process_trains_stays_as_it_is(sounds, quick, base, tmp_path):
    (tmp_path / "run").mkdir()
    with only_process(tmp_path / "run"), pytest.raises(TrainingError, match="another process trains in"):
        finetune(sounds, base, tmp_path / "x.safetensors", config=quick, run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.jsonl").exists()


@pytest.mark.slow
def test_the_whole_model_can_be_trained(sounds, quick, base, tmp_path):
    config = replace(quick, full=True, learning_rate=0.01, steps=60)
    report = finetune(sounds, base, tmp_path / "model", config=config, run_dir=tmp_path / "run")
    assert report.after["val/si_sdri"] > report.before["val/si_sdri"] + 3
    facts = json.loads((tmp_path / "model/config.json").read_text())
    assert facts["base"] == "tiny"
    assert facts["query"] == {"encoder": "fake"}

    import audiosep

    assert "kettle" in audiosep.load(tmp_path / "model", device="cpu").name


def test_a_whole_model_appears_whole_or_not_at_all(sounds, quick, base, tmp_path, monkeypatch):
    best, out, (model, facts) = tmp_path / "best", tmp_path / "model", load_model(base)
    (base / "licence.txt").write_text("of the base")
    (base / "licence.txt").chmod(0o444)
    save_model(best, model, query=facts["query"], extra={"name": "tuned"})
    copyfile, earlier = shutil.copyfile, save_model(out, model, query=None) / "config.json"
    before = earlier.read_bytes()

    def interrupted(source, target, **options):
        if Path(source).is_relative_to(best):
            raise KeyboardInterrupt
        return copyfile(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetuning._publish(best, out, base, model, full=True)
    assert earlier.read_bytes() == before
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}
    assert not list(tmp_path.glob(".audiosep-*"))
    monkeypatch.undo()
    finetuning._publish(best, out, base, model, full=True)
    assert json.loads(earlier.read_text())["name"] == "tuned"
    assert (out / "licence.txt").read_text() == "of the base"

    monkeypatch.chdir(out)
    for place, says in ((sounds, "not a model's folder"), (Path(), "working folder"), (tmp_path, "working folder")):
        with pytest.raises(ModelError, match=says):
            finetune(sounds, base, place, config=replace(quick, full=True), run_dir=tmp_path / "run")
    assert len(list(sounds.rglob("*.wav"))) == 10


@pytest.mark.slow
def test_rehearsal_keeps_the_estimates_of_known_sounds(sounds, quick, base, tmp_path):
    from audiosep.models.adapters import apply_adapter

    before = load_model(base)[0]
    mix = torch.from_numpy(kettle(np.random.default_rng(5), 1.0)).float()[None, None]
    changes = []
    for rehearsal in (0.0, 1.0):
        config = replace(quick, options=replace(quick.options, rehearsal=rehearsal))
        out = tmp_path / f"{rehearsal}.safetensors"
        finetune(sounds, base, out, config=config, run_dir=tmp_path / f"run{rehearsal}")
        tuned = load_model(base)[0]
        if out.is_file():  # rehearsal alone may bring no gain, and then nothing is written
            apply_adapter(tuned, out)
        words = load_words(base)
        with torch.no_grad():
            changes.append(float((tuned(mix, words).waveforms - before(mix, words).waveforms).square().sum()))
    assert changes[0] > 0
    assert changes[1] < 0.7 * changes[0]


def load_words(folder: Path) -> torch.Tensor:
    from audiosep.query import load_encoder

    return load_encoder({"encoder": "fake"}, folder).text(["speech", "piano", "rain", "siren"])


def test_the_command_passes_its_flags_on_and_shows_the_gain(tmp_path, capsys, monkeypatch):
    seen = {}
    before = {"val/label/kettle/si_sdri": 1.5, "val/label/kettle/better": 0.25, "val/si_sdri": 1.0, "val/better": 0.5}
    after = {"val/label/kettle/si_sdri": 6.5, "val/label/kettle/better": 0.75, "val/si_sdri": 5.0, "val/better": 1.0}
    scores = before, after
    report = FinetuneReport("my.safetensors", False, ["kettle"], 1000, 40, 2.0, *scores, *scores)

    def stub(sounds, base, out, **options):
        seen.update(options, sounds=sounds, base=base, out=out)
        return report

    monkeypatch.setattr("audiosep.training.finetune.finetuning.finetune", stub)
    arguments = [
        "my_sounds",
        "--from",
        "base",
        "--noise",
        "street",
        "--minutes",
        "5",
        "--rank",
        "4",
        "--rehearsal",
        "0.1",
        "--skip-broken",
    ]
    with pytest.raises(SystemExit) as done:
        app(arguments)
    assert done.value.code == 0
    assert (seen["sounds"], seen["base"], seen["noise"]) == (Path("my_sounds"), "base", [Path("street")])
    config = seen["config"]
    assert (config.minutes, config.adapter.rank, config.options.rehearsal, config.full) == (5.0, 4, 0.1, False)
    assert config.skip_broken
    shown = capsys.readouterr().out
    assert "written: my.safetensors" in shown
    rows = [line.split() for line in shown.splitlines()[2:6]]
    assert rows == [
        ["all", "1.00", "dB", "5.00", "dB", "50%", "100%"],
        ["kettle", "1.50", "dB", "6.50", "dB", "25%", "75%"],
        ["all", "known", "1.00", "dB", "5.00", "dB", "50%", "100%"],
        ["known:", "kettle", "1.50", "dB", "6.50", "dB", "25%", "75%"],
    ]
    monkeypatch.setattr("audiosep.training.finetune.finetuning.finetune", lambda *a, **k: replace(report, out=None))
    with pytest.raises(SystemExit) as done:
        app([*arguments, "--json"])
    assert done.value.code == 1
    assert json.loads(capsys.readouterr().out)["out"] is None
    stopped = replace(report, out=None, interrupted=True)
    monkeypatch.setattr("audiosep.training.finetune.finetuning.finetune", lambda *a, **k: stopped)
    with pytest.raises(SystemExit) as done:
        app(arguments)
    assert done.value.code == 130
    assert "stopped" in capsys.readouterr().out


def test_nothing_is_written_without_an_improvement(sounds, quick, base, tmp_path):
    config = replace(quick, steps=1, learning_rate=1e-9)
    report = finetune(sounds, base, tmp_path / "mine.safetensors", config=config, run_dir=tmp_path / "run")
    assert report.out is None
    assert not (tmp_path / "mine.safetensors").exists()


def test_whole_files_are_held_back(sounds):
    clips = gather_clips(sounds, (), 0.2)
    assert sum(clip.split == "val" for clip in clips) == 2
    files = {split: {clip.path for clip in clips if clip.split == split} for split in ("train", "val")}
    assert not files["train"] & files["val"]
    assert clips == gather_clips(sounds, (), 0.2)


def test_broken_recordings_are_left_out_only_where_that_is_wanted(sounds, quick, base, tmp_path, caplog):
    (sounds / "kettle" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "street").mkdir()
    (tmp_path / "street" / "none.flac").write_bytes(b"fLaC")
    with pytest.raises(DataError, match=r"broken\.wav"):
        gather_clips(sounds, (), 0.2)
    config = replace(quick, steps=1, skip_broken=True)
    report = finetune(sounds, base, noise=[tmp_path / "street"], config=config, run_dir=tmp_path / "run")
    assert report.steps == 1
    assert "left out" in caplog.text


def test_noise_may_be_a_folder_of_files_or_folders_with_names(sounds, tmp_path):
    clips = gather_clips(sounds, (sounds / "kettle", sounds), 0.2)
    unnamed = [clip for clip in clips if clip.id.startswith("noise0/")]
    assert {clip.label for clip in unnamed} == {"background noise"}
    assert {clip.label for clip in clips if clip.id.startswith("noise1/")} == {"kettle", "tin whistle"}
    assert {clip.family for clip in clips if clip.id.startswith("noise")} == {"noise"}
    assert len({clip.id for clip in clips}) == len(clips) == 25


def test_the_end_of_an_only_recording_is_held_back():
    long = Clip(id="a", path="a.wav", label="a", start=1.0, seconds=20.0)
    train, val = hold_back([long], 0.25)
    assert (train.start, train.seconds, train.split) == (1.0, 15.0, "train")
    assert (val.start, val.seconds, val.split) == (16.0, 5.0, "val")
    (only,) = hold_back([replace(long, seconds=5.0)], 0.25)
    assert only.split == "train"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_something_of_every_sound_is_trained_on(count):
    clips = [Clip(f"{n}", f"{n}.wav", "cat", seconds=5.0) for n in range(count)]
    splits = [clip.split for clip in hold_back(clips, 0.9)]
    assert splits.count("train") == 1


def test_songs_may_be_queried_for_whole_stems(sounds, quick, base, tmp_path):
    stems = {"kettle": "drums", "tin whistle": "vocals"}
    clips = [replace(clip, stem=stems[clip.label], song=Path(clip.path).stem) for clip in gather_clips(sounds, (), 0.2)]
    write_manifest(tmp_path / "songs.jsonl", clips)
    sampling = replace(quick.options.sampling, songs=0.5, mixed_songs=0.5, stem_captions=1.0)
    config = replace(quick, steps=2, options=replace(quick.options, sampling=sampling))
    report = finetune(tmp_path / "songs.jsonl", base, tmp_path / "out", config=config, run_dir=tmp_path / "run")
    assert report.steps == 2


def test_too_few_recordings_are_refused_with_what_to_add(sounds, base, tmp_path):
    for file in (sounds / "tin_whistle").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="--noise"):
        gather_clips(sounds, (), 0.2)
    with pytest.raises(DataError, match="there is no folder"):
        finetune(tmp_path / "nothing", base, run_dir=tmp_path / "run")
    (tmp_path / "one.wav").touch()
    with pytest.raises(DataError, match=r"one\.wav is a file: name the folder"):
        finetune(tmp_path / "one.wav", base, run_dir=tmp_path / "run")
    with pytest.raises(ModelError):
        finetune(sounds, tmp_path / "no model", run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="held_back"):
        FinetuneConfig(held_back=1.5)


def test_sources_are_limited_to_the_lowest_bandwidth():
    sources = torch.randn(2, 3, 8000, generator=torch.Generator().manual_seed(0))
    result = band_limited(sources, torch.tensor([4000.0, 8000.0]), RATE)
    spectrum = torch.fft.rfft(result).abs()
    assert spectrum[0, :, 2100:].max() < 1e-3
    assert torch.equal(result[1], sources[1])


def test_a_run_goes_on_with_its_own_recordings_only(sounds, quick, base, tmp_path):
    config = replace(quick, steps=1)
    finetune(sounds, base, tmp_path / "a.safetensors", config=config, run_dir=tmp_path / "run")
    (sounds / "kettle/0.wav").rename(sounds / "kettle/more.wav")
    with pytest.raises(ConfigError, match=r"run on other recordings.*--run"):
        finetune(sounds, base, tmp_path / "a.safetensors", config=config, run_dir=tmp_path / "run")


def test_a_run_goes_on_from_its_own_base_only(sounds, quick, base, tmp_path):
    config = replace(quick, steps=1)
    finetune(sounds, base, tmp_path / "a.safetensors", config=config, run_dir=tmp_path / "run")
    model, facts = load_model(base)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    other = save_model(tmp_path / "other", model, query=facts["query"])
    with pytest.raises(ConfigError, match=r"run from the weights of another model.*--run"):
        finetune(sounds, other, tmp_path / "a.safetensors", config=config, run_dir=tmp_path / "run")
    wide = replace(config, adapter=AdapterConfig(rank=64))
    with pytest.raises(ConfigError, match="holds another model") as caught:
        finetune(sounds, base, tmp_path / "a.safetensors", config=wide, run_dir=tmp_path / "run")
    assert len(str(caught.value)) < 600 + len(str(tmp_path)) * 2
    with pytest.raises(ConfigError, match="holds another model") as caught:
        finetune(sounds, base, tmp_path / "whole", config=replace(config, full=True), run_dir=tmp_path / "run")
    assert len(str(caught.value)) < 600 + len(str(tmp_path)) * 2


def test_known_sounds_are_read_before_the_training(sounds, quick, base, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        finetune(sounds, base, known=tmp_path / "nowhere", config=quick, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_is_said_before_recordings_are_read(quick, base, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install wandb"):
        finetune(tmp_path / "nowhere", base, config=replace(quick, trackers=("wandb",)), run_dir=tmp_path / "run")


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "fp8"}])
def test_unknown_devices_and_precisions_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: .* is not one of"):
        FinetuneConfig(**wrong)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--full", "--rank", "4"], "--rank is the size of an adapter"), (["--device", "gpu"], "none of auto, cpu, cuda")],
)
def test_options_that_do_nothing_are_refused(sounds, run, arguments, says):
    code, _, err = run("finetune", sounds, *arguments)
    assert (code, says in err) == (2, True), err


@pytest.mark.parametrize(
    "wrong",
    [{"steps": -3}, {"minutes": 0.0}, {"minutes": float("inf")}, {"learning_rate": -1.0}, {"learning_rate": 0.0}],
)
def test_impossible_numbers_are_refused_before_recordings_are_read(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} must be a number greater than 0"):
        FinetuneConfig(**wrong)


def test_losses_on_band_energies_are_refused(sounds, quick, base, tmp_path):
    options = replace(quick.options, losses=({"name": "band_snr"},))
    with pytest.raises(ConfigError, match="'band_snr' is not one of huber, l1"):
        finetune(sounds, base, config=replace(quick, options=options), run_dir=tmp_path / "run")


def test_adapter_rank_is_checked_before_training():
    with pytest.raises(ConfigError, match="rank"):
        AdapterConfig(rank=0)


def test_the_example_makes_folders_of_sounds(sounds, tmp_path):
    spec = importlib.util.spec_from_file_location("example", Path(__file__).parents[1] / "examples/finetune.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.from_examples(tmp_path / "a")
    assert {clip.label for clip in gather_clips(tmp_path / "a", (), 0.2)} == set(example.RECORDINGS)
    write_manifest(tmp_path / "manifest.jsonl", gather_clips(sounds, (), 0.2))
    example.from_manifest(tmp_path / "b", tmp_path / "manifest.jsonl", tmp_path / "cache", ["kettle"])
    files = sorted((tmp_path / "b").rglob("*.flac"))
    assert len(files) == 5
    assert soundfile.info(files[0]).duration == pytest.approx(2.5, abs=1e-3)
    noise, known = example.companions(tmp_path / "c", tmp_path / "manifest.jsonl", ["kettle"])
    assert {clip.label for clip in read_manifest(known)} == {"tin whistle"}
    assert read_manifest(noise) == []


def test_a_recording_of_two_sounds_stays_in_one_split():
    both = [Clip(f"day/{label}", "day.wav", label, group="day", seconds=10.0) for label in ("kettle", "cat")]
    others = [
        Clip(f"{label}{i}", f"{label}{i}.wav", label, seconds=5.0) for label in ("kettle", "cat") for i in range(3)
    ]
    for name in ("day", "night", "noon", "dusk"):
        clips = hold_back([replace(clip, group=name if clip.group else "") for clip in both + others], 0.25)
        assert len({clip.split for clip in clips if clip.group}) == 1
        for label in ("kettle", "cat"):
            assert {clip.split for clip in clips if clip.label == label} == {"train", "val"}


def test_the_beginning_of_an_only_recording_is_trained_on_for_all_its_sounds():
    shared = [Clip(f"day/{label}", "day.wav", label, group="day", seconds=20.0) for label in ("kettle", "cat")]
    clips = hold_back([*shared, *(Clip(f"cat{i}", f"cat{i}.wav", "cat", seconds=5.0) for i in range(3))], 0.25)
    assert sorted((clip.label, clip.split) for clip in clips if clip.group) == [
        ("cat", "train"), ("cat", "val"), ("kettle", "train"), ("kettle", "val")
    ]  # fmt: skip


def test_sounds_that_cannot_be_mixed_are_named_before_the_training(base, quick, tmp_path):
    for label in ("garden bell", "church bell"):
        for number in range(4):
            corpora.write(tmp_path / f"bells/{label}/{number}.wav", corpora.wave(number, 3.0, corpora.RATE))
    with pytest.raises(DataError, match="no mixture of held-back recordings can be asked for church bell or garden"):
        finetune(tmp_path / "bells", base, tmp_path / "out", config=quick, run_dir=tmp_path / "run")
