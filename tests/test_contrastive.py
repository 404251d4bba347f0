"""Aligning listener and text tower: the loss, what may be a negative, hard negatives, the anchor, resume, exports."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpora import LABELS, make_clips, write
from test_hybrid import SMALL, SMALL_LISTENER
from test_tasks import SAMPLING, divided

import audiosep
from audiosep.cli import main
from audiosep.data.manifest import Clip, write_manifest
from audiosep.data.queries import Relation
from audiosep.errors import ConfigError, ModelError, QueryError
from audiosep.models.listener import Listener
from audiosep.models.text import TextTower, TextTowerConfig
from audiosep.query import load_encoder
from audiosep.query.tokenizer import train_word_pieces
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.run_log import read_log
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.separation.separation_task import SeparationTask
from audiosep.training.tower_files import (
    TextTowerEncoder,
    export_listener,
    export_text_tower,
    load_listener,
    read_text_tower,
)
from audiosep.training.towers.contrastive import Contrastive
from audiosep.training.towers.info_nce import info_nce
from audiosep.weights import configs
from audiosep.weights.checkpoint import load_state
from audiosep.weights.model_config import read_config
from research.assemble import assemble

SHAPE = dataclasses.replace(SMALL_LISTENER, dimension=512)
UNSEEN = ["a violin", "train passing by", "wind", "crowd cheering loudly"]
CONFIG = TrainerConfig(
    steps=30, warmup=1, learning_rate=6e-3, weight_decay=0.0, precision="fp32", device="cpu", log_every=1, ema=0.5,
    monitor="val/top1",
)  # fmt: skip


def tuned(clips: list[Clip]) -> list[Clip]:
    """The same clips, but every label has a pitch of its own, so that there is something to learn."""
    labels = sorted({clip.label for clip in clips})
    for number, clip in enumerate(clips):
        time = np.arange(round(clip.seconds * clip.source_rate)) / clip.source_rate
        pitch = 300 * 1.2 ** labels.index(clip.label)
        pulse = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time + number)
        noise = np.random.default_rng(number).standard_normal(len(time))
        write(Path(clip.path), 0.2 * pulse * np.sin(2 * np.pi * pitch * time) + 0.002 * noise, clip.source_rate)
    return clips


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small corpus, and a text tower that was "trained" before."""
    folder = tmp_path_factory.mktemp("contrastive")
    write_manifest(folder / "manifest.jsonl", divided(tuned(make_clips(folder))))
    texts = [text for label, (_, captions) in LABELS.items() for text in (label, *captions)]
    tokenizer = train_word_pieces([*texts, *UNSEEN], [], 500, spelled=200)
    torch.manual_seed(1)
    shape = TextTowerConfig(tokenizer.get_vocab_size(), width=32, layers=1, heads=2, feedforward=32, hidden=32)
    tower = TextTower(shape)
    torch.nn.init.normal_(tower.head[2].weight, std=0.1)
    export_text_tower(tower, tokenizer, folder / "text")
    data = {"manifest": str(folder / "manifest.jsonl"), "cache": str(folder / "cache")}
    return data | {"text": str(folder / "text")}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing curves takes longer than these runs."""
    monkeypatch.setattr("audiosep.training.engine.trainer.draw_curves", lambda log, picture: False)


def make(places: dict[str, str], **options: Any) -> Contrastive:
    torch.manual_seed(0)
    return Contrastive.from_config(
        {
            "data": {key: places[key] for key in ("manifest", "cache")},
            "model": configs.to_dict(SHAPE),
            "options": {"text": places["text"], "phrases": 32} | options,
            "sampling": SAMPLING | {"mixtures": 6, "augment": {"speed": 0.0, "tempo": 0.0, "pitch": 0.0}},
        }
    )


def test_info_nce_with_one_positive_each_is_cross_entropy_and_more_positives_help() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) * 3
    own = torch.eye(5, dtype=torch.bool)
    for dim, seen in ((1, logits), (0, logits.T)):
        torch.testing.assert_close(info_nce(logits, own, dim), F.cross_entropy(seen, torch.arange(5)))
    more = own.clone()
    more[0, 1] = True
    assert info_nce(logits, more, 1) < info_nce(logits, own, 1)


@pytest.mark.parametrize("trained", [False, True])
def test_learning_aligns_the_towers(places: dict[str, str], trained: bool, mini_folder: Path, tmp_path: Path) -> None:
    task = make(places, train_text=trained)
    result = Trainer(task, CONFIG, tmp_path / "run").fit()
    assert {"val/top1", "zero/top1", "val/text", "val/dead_channels"} == set(result.metrics)
    log = [row for row in read_log(tmp_path / "run/log.jsonl") if row["event"] == "train"]
    assert sum(row["contrast"] for row in log[-4:]) < 0.9 * sum(row["contrast"] for row in log[:4])
    assert ("anchor" in log[0]) == trained

    model = tmp_path / "run/model"
    before, after = (load_state(Path(folder) / "text.safetensors") for folder in (places["text"], model))
    assert all(torch.equal(after[key], before[key]) for key in before) == (not trained)
    assert (result.metrics["val/text"] == pytest.approx(1, abs=1e-6)) == (not trained)
    load_listener(listener := Listener(SHAPE), model)
    assert torch.equal(listener.joint.weight, load_state(model / "listener.safetensors")["joint.weight"])
    # The whole folder and the next run start from what was exported.
    config = read_config(assemble(mini_folder, model, tmp_path / "out", name="new", licence="MIT"))
    tower, _ = read_text_tower(model)
    shipped = load_encoder(config["query"], tmp_path / "out").text(["a dog barking"])
    torch.testing.assert_close(shipped, tower(task.words(["a dog barking"])), atol=0.02, rtol=0)
    again = make(places | {"text": str(model)}, listener=str(model))
    assert torch.equal(again.model.listener.joint.weight, listener.joint.weight)
    assert all(torch.equal(value, after[key]) for key, value in again.model.text.state_dict().items())


def test_both_towers_start_from_a_whole_model(places: dict[str, str], mini_folder: Path) -> None:
    encoder = load_encoder(read_config(mini_folder)["query"], mini_folder)
    config = {
        "data": {key: places[key] for key in ("manifest", "cache")},
        "model": configs.to_dict(encoder.listener.config),
        "options": {"text": str(mini_folder), "listener": str(mini_folder)},
    }
    task = Contrastive.from_config(config)
    for mine, theirs in ((task.model.listener, encoder.listener), (task.model.text, encoder.tower)):
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in mine.state_dict().items())


def test_included_labels_are_positives_and_unclear_pairs_are_neither(places: dict[str, str]) -> None:
    task = make(places)
    texts = {
        "rain": {"rain"}, "rain on a window": {"rain on a surface"}, "a man speaking": {"male speech"},
        "speech": {"male speech"}, "a clock ticking": {"clock ticking"}, "someone talking": {"speech"},
    }  # fmt: skip
    labels = ["rain", "rain on a surface", "male speech", "female speech", "clock ticking"]
    positive, negative = task.matches(labels, texts)
    table = positive.long() - negative.long()
    assert table.tolist() == [
        [1, 1, -1, -1, -1, -1],
        [1, 1, -1, -1, -1, -1],
        [-1, -1, 1, 1, -1, 1],
        [-1, -1, -1, 1, -1, 1],
        [-1, -1, -1, -1, 1, -1],
    ]
    task.sampler.query_builder.texts["zipper"].add("zipping up in the rain")  # mentions the rain, but does not match it
    positive, negative = task.matches(["rain"], {"zipping up in the rain": {"zipper"}})
    assert not positive.any()
    assert not negative.any()


def test_hard_negatives_are_the_nearest_labels_and_never_positives(places: dict[str, str]) -> None:
    hard, easy = (make(places, near=near, nearest=2).sampler for near in (1.0, 0.0))
    table = hard.query_builder.table
    for label in hard.labels:
        near = hard.hard_negatives(label)
        assert len(near) == 2
        assert not any(table.implies(label, other) or table.implies(other, label) for other in near)
        others = [
            o for o in hard.labels if hard.query_builder.relation(label, o) < Relation.OVERLAPPING and o not in near
        ]
        furthest = min(hard.embeddings[label] @ hard.embeddings[o] for o in near)
        assert all(hard.embeddings[label] @ hard.embeddings[o] <= furthest for o in others)
    shares = []
    for sampler in (hard, easy):
        assert sampler.plan(3, 1) == sampler.plan(3, 1) != sampler.plan(4, 1)
        plans = [sampler.plan(step) for step in range(20)]
        near = []
        for plan in plans:
            for number, mixture in enumerate(plan.mixtures):
                before = {query.label for query in plan.queries if query.mixture < number}
                first = sampler.corpus.clips[mixture.sources[0].clip].label
                near += [any(first in hard.hard_negatives(label) for label in before)] if before else []
        shares.append(sum(near) / len(near))
        for plan in plans:
            for query in plan.queries:
                labels = {
                    sampler.corpus.clips[plan.mixtures[query.mixture].sources[m].clip].label for m in query.members
                }
                assert labels == {query.label}
    assert shares[0] == 1.0
    assert shares[1] < 0.9


def test_a_batch_holds_several_captions_of_a_clip(places: dict[str, str]) -> None:
    task = make(places, captions=3, train_text=True)
    batch, again = task.batch(2, 0, 1), task.batch(2, 0, 1)
    assert all(torch.equal(getattr(batch, f.name), getattr(again, f.name)) for f in dataclasses.fields(batch))
    assert len(batch.ids) > len(batch.energies) > 6
    assert batch.positive.any(0).all()
    assert batch.positive.any(1).all()
    assert batch.negative.any(1).all()
    assert not (batch.positive & batch.negative).any()
    assert batch.phrases.shape == (32, 4)
    assert set((batch.phrases > 1).sum(1).tolist()) == {1, 2, 3, 4}
    one = make(places, captions=1).batch(2, 0, 1)
    assert len(one.ids) <= len(one.energies)
    assert len(one.phrases) == 0


def test_the_anchor_keeps_the_embeddings_of_unseen_queries(places: dict[str, str]) -> None:
    moved = []
    for anchor in (0.0, 100.0):
        task = make(places, train_text=True, anchor=anchor)
        optimizer = torch.optim.AdamW(task.model.parameters(), 3e-3, weight_decay=0.0)
        for step in range(12):
            loss, _ = task.loss(task.model, task.batch(step, 0, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        now, start = TextTowerEncoder(task.model.text, task.words).text(UNSEEN), task.start.text(UNSEEN)
        moved.append(float((1 - (now * start).sum(-1)).mean()))
    assert moved[1] < 0.5 * moved[0]


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(places: dict[str, str], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=6, checkpoint_steps=3)
    Trainer(make(places, train_text=True), config, tmp_path / "whole").fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts/checkpoints/step-00000006")
    (tmp_path / "parts/checkpoints/latest").write_text("step-00000003")
    Trainer(make(places, train_text=True), config, tmp_path / "parts").fit()
    for name in ("listener.safetensors", "text.safetensors"):
        a, b = (load_state(tmp_path / run / "model" / name) for run in ("whole", "parts"))
        assert all(torch.equal(a[key], b[key]) for key in a)
    losses = [
        {row["step"]: row["loss"] for row in read_log(tmp_path / run / "log.jsonl") if row["event"] == "train"}
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_captions_are_embedded_by_the_trained_tower(places: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "captions.safetensors"
    assert main(["data", "captions", places["manifest"], "-o", str(out), "-m", places["text"], "--quiet"]) == 0
    expected = TextTowerEncoder.read(Path(places["text"])).text(["heavy rain"])
    torch.testing.assert_close(CaptionTable.load(out)[["heavy rain"]], expected, atol=1e-3, rtol=0)


def test_from_captions_to_a_separator_that_takes_queries(places: dict[str, str], tmp_path: Path) -> None:
    """As docs/training.md has it: an embedded CLAP that exists, a caption table, a separator, `load`."""
    table, listener = tmp_path / "captions.safetensors", tmp_path / "listener"
    listener.mkdir()
    export_listener(Listener(SHAPE), listener)
    assert main(["data", "captions", places["manifest"], "-o", str(table), "-m", places["text"], "--quiet"]) == 0
    task = SeparationTask.from_config(
        {
            "data": {key: places[key] for key in ("manifest", "cache")} | {"captions": str(table)},
            "model": configs.to_dict(dataclasses.replace(SMALL, dimension=512, listener=SHAPE)),
            "options": {"text": places["text"], "listener": str(listener)},
            "sampling": SAMPLING,
        }
    )
    Trainer(task, dataclasses.replace(CONFIG, steps=1, monitor="val/si_sdri"), tmp_path / "run").fit()
    separator = audiosep.load(tmp_path / "run/model", device="cpu", precision="fp32")
    mix = 0.1 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    example = audiosep.Query(audio=(mix, 32000), name="this")
    found = separator.separate(mix, ["a dog barking", example], sample_rate=32000)
    assert found["a dog barking"].shape == found["this"].shape == mix.shape
    mine, theirs = separator.encoder.text(["heavy rain"]), task.text.text(["heavy rain"])
    torch.testing.assert_close(mine, theirs, atol=0.02, rtol=0)


def test_a_corpus_without_zero_shot_labels_is_validated(places: dict[str, str], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(places["manifest"]).read_text().splitlines()]
    kept = [
        row | {"path": str(Path(places["manifest"]).parent / row["path"])} for row in rows if row["split"] != "zero"
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    task = make(places | {"manifest": str(tmp_path / "manifest.jsonl")})
    assert set(task.validate(task.model.eval())) == {"val/top1", "val/text"}


def test_impossible_configurations_are_refused(places: dict[str, str], tmp_path: Path) -> None:
    for options, match in (
        ({"captions": 0}, "options.captions"),
        ({"near": 1.5}, "near must lie"),
        ({"listener": str(tmp_path)}, "is no model"),
        ({"text": str(tmp_path)}, "is no model"),
    ):
        with pytest.raises((ConfigError, ModelError), match=match):
            make(places, **options)
    base = {"data": {key: places[key] for key in ("manifest", "cache")}, "options": {"text": places["text"]}}
    for wrong, match in (
        ({"sampling": {"channels": 2}}, "takes mono"),
        ({"model": {"dimension": 16}}, "dimension must be 512"),
        ({"options": {}}, "text"),
    ):
        with pytest.raises(ConfigError, match=match):
            Contrastive.from_config(base | wrong)
    other = configs.to_dict(dataclasses.replace(SHAPE, hidden=32))
    load = {"text": places["text"], "listener": str(tmp_path / "listener")}
    (tmp_path / "listener").mkdir()
    export_listener(Listener(SHAPE), tmp_path / "listener")
    with pytest.raises(ConfigError, match="another configuration"):
        Contrastive.from_config(base | {"model": other, "options": load})


def test_texts_that_the_tower_cannot_read_are_refused_before_training(places: dict[str, str], tmp_path: Path) -> None:
    clips = divided(make_clips(tmp_path))
    clips[0] = dataclasses.replace(clips[0], captions=("鋼琴",))
    write_manifest(tmp_path / "manifest.jsonl", clips)
    with pytest.raises(QueryError, match="鋼琴"):
        make(places | {"manifest": str(tmp_path / "manifest.jsonl"), "cache": str(tmp_path / "cache")})
