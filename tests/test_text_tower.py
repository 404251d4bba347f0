"""The text tower: tokenizer, network, and its distillation by the trainer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from audiosep.data.phrases import PhraseConfig
from audiosep.data.phrases.synonyms import Synonym
from audiosep.errors import ConfigError, ModelError, QueryError
from audiosep.models.joint_space import isometry
from audiosep.models.text import TextTower, TextTowerConfig
from audiosep.query.tokenizer import WordPieces, train_word_pieces
from audiosep.training.tower_files import export_text_tower, read_text_tower
from audiosep.training.towers import text_data, text_distillation
from audiosep.training.towers.text_data import TextDataConfig
from audiosep.training.towers.text_distillation import TextConfig, TextDistillation, TextOptions
from audiosep.training.towers.text_validation import without_words

TEXTS = ["a dog barking", "the barking dog", "electric guitar solo", "rain on a tin roof", "café crowd", "a hoover"] * 4


@pytest.fixture(scope="module")
def words() -> WordPieces:
    tokenizer = train_word_pieces(TEXTS, ["guitar"], 400, spelled=150)
    return WordPieces(tokenizer, tokenizer.get_vocab_size())


def small(vocabulary: int) -> TextTower:
    torch.manual_seed(0)
    return TextTower(TextTowerConfig(vocabulary, width=32, layers=2, heads=2, feedforward=64, hidden=48)).eval()


def test_the_same_texts_make_the_same_pieces() -> None:
    texts = [*TEXTS, "smørrebrød", "straße", "тест"]
    assert len({train_word_pieces(texts, ["guitar"], 400, spelled=170).to_str() for _ in range(6)}) == 1


def test_case_accents_and_punctuation_do_not_matter(words: WordPieces) -> None:
    ids = words(["Café crowd", "cafe, CROWD!", "cafe-crowd"])
    assert torch.equal(ids[0], ids[1])
    assert torch.equal(ids[0], ids[2])


def test_every_latin_word_can_be_spelled(words: WordPieces) -> None:
    ids = words(["zyxwv 0123456789 qjk", "dog"])
    assert (ids[0] > 1).all()
    assert (ids[1] == 0).any()


@pytest.mark.parametrize("text", ["", "  ", "?!", "鋼琴"])
def test_unreadable_text_is_an_error(words: WordPieces, text: str) -> None:
    with pytest.raises(QueryError, match="Latin"):
        words(["dog", text])


def test_a_word_that_is_too_long_is_said_to_be(words: WordPieces) -> None:
    with pytest.raises(QueryError, match="at most 40 letters"):
        words([300 * "x"])
    with pytest.raises(QueryError, match="Latin"):
        words([50 * "琴"])


def test_tokenizer_of_another_model_is_an_error(words: WordPieces, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        WordPieces.read(tmp_path / "tokenizer.json", words.vocabulary)
    words.tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert torch.equal(WordPieces.read(tmp_path / "tokenizer.json", words.vocabulary)(TEXTS), words(TEXTS))
    with pytest.raises(ModelError, match="word pieces"):
        WordPieces.read(tmp_path / "tokenizer.json", words.vocabulary + 1)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        WordPieces.read(tmp_path / "tokenizer.json", words.vocabulary)


def test_embeddings_are_unit_vectors_and_padding_changes_nothing(words: WordPieces) -> None:
    tower = small(words.vocabulary)
    alone, padded = tower(words(["a dog barking"])), tower(words(["a dog barking", "rain on a tin roof cafe crowd"]))
    assert alone.shape == (1, 512)
    torch.testing.assert_close(padded.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=0)


def test_order_of_words_matters(words: WordPieces) -> None:
    tower = small(words.vocabulary)
    torch.nn.init.normal_(tower.head[2].weight, std=0.1)
    a, b = tower(words(["dog guitar", "guitar dog"]))
    assert (a @ b).item() < 0.9999


def test_start_is_the_mean_of_the_words(words: WordPieces) -> None:
    tower = small(words.vocabulary)
    axes = torch.linalg.qr(torch.randn(384, 32))[0].T
    table = F.normalize(torch.randn(words.vocabulary, 32), dim=-1) @ axes
    tower.start(table, axes)
    (guitar,) = words(["guitar"])[0].tolist()
    torch.testing.assert_close(tower(words(["guitar"]))[0], table[guitar] @ isometry(), atol=1e-5, rtol=0)


def test_long_text_is_cut(words: WordPieces) -> None:
    assert small(words.vocabulary)(words(["dog " * 200])).isfinite().all()


class FakeTeacher:
    """A sentence encoder that needs no files: each word has a random direction, later words weigh more."""

    def __init__(self, folder: object = None) -> None:
        pass

    @staticmethod
    def installed() -> Path:
        return Path()

    def embed(self, texts: list[str], batch: int = 128) -> torch.Tensor:
        rows = []
        for words in texts:
            seeds = [sum(map(ord, word)) for word in words.split()] or [0]
            vectors = [torch.randn(384, generator=torch.Generator().manual_seed(s)) for s in seeds]
            rows.append(torch.stack([vector * (1 + 0.2 * i) for i, vector in enumerate(vectors)]).sum(0))
        return F.normalize(torch.stack(rows), dim=-1)

    def text(self, texts: list[str]) -> torch.Tensor:
        return self.embed(texts) @ isometry()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextConfig:
    """A prepared folder of 600 phrases, and a small tower."""
    monkeypatch.setattr(text_distillation, "SentenceTeacher", FakeTeacher)
    monkeypatch.setattr(text_data, "SentenceTeacher", FakeTeacher)
    rng = np.random.default_rng(0)
    names = ["dog", "cat", "guitar", "piano", "rain", "wind", "drum", "voice", "bell", "train"]
    phrases = sorted({" ".join(rng.choice(names, 1 + i % 4)) for i in range(600)})
    tokenizer = train_word_pieces(phrases, ["hoover"], 200, spelled=120)
    (tmp_path / "phrases.txt").write_text("\n".join(phrases))
    (tmp_path / "sources.json").write_text(json.dumps({"captions": len(phrases)}))
    (tmp_path / "synonyms.json").write_text(json.dumps([vars(Synonym("hoover", "vacuum cleaner"))]))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    data = TextDataConfig(str(tmp_path), (), "", held_back=10, phrases=PhraseConfig())
    model = TextTowerConfig(tokenizer.get_vocab_size(), width=64, layers=1, heads=2, feedforward=64, hidden=64)
    return TextConfig(data, model, TextOptions(batch=16, validation=50))


def test_prepared_data_holds_back_phrases(config: TextConfig) -> None:
    data = text_data.prepare(config.data, config.model.vocabulary)
    assert len(data.trained) + len(data.held_back) == len(data.phrases)
    assert set(data.trained).isdisjoint(data.held_back)
    assert len(data.held_back) > 10
    torch.testing.assert_close(data.axes(8) @ data.axes(8).T, torch.eye(8), atol=1e-4, rtol=0)
    expected = FakeTeacher().embed(data.phrases)
    torch.testing.assert_close(torch.from_numpy(data.targets.astype(np.float32)), expected, atol=1e-3, rtol=0)


def test_an_evaluation_embeds_only_held_back_phrases_with_the_teacher(config: TextConfig) -> None:
    data = text_data.prepare(config.data, config.model.vocabulary, to_train=False)
    assert not list(Path(config.data.folder).glob("*.npy"))
    expected = FakeTeacher().embed([data.phrases[row] for row in data.held_back])
    found = torch.from_numpy(data.targets[data.held_back].astype(np.float32))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert not data.targets[data.trained].any()


def test_an_interrupted_embedding_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_data, "_CHUNK", 4)
    calls = []

    class Dies(FakeTeacher):
        def embed(self, texts: list[str], batch: int = 128) -> torch.Tensor:
            calls.append(list(texts))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().embed(texts)

    texts = [f"dog {i}" for i in range(10)]
    with pytest.raises(KeyboardInterrupt):
        text_data.embed_to_file(Dies(), texts, tmp_path / "x")  # type: ignore[arg-type]  # a stand-in
    assert not (tmp_path / "x.npy").exists()
    text_data.embed_to_file(Dies(), texts, tmp_path / "x")  # type: ignore[arg-type]
    assert [len(c) for c in calls] == [4, 4, 4, 2]
    expected = FakeTeacher().embed(texts)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "x.npy")).float(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("together", [64, 7])  # one plan an epoch, and several of which the last is shorter
def test_batches_are_pure_and_cover_every_phrase_once(
    config: TextConfig, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_distillation, "_GROUP", together)
    task, other = TextDistillation(config), TextDistillation(config)
    batches = len(task.data.trained) // 16
    for step in (5, 0, batches + 1):
        torch.testing.assert_close(task.batch(step, 0, 1).ids, other.batch(step, 0, 1).ids)
    targets = np.concatenate([task.batch(step, 0, 1).targets.numpy() for step in range(batches, 2 * batches)])
    trained = FakeTeacher().embed([task.data.phrases[row] for row in task.data.trained]).numpy()
    rows = (targets @ trained.T).argmax(1)
    assert len(rows) == 16 * batches
    assert len(set(rows)) >= 0.95 * len(rows)  # "bell" and "bell bell" have one target


def test_a_batch_of_more_phrases_than_there_are_is_refused(config: TextConfig) -> None:
    with pytest.raises(ConfigError, match=r"options\.batch: 1000"):
        TextDistillation(dataclasses.replace(config, options=TextOptions(batch=1000)))


def test_distillation_approaches_the_teacher(config: TextConfig, tmp_path: Path) -> None:
    task = TextDistillation(config)
    before = task.validate(task.model)["val/cosine"]
    optimizer = torch.optim.AdamW(task.model.parameters(), 2e-3)
    for step in range(120):
        loss, numbers = task.loss(task.model, task.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = task.validate(task.model)
    assert int(numbers["items"]) == 16
    assert after["val/cosine"] > max(before, 0.9)
    assert after["val/captions/cosine"] == pytest.approx(after["val/cosine"])
    task.export(task.model, tmp_path / "out")
    tower, tokenizer = read_text_tower(tmp_path / "out")
    ids = task.words(["dog piano"])
    torch.testing.assert_close(tower(ids), task.model.eval()(ids))
    assert tokenizer.get_vocab_size() == config.model.vocabulary


def test_the_rows_of_unused_words_do_not_change(config: TextConfig) -> None:
    task = TextDistillation(config)
    row = task.data.tokenizer.token_to_id("hoover")
    loss, _ = task.loss(task.model, task.batch(0, 0, 1))
    loss.backward()
    gradient = task.model.words.weight.grad
    assert gradient is not None
    assert not gradient[row].any()
    assert gradient.any()


def test_a_removed_word_is_split_into_pieces(words: WordPieces) -> None:
    spelled = WordPieces(without_words(words.tokenizer, ["guitar", "dog barking"]), words.vocabulary)
    assert len(words(["guitar"])[0]) == 1
    assert len(spelled(["guitar"])[0]) > 1
    assert torch.equal(spelled(["dog barking"]), words(["dog barking"]))


def test_export_needs_its_tokenizer(words: WordPieces, tmp_path: Path) -> None:
    export_text_tower(small(words.vocabulary), words.tokenizer, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        read_text_tower(tmp_path)
