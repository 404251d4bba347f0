"""The tasks of the listener and the separator, on a small corpus of real files."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from corpora import make_clips
from safetensors.torch import save
from test_hybrid import SMALL, SMALL_LISTENER
from test_trainer import in_two_processes, process

from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, write_manifest
from audiosep.data.queries import query_texts
from audiosep.data.recipe_drawing import draw_recipe
from audiosep.data.validation_recipe import ValidationRecipe
from audiosep.errors import ConfigError, DataError, ModelError
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import Listener
from audiosep.models.mobilenet import MobileNetConfig, MobileNetTower
from audiosep.models.stft import power, stft
from audiosep.query.prototypes import Prototypes, Recordings
from audiosep.training.caption_table import CaptionTable, normalise_caption
from audiosep.training.engine import distributed
from audiosep.training.engine.run_log import read_log, without_labels
from audiosep.training.engine.step_memory import step_memory
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.separation.band_energies import band_energies
from audiosep.training.separation.losses import squared_error
from audiosep.training.separation.separation_task import SeparationTask
from audiosep.training.separation.validation_scores import summary
from audiosep.training.tower_files import export_listener, load_listener
from audiosep.training.towers.audio_distillation import AudioDistillation
from audiosep.training.towers.training_clips import estimated_masks
from audiosep.weights import configs
from audiosep.weights.checkpoint import load_model, load_state
from research.tower_accuracy import compare, read_listener

RATE = 32000
TAGS = ["dog", "rain", "clock", "explosion", "speech"]


class HashedText:
    """A text encoder without meaning: each text its own direction."""

    def text(self, texts: list[str]) -> torch.Tensor:
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            rows.append(torch.randn(16, generator=torch.Generator().manual_seed(seed)))
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


class Part(torch.nn.Module):
    """Features of every moment, and the tagger's last layers, under the names that the real one gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 384, 16, stride=16), torch.nn.ReLU())
        self.classifier = torch.nn.Sequential(torch.nn.Linear(384, 512), torch.nn.Linear(512, len(TAGS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.features(x).mean((2, 3))
        return pooled


class TinyTagger(torch.nn.Module):
    """A random network over mel-like bands, as TorchScript like the real one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.m = Part()
        self.register_buffer("pre", torch.tensor([[[-0.97, 1.0]]]))
        self.register_buffer("win", torch.hann_window(800))
        self.register_buffer("basis", torch.rand(32, 513) / 513)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def divided(clips: list[Clip]) -> list[Clip]:
    """The third take of everything held back, explosions never trained on."""
    out = []
    for clip in clips:
        held = "-2." in clip.id or clip.song == "song1"
        split = "zero" if clip.label == "explosion" else "val" if held else "train"
        out.append(dataclasses.replace(clip, split=split))
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tasks")
    clips = divided(make_clips(folder))
    write_manifest(folder / "manifest.jsonl", clips)
    Corpus(folder / "manifest.jsonl", folder / "cache", RATE)
    CaptionTable.build(query_texts(clips) | set(TAGS), HashedText()).save(folder / "captions.safetensors")
    (folder / "labels.json").write_text(json.dumps(TAGS))
    torch.jit.script(TinyTagger()).save(str(folder / "tagger.pt"))
    return {
        "manifest": str(folder / "manifest.jsonl"),
        "cache": str(folder / "cache"),
        "captions": str(folder / "captions.safetensors"),
    }


SAMPLING = {"mixtures": 3, "seconds": 1.0, "songs": 0.5, "absent": 0.5, "negatives": 0.5}


def separation_task(
    data: dict[str, Any], sampling: dict[str, Any] | None = None, shape: HybridConfig = SMALL, **options: Any
) -> SeparationTask:
    torch.manual_seed(0)
    return SeparationTask.from_config(
        {
            "data": data,
            "model": configs.to_dict(shape),
            "options": {"audio": 0.3, "mixed": 0.3} | options,
            "sampling": SAMPLING | (sampling or {}),
        }
    )


@pytest.fixture
def separation(data: dict[str, str]) -> SeparationTask:
    return separation_task(data)


@pytest.fixture(scope="module")
def recipe(data: dict[str, str]) -> str:
    """A validation recipe of the small corpus."""
    path = Path(data["manifest"]).with_name("recipe.json")
    draw_recipe(Corpus(data["manifest"], data["cache"], RATE)).save(path)
    return str(path)


def test_caption_table_is_saved_and_names_a_missing_caption(tmp_path: Path) -> None:
    table = CaptionTable.build(["A  Dog", "a dog", "rain", "\u00e9t\u00e9", "e\u0301te\u0301"], HashedText())
    assert table.captions == ["a dog", "rain", "\u00e9t\u00e9"]  # with combining accents it is the same text
    table.save(tmp_path / "table.safetensors")
    again = CaptionTable.load(tmp_path / "table.safetensors")
    assert torch.allclose(again[["Rain", "a dog"]], table[["rain", "a dog"]], atol=1e-3)
    with pytest.raises(DataError, match=r"'cat': build the caption table again"):
        again[["cat"]]


def test_separation_batches_are_a_function_of_the_step(separation: SeparationTask) -> None:
    a, b, c = (separation.batch(step, 0, 1) for step in (4, 4, 5))
    assert torch.equal(a.mixtures.sources, b.mixtures.sources)
    assert torch.equal(a.text, b.text)
    assert torch.equal(a.kind, b.kind)
    assert a.text.shape != c.text.shape or not torch.equal(a.text, c.text)


def test_rendered_mixtures_are_used_again_at_other_levels(data: dict[str, str]) -> None:
    plain, again = separation_task(data), separation_task(data, reuse=2, reuse_db=3.0)
    for step in (0, 2):
        first, second, other = again.batch(step, 0, 1), again.batch(step + 1, 0, 1), plain.batch(step // 2, 0, 1)
        assert torch.equal(first.mixtures.sources, other.mixtures.sources)
        assert second.mixtures.sources is first.mixtures.sources
        assert first.leveled() is first.mixtures
        moved, kept = second.to(torch.device("cpu")).leveled().sources, first.mixtures.sources
        gains = 20 * torch.log10(moved.norm(dim=-1) / kept.norm(dim=-1))[kept.norm(dim=-1) > 0]
        assert gains.abs().max() <= 3.0 + 1e-3
        assert gains.std() > 0.5
    assert torch.isfinite(again.loss(again.model, again.batch(1, 0, 1))[0])


def test_batches_of_few_sizes_for_a_gpu(data: dict[str, str]) -> None:
    plain, cut = separation_task(data), separation_task(data, multiple=4)
    sizes = set()
    for step in range(12):
        whole, batch = plain.batch(step, 0, 1).mixtures, cut.batch(step, 0, 1).mixtures
        count = len(batch.owner)
        sizes.add(count)
        assert count == (len(whole.owner) // 4 * 4 or len(whole.owner))
        assert torch.equal(batch.membership, whole.membership[:count])
        assert batch.captions == whole.captions[:count]
        if batch.example_of is not None:
            assert int(batch.example_of.max()) < count
            assert batch.examples is not None
            assert len(batch.examples) == len(batch.example_of)
        elif whole.example_of is not None:
            assert int(whole.example_of.min()) >= count
    assert any(size % 4 == 0 for size in sizes)


def test_recordings_of_queries_are_padded_without_changing_their_embeddings(data: dict[str, str]) -> None:
    task = separation_task(data, shape=dataclasses.replace(SMALL, listener=SMALL_LISTENER), audio=1.0, mixed=0.0)
    assert task.query_listener is not None
    task.query_listener.eval()
    batch = task.batch(0, 0, 1)
    examples = torch.randn(len(batch.text), RATE)
    given: list[int] = []
    handle = task.query_listener.norm.register_forward_hook(lambda _, inputs, out: given.append(len(out)))
    padded = batch.embeddings(task.query_listener, examples, 32)
    handle.remove()
    assert given == [8]
    torch.testing.assert_close(padded, batch.embeddings(task.query_listener, examples))


def test_kinds_of_queries_have_their_shares(separation: SeparationTask) -> None:
    batches = [separation.batch(step, 0, 1) for step in range(60)]
    kinds = torch.cat([batch.kind for batch in batches])
    there = torch.cat([batch.mixtures.membership.sum(1) > 0 for batch in batches])
    example = torch.zeros(len(kinds), dtype=torch.bool)
    first = 0
    for batch in batches:
        if batch.mixtures.example_of is not None:
            example[first + batch.mixtures.example_of] = True
        first += len(batch.kind)
    shares = [float((kinds[there] == kind).float().mean()) for kind in range(3)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.08)
    assert (kinds[~there & ~example] == 0).all()  # an absent sound has no recording in the mixture
    assert (kinds[~there & example] > 0).any()


def test_words_are_also_asked_as_their_prototypes_recall_them(data: dict[str, str], tmp_path: Path) -> None:
    sounds = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(3)), dim=-1)

    class Encoder(HashedText):
        name = "hashed"

        def audio(self, waveforms: list[torch.Tensor], sample_rate: int) -> torch.Tensor:
            return sounds[: len(waveforms)]

    prototypes = Prototypes.of(Recordings(("dog", "rain"), sounds), Encoder())
    prototypes.save(tmp_path / "prototypes.safetensors")
    file = str(tmp_path / "prototypes.safetensors")
    always, half, never = (separation_task(data, prototypes=file, recalled=share, noise=0.0) for share in (1, 0.5, 0))
    recalled = words = 0
    for step in range(40):
        batch = always.batch(step, 0, 1)
        expected = F.normalize(always.captions[batch.mixtures.captions], dim=-1)
        torch.testing.assert_close(never.batch(step, 0, 1).text, expected)
        again = Prototypes.load(file)
        torch.testing.assert_close(batch.text, torch.stack([again.recall(text).query for text in expected]))
        moved = (half.batch(step, 0, 1).text - expected).norm(dim=-1) > 1e-3
        known = (batch.text - expected).norm(dim=-1) > 1e-3
        assert not moved[~known].any()
        recalled, words = recalled + int(moved.sum()), words + int((known & ~moved).sum())
    assert recalled > 5
    assert words > 5
    with pytest.raises(ConfigError, match=r"options\.recalled is a share"):
        separation_task(data, prototypes=file, recalled=1.5)


def test_band_energies_give_the_error_of_the_masked_spectrum(separation: SeparationTask) -> None:
    """m^2 A - 2 m B + C against |m X - T|^2 summed over the bins, for masks that are constant over the bins."""
    model, batch = separation.model, separation.batch(0, 0, 1)
    mix = batch.mixtures.sources.sum(1)
    target = batch.mixtures.sources[:, 0]
    X, T = (stft(x[:, None], model.config.n_fft, model.hop) for x in (mix, target))
    energies = band_energies(model, X, target[:, None], torch.arange(len(mix)))
    mask = torch.full_like(energies.mixture, 0.7)
    error = squared_error(mask, energies.mixture, energies.cross, energies.target)
    assert torch.allclose(error, power(0.7 * X - T * (X != 0)).sum((1, 2, 3)), rtol=1e-3)


def test_separation_trains_every_part_but_the_listener(separation: SeparationTask) -> None:
    separation.train_mode(separation.model)
    missing = {n for n, p in separation.model.named_parameters() if p.requires_grad}
    for step in range(4):
        loss, parts = separation.loss(separation.model, separation.batch(step, 0, 1))
        assert torch.isfinite(loss)
        assert {"query", "sdri", "presence", "items"} <= set(parts)
        loss.backward()
        missing -= {n for n, p in separation.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {n for n in missing if not n.endswith("bias")}
    assert not any(p.requires_grad for p in separation.model.listener.parameters())
    assert not separation.model.listener.training


def test_refinements_take_turns_and_the_runs_before_the_last_are_computed_as_at_inference(data: dict[str, str]) -> None:
    shape = dataclasses.replace(SMALL, relisten=True, refinements=1)
    task = separation_task(data, shape=shape)
    assert [task.batch(step, 0, 1).to(torch.device("cpu")).refinements for step in range(4)] == [0, 1, 0, 1]
    task.train_mode(task.model)
    missing = {n for n, p in task.model.named_parameters() if p.requires_grad and not n.endswith("bias")}
    counted = task.model.norms[-1].num_batches_tracked
    for step in range(4):
        task.model.zero_grad()
        seen = int(counted)
        loss, parts = task.loss(task.model, task.batch(step, 0, 1))
        assert ("sdri_refined" in parts) == (step % 2 == 1)
        assert int(counted) == seen + 1
        assert task.model.training
        assert not task.model.listener.training
        loss.backward()
        if step % 2:
            missing -= {n for n, p in task.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not missing
    with pytest.raises(ConfigError, match=r"options\.presence"):
        separation_task(data, shape=shape, presence=0.0)
    with pytest.raises(ConfigError, match=r"model\.relisten"):
        separation_task(data, shape=shape, listener="mini", train_listener=True)


def test_the_separators_listener_is_trained_and_the_one_for_audio_queries_is_not(
    data: dict[str, str], tmp_path: Path
) -> None:
    listener = Listener(SMALL_LISTENER)
    torch.nn.init.normal_(listener.joint.bias)
    export_listener(listener, tmp_path)
    shape = dataclasses.replace(SMALL, tags=True)
    options = {
        "listener": str(tmp_path),
        "train_listener": True,
        "labels": str(Path(data["captions"]).with_name("labels.json")),
    }
    task = separation_task(data, shape=shape, **options)
    assert torch.equal(task.model.attention.names, task.captions[TAGS])
    task.train_mode(task.model)
    optimizer = torch.optim.SGD(task.model.parameters(), 0.1)
    loss, _ = task.loss(task.model, task.batch(0, 0, 1))
    loss.backward()
    optimizer.step()
    moved = task.model.listener.state_dict()
    assert not torch.equal(moved["tags.weight"], listener.tags.weight)
    assert not torch.equal(moved["blocks.0.conv1.weight"], listener.blocks[0].conv1.weight)
    assert task.query_listener is not None
    assert all(
        torch.equal(value, listener.state_dict()[name]) for name, value in task.query_listener.state_dict().items()
    )
    assert not task.model.listener.training


def test_separation_run_exports_a_model_that_loads(separation: SeparationTask, tmp_path: Path) -> None:
    config = TrainerConfig(steps=2, precision="fp32", device="cpu", warmup=1)
    assert Trainer(separation, config, tmp_path / "run").fit().step == 2
    model, described = load_model(tmp_path / "run/model")
    assert isinstance(model, Hybrid)
    assert described["query"] is None


def test_stereo_mixtures_train_one_mask_for_both_channels(data: dict[str, str]) -> None:
    task, mono = separation_task(data, {"channels": 2}), separation_task(data)
    batch, flat = task.batch(0, 0, 1), mono.batch(0, 0, 1)
    assert batch.mixtures.sources.shape[2] == 2
    loss, parts = task.loss(task.model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert {"query", "presence"} <= set(parts)
    # The same sound in both channels is the same task as that sound alone.
    twice = dataclasses.replace(
        flat,
        mixtures=dataclasses.replace(flat.mixtures, sources=flat.mixtures.sources[:, :, None].expand(-1, -1, 2, -1)),
    )
    mono.model.eval()
    with torch.no_grad():
        one, two = (float(mono.loss(mono.model, batch)[0]) for batch in (flat, twice))
    assert one == pytest.approx(two, abs=1e-4)


def test_steps_on_stereo_songs_lower_the_loss(data: dict[str, str]) -> None:
    task = separation_task(data, {"channels": 2, "songs": 0.9}, presence=0.0)
    optimizer = torch.optim.AdamW(task.model.parameters(), 3e-3)
    batch, values = task.batch(1, 0, 1), []
    for _ in range(8):
        loss, parts = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert "stems" in parts
    assert values[-1] < values[0] - 0.02


def test_worker_processes_render_the_same_mixtures(data: dict[str, str], separation: SeparationTask) -> None:
    task = separation_task(data | {"workers": 1})
    for step in (2, 3):
        here, there = separation.batch(step, 0, 1), task.batch(step, 0, 1)
        assert torch.allclose(here.mixtures.sources, there.mixtures.sources, rtol=1e-3, atol=1e-5)
        assert torch.equal(here.text, there.text)
    task.mixtures.close()


def test_impossible_options_are_refused(data: dict[str, str]) -> None:
    for options, match in (
        ({"query_dropout": 1.5}, "options.query_dropout"),
        ({"audio": 0.7, "mixed": 0.4}, "audio"),
        ({"stems": -1.0}, "options.stems"),
        ({"listener": "nowhere"}, "no model and no folder 'nowhere'"),
    ):
        with pytest.raises((ConfigError, ModelError), match=match):
            separation_task(data, **options)
    with pytest.raises(ConfigError, match=r"options\.batch_reuse"):
        listener_task(data, batch_reuse=0)
    with pytest.raises(ConfigError, match=r"set sampling\.longer to 0 or options\.batch_reuse to 1"):
        AudioDistillation.from_config(
            {"data": data, "options": {"tagger": "", "labels": "", "batch_reuse": 2}, "sampling": {"longer": 0.5}}
        )
    with pytest.raises(ConfigError, match="takes mono"):
        AudioDistillation.from_config(
            {"data": data, "options": {"tagger": "", "labels": ""}, "sampling": {"channels": 2}}
        )
    without = dataclasses.replace(SMALL, listener=None)
    for options in ({"listener": "mini"}, {"text": "mini"}):
        with pytest.raises(ConfigError, match=r"set model\.listener"):
            separation_task(data, shape=without, **options)
    with pytest.raises(ConfigError, match=r"set options\.listener"):
        separation_task(data, train_listener=True)
    with pytest.raises(ConfigError, match=r"options\.labels"):
        separation_task(data, shape=dataclasses.replace(SMALL, tags=True))


@torch.no_grad()
def test_validation_is_shared_by_processes_and_summed_up_by_group_family_and_label(
    data: dict[str, str], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = separation_task(data, validation=recipe, validation_items=12)
    whole = task.validate(task.model.eval())
    assert {"val/si_sdri", "val/presence_auc", "val/c/level_db", "val/e/sdri", "val/speech/better"} <= set(whole)
    labels = {name for name in whole if name.startswith("val/label/")}
    assert len(labels) >= 6
    assert set(without_labels(whole)) == set(whole) - labels
    # Two processes: each measures half, both report the whole.
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts: list[list[Any]] = []
    monkeypatch.setattr(distributed, "gather", lambda rows: parts.append(rows) or rows)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        task.validate(task.model)
    rows = [row for pair in itertools.zip_longest(*parts) for row in pair if row is not None]
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    assert summary(rows) == whole
    bare = separation_task(data, shape=dataclasses.replace(SMALL, stems=()), validation=recipe)
    found = bare.validate(bare.model.eval())
    assert "val/e/si_sdri" not in found


def test_a_recipe_that_cannot_be_measured_is_refused_before_the_training(
    data: dict[str, str], recipe: str, tmp_path: Path
) -> None:
    whole, path = ValidationRecipe.load(recipe), tmp_path / "recipe.json"

    def refused(kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            separation_task(data, validation=str(path))

    refused(DataError, "there is no file")
    path.write_text("{")
    refused(DataError, "is not JSON")
    path.write_text('{"entries": 3}')
    refused(ConfigError, "entries")
    others = [entry for entry in whole.entries if entry.group == "d"]
    assert others
    dataclasses.replace(whole, entries=tuple(others)).save(path)
    refused(ConfigError, r"options\.validation: .* has no mixtures for queries")
    first = whole.entries[0]
    dataclasses.replace(whole, entries=(dataclasses.replace(first, query="a sound of no caption"),)).save(path)
    refused(DataError, "a sound of no caption")
    unknown = dataclasses.replace(first.sources[0], clip="nowhere")
    dataclasses.replace(whole, entries=(dataclasses.replace(first, sources=(unknown,)),)).save(path)
    refused(DataError, "no clip 'nowhere'")


def test_captions_and_labels_that_cannot_be_read_are_named(data: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "captions.safetensors"
    for content in (None, b"no safetensors", save({"embeddings": torch.zeros(1, 4)})):
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(DataError, match=r"captions\.safetensors holds no .*audiosep data captions"):
            separation_task(data | {"captions": str(wrong)})
    with pytest.raises(DataError, match=r"there is no file .*labels\.json"):
        separation_task(data, shape=dataclasses.replace(SMALL, tags=True), labels=str(tmp_path / "labels.json"))


def test_trackers_get_sounds_and_spectrograms_of_held_back_mixtures(data: dict[str, str], recipe: str) -> None:
    task = separation_task(data, validation=recipe)
    samples = task.samples(task.model.eval())
    assert [sample.name.rpartition("/")[2] for sample in samples] == 3 * ["mixture", "target", "estimate"]
    assert all(sample.audio.shape == (1, 5 * RATE) and sample.image is not None for sample in samples)
    assert separation_task(data).samples(task.model) == []


def test_a_frozen_listener_takes_no_memory_for_gradients_and_moments(separation: SeparationTask) -> None:
    frozen = sum(p.numel() for p in separation.model.listener.parameters())
    everything = sum(p.numel() for p in separation.model.parameters())
    memory = step_memory(separation, TrainerConfig(steps=1, precision="fp32", device="cpu"))
    assert memory.parameters == everything - frozen
    assert memory.state == 4 * (5 * memory.parameters + 2 * frozen)


def _separates(rank: int, port: int, data: dict[str, Any], recipe: str, folder: Path) -> None:
    process(rank, port)
    task = separation_task(data, validation=recipe, validation_items=12)
    config = TrainerConfig(steps=4, warmup=1, precision="fp32", device="cpu", log_every=1)
    result = Trainer(task, config, folder).fit()
    torch.save((result.metrics, task.model.state_dict()), folder / f"rank{rank}.pt")


@pytest.mark.slow
def test_two_processes_train_one_separator(data: dict[str, str], recipe: str, tmp_path: Path) -> None:
    in_two_processes(_separates, data, recipe, tmp_path)
    (first, one), (second, other) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert first == second
    assert all(torch.equal(one[key], other[key]) for key in one if "running" not in key)
    whole = separation_task(data, validation=recipe, validation_items=12)
    whole.model.load_state_dict(load_state(tmp_path / "checkpoints/step-00000004/ema.safetensors"))
    with torch.no_grad():
        alone = whole.validate(whole.model.eval())
    assert 0 <= first.pop("val/dead_channels") < 0.5  # the trainer counts those, over both processes
    assert alone == pytest.approx(first, abs=1e-3)  # dB; one process or two, a sum is a sum but not bit by bit


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_renders_mixtures_trains_and_validates(
    data: dict[str, Any], recipe: str, workers: int, tmp_path: Path
) -> None:
    task, same = (separation_task(data | {"workers": workers}, validation=recipe) for _ in range(2))
    config = TrainerConfig(steps=6, warmup=1, accumulation=2, precision="fp32", device="cuda", log_every=1)
    result = Trainer(task, config, tmp_path / "run").fit()
    assert (task.corpus.device.type == "cuda") == (workers == 0)
    assert "val/si_sdri" in result.metrics
    Trainer(same, dataclasses.replace(config, device="cpu"), tmp_path / "cpu").fit()
    first, second = (read_log(tmp_path / run / "log.jsonl")[1]["loss"] for run in ("run", "cpu"))
    assert first == pytest.approx(second, abs=1e-2)


def listener_task(data: dict[str, str], model: dict[str, Any] | None = None, **options: Any) -> AudioDistillation:
    folder = Path(data["manifest"]).parent
    torch.manual_seed(0)
    return AudioDistillation.from_config(
        {
            "data": data,
            "model": model or configs.to_dict(SMALL_LISTENER),
            "options": {"tagger": str(folder / "tagger.pt"), "labels": str(folder / "labels.json")} | options,
            "sampling": SAMPLING | {"absent": 0.0},
        }
    )


def test_listener_task_learns_and_exports_what_a_separator_takes(
    data: dict[str, str], separation: SeparationTask, tmp_path: Path
) -> None:
    task = listener_task(data)
    config = TrainerConfig(steps=12, precision="fp32", device="cpu", warmup=1, learning_rate=5e-3, log_every=1)
    result = Trainer(task, config, tmp_path / "run").fit()
    assert {"val/top1", "val/teacher_top1", "zero/ratio"} <= set(result.metrics)
    losses = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    values = [row["loss"] for row in losses if "loss" in row]
    assert sum(values[-3:]) < sum(values[:3])
    load_listener(separation.model.listener, tmp_path / "run/model")
    state = load_state(tmp_path / "run/model/listener.safetensors")
    assert torch.equal(separation.model.listener.joint.weight, state["joint.weight"])
    with pytest.raises(ConfigError, match="another configuration"):
        load_listener(Listener(dataclasses.replace(SMALL_LISTENER, hidden=32)), tmp_path / "run/model")
    with pytest.raises(ModelError, match="shape"):
        load_listener(
            Listener(dataclasses.replace(SMALL_LISTENER, hidden=32)), tmp_path / "run/model/listener.safetensors"
        )


def test_a_listener_and_the_tagger_are_compared_on_the_same_clips(data: dict[str, str], tmp_path: Path) -> None:
    class Sure:
        """Gives the first tag to everything."""

        def __call__(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            return torch.tensor([[100.0] + [0.0] * (len(TAGS) - 1)]).expand(len(waveforms), -1), None, None

    corpus = Corpus(data["manifest"], data["cache"], 32000)
    export_listener(Listener(SMALL_LISTENER), tmp_path)
    listener = read_listener(tmp_path)
    found = compare(listener, HashedText(), corpus, Sure(), TAGS)  # type: ignore[arg-type]
    for split in ("val", "zero"):
        own = [normalise_caption(clip.label) for clip in corpus.clips if clip.split == split]
        texts = HashedText().text(sorted(set(own)))
        nearest = sorted(set(own))[int((texts @ HashedText().text(TAGS).T / 0.06).softmax(-1)[:, 0].argmax())]
        assert found[f"{split}/tagger"] == pytest.approx(own.count(nearest) / len(own))
        assert found[f"{split}/ratio"] == pytest.approx(found[f"{split}/tags"] / max(found[f"{split}/tagger"], 1e-9))
        names = ("embeddings", "tags", "tags/standardised", "first_tag")
        assert all(0 <= found[f"{split}/{name}"] <= 1 for name in names)


def test_a_tower_of_mobilenet_shape_goes_on_from_given_weights(
    data: dict[str, str], separation: SeparationTask, tmp_path: Path
) -> None:
    shape = MobileNetConfig(mels=32, width=0.1, stride=(16, 16), detail=8, dimension=16, tags=len(TAGS))
    torch.manual_seed(1)
    export_listener(start := MobileNetTower(shape), tmp_path)
    model = configs.to_dict(shape)
    task = listener_task(data, model, listener=str(tmp_path), masked=0.7, same=0.5)
    assert torch.equal(task.model.listener.joint[0].weight, start.joint[0].weight)
    frozen = listener_task(data, model, listener=str(tmp_path), freeze_norms=True)
    frozen.train_mode(frozen.model)
    loss, _ = frozen.loss(frozen.model, frozen.batch(0, 0, 1))
    loss.backward()
    assert torch.equal(frozen.model.listener.stem.norm.running_mean, start.stem.norm.running_mean)
    assert frozen.model.listener.stem.norm.weight.grad is not None
    with pytest.raises(ConfigError, match=r"options\.freeze_norms"):
        listener_task(data, model, freeze_norms=True)
    heads = listener_task(data, model, listener=str(tmp_path), heads_only=True)
    heads.train_mode(heads.model)
    heads.loss(heads.model, heads.batch(0, 0, 1))[0].backward()
    trained = {name for name, weight in heads.model.named_parameters() if weight.grad is not None}
    assert {name.split(".")[1] for name in trained} == {"joint", "fine"}
    assert torch.equal(heads.model.listener.stem.norm.running_mean, start.stem.norm.running_mean)
    with pytest.raises(ConfigError, match=r"options\.heads_only"):
        listener_task(data, model, heads_only=True)
    config = TrainerConfig(steps=6, precision="fp32", device="cpu", warmup=1, learning_rate=5e-3, log_every=1)
    result = Trainer(task, config, tmp_path / "run").fit()
    assert {"val/top1", "val/tags_top1", "val/teacher_top1", "zero/ratio"} <= set(result.metrics)
    load_listener(MobileNetTower(shape), tmp_path / "run/model")
    with pytest.raises(ConfigError, match="another configuration"):
        load_listener(separation.model.listener, tmp_path / "run/model")


def test_masked_sounds_are_those_of_the_masked_energies(data: dict[str, str]) -> None:
    """The tagger gets masked mixtures and residuals as waveforms, the listener their energies."""
    task, plain = listener_task(data, masked=0.6), listener_task(data)
    batch, without = task.batch(3, 0, 1), plain.batch(3, 0, 1)
    count = len(without.caption)
    added = len(batch.caption) - count
    assert added > 0
    assert torch.equal(batch.energies[:count], without.energies)
    estimates, residuals = batch.sound[count:].chunk(2)
    assert set(estimates.tolist()) <= set(batch.sound[:count].tolist())
    assert not set(residuals.tolist()) & set(batch.sound[: count + added // 2].tolist())
    assert (batch.caption[count + added // 2 :] == -1).all()
    mixtures = task.mixer.render(task.sampler.plan(3, 0))
    queries = torch.nonzero(mixtures.membership.sum(1) > 0)[:, 0]
    waveforms, energies = task._mask(mixtures, queries, torch.Generator().manual_seed(0))
    direct = task._energies(waveforms)
    loud = energies > 1e-3 * energies.amax((1, 2), keepdim=True)
    assert float((direct / energies)[loud].log10().abs().mean()) < 0.1
    mix = mixtures.sources.sum(1)[mixtures.owner[queries]]
    torch.testing.assert_close(sum(waveforms.chunk(2)), mix, rtol=1e-3, atol=1e-4)


def test_estimated_masks_follow_the_sound() -> None:
    target = torch.zeros(4, 24, 40)
    target[:, :12] = 1.0
    masks = estimated_masks(target, 1 - target, torch.Generator().manual_seed(0))
    assert ((masks >= 0) & (masks <= 1)).all()
    assert (masks[:, :12].mean((1, 2)) > masks[:, 12:].mean((1, 2)) + 0.3).all()


def test_the_contrast_of_a_sound_with_itself_behind_a_mask(data: dict[str, str]) -> None:
    task = listener_task(data, masked=1.0, same=1.0)
    joint = torch.nn.functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    unnamed, sound = torch.full((6,), -1), torch.tensor([0, 1, 2, 0, 1, 2])
    apart = task._same(joint, unnamed, sound)
    together = task._same(joint[:3].repeat(2, 1), unnamed, sound)
    assert float(together) < 0.1 < float(apart)
    assert float(task._same(joint, unnamed, torch.arange(6))) == 0
    named = torch.tensor([0, 0, -1, 0, 0, -1])  # two recordings of one name are no negatives of each other
    alone = task._same(joint[[0, 2, 3, 5]], unnamed[:4], torch.tensor([0, 1, 0, 1]))
    alike = task._same(joint, named, sound)
    assert float(alike) < float(apart)
    assert float(alone) > 0
    with pytest.raises(ConfigError, match=r"options\.same"):
        listener_task(data, same=1.0)
    with pytest.raises(ConfigError, match=r"options\.masked"):
        listener_task(data, masked=1.5)


def test_reused_clips_are_mixed_with_others_and_the_same_after_a_resume(data: dict[str, str]) -> None:
    task = listener_task(data, batch_reuse=4, cached_batches=3)
    batches = [task.batch(step, 0, 1) for step in range(24)]
    assert len(task._cache) <= 3
    again = listener_task(data, batch_reuse=4, cached_batches=3).batch(23, 0, 1)
    torch.testing.assert_close(again.energies, batches[23].energies)
    assert torch.equal(again.logits, batches[23].logits)
    assert not any(torch.equal(batches[23].logits, other.logits) for other in batches[:23])


def test_a_tagger_of_another_kind_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "other.pt"))
    with pytest.raises(ModelError, match=r"other\.pt is no mn04_as"):
        listener_task(data, tagger=str(tmp_path / "other.pt"))


def test_captions_of_other_splits_are_no_negatives(data: dict[str, str]) -> None:
    task = listener_task(data)
    captions = task.training_captions
    assert captions.index("blast") == -1
    assert captions.index("a dog barking") >= 0
    speech, man = (captions.index(text) for text in ("someone talking", "a man speaking"))
    assert captions.same_sound[man, speech]
    assert not captions.same_sound[man, captions.index("a dog barking")]
