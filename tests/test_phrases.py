"""Phrases, grammar, the WordNet reader and the synonym rule."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosep.data import phrases
from audiosep.data.phrases import PhraseConfig, english, generate, misspell, synonyms
from audiosep.data.phrases.synonyms import PhraseFilter, draw_synonyms, synonym_labels
from audiosep.data.phrases.wordnet import FOLDER, Synset, WordNet
from audiosep.errors import DataError

needs_wordnet = pytest.mark.skipif(not (FOLDER / "data.noun").is_file(), reason="Debian package wordnet not installed")

# A small database in the format of wndb(5): a dog, a puppy below it, the sound of barking.
NOUNS = [
    ("dog", ["dog", "domestic_dog"], ["puppy"], 'a barking animal; "the dog barked all night"'),
    ("puppy", ["puppy", "whelp"], [], "a young dog"),
    ("sound", ["sound"], ["bark"], "what is heard"),
    ("bark", ["bark"], [], "the sound made by a dog"),
]
VERBS = [("make_noise", ["bark", "yap"], [], "make barking sounds")]


def write_database(folder: Path) -> None:
    """Write `NOUNS` and `VERBS` as WordNet's data and index files."""
    for name, letter, rows in (("noun", "n", NOUNS), ("verb", "v", VERBS), ("adj", "a", []), ("adv", "r", [])):
        offsets = {key: f"{i + 1:08d}" for i, (key, *_) in enumerate(rows)}
        data, index = ["  1 licence"], ["  1 licence"]
        for key, lemmas, below, gloss in rows:
            words = " ".join(f"{lemma} 0" for lemma in lemmas)
            pointers = "".join(f" ~ {offsets[b]} {letter} 0000" for b in below)
            data.append(f"{offsets[key]} 03 {letter} {len(lemmas):02x} {words} {len(below):03d}{pointers} | {gloss}  ")
            index += [f"{lemma.lower()} {letter} 1 0 1 {int(lemma == 'dog')} {offsets[key]}  " for lemma in lemmas]
        (folder / f"data.{name}").write_text("\n".join(data) + "\n")
        (folder / f"index.{name}").write_text("\n".join(index) + "\n")


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    write_database(tmp_path)
    return WordNet.read(tmp_path)


def test_database_is_read(wordnet: WordNet) -> None:
    dog = wordnet.sense("dog.n.1")
    assert dog.lemmas == ("dog", "domestic dog")
    assert dog.definition == "a barking animal"
    assert dog.examples == ("the dog barked all night",)
    assert [s.lemmas[0] for s in wordnet.below([dog])] == ["dog", "puppy"]
    assert wordnet.of("bark", "v")[0].lemmas == ("bark", "yap")
    assert wordnet.familiar == {"dog"}


def test_missing_database_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt install wordnet"):
        WordNet.read(tmp_path)


def test_unknown_sense(wordnet: WordNet) -> None:
    with pytest.raises(DataError, match=r"dog\.n\.2"):
        wordnet.sense("dog.n.2")


@pytest.mark.parametrize(
    ("function", "word", "expected"),
    [
        (english.plural, "dog", "dogs"),
        (english.plural, "church bell", "church bells"),
        (english.plural, "fly", "flies"),
        (english.plural, "old man", "old men"),
        (english.progressive, "bark", "barking"),
        (english.progressive, "bake bread", "baking bread"),
        (english.progressive, "clap", "clapping"),
        (english.progressive, "lie", "lying"),
        (english.progressive, "see", "seeing"),
        (english.past, "clap", "clapped"),
        (english.past, "cry", "cried"),
        (english.with_article, "owl", "an owl"),
        (english.with_article, "ukulele", "a ukulele"),
        (english.with_article, "hour", "an hour"),
    ],
)
def test_grammar(function, word: str, expected: str) -> None:
    assert function(word) == expected


def every_root() -> WordNet:
    """Five words below each meaning that the word lists start from, with definitions and examples."""
    synsets, senses = {}, {}
    for kind in ("nouns", "things", "verbs"):
        for name in phrases.word_lists()[kind]:
            word, part, number = name.rsplit(".", 2)
            for i in range(int(number)):
                key = f"{part}{word}{i}"
                lemmas = tuple(f"{word.replace('_', ' ')} {letter}{chr(97 + i)}" for letter in "abcde")
                synsets[key] = Synset(key, lemmas, (), f"the meaning of {word}; one more", (f"a {word} was there",))
                senses |= {f"{lemma}.{part}": (key,) for lemma in lemmas}
            entry = f"{word.replace('_', ' ')}.{part}"
            keys = tuple(f"{part}{word}{i}" for i in range(int(number)))
            senses[entry] = max(keys, senses.get(entry, ()), key=len)
    return WordNet(synsets, senses, frozenset(lemma for s in synsets.values() for lemma in s.lemmas[:2]))


def test_phrases_are_distinct_and_repeatable() -> None:
    wordnet = every_root()
    config = PhraseConfig(
        captions=300, music=100, nouns=300, things=50, verbs=200, pairs=100, lemmas=50, glosses=50, examples=20
    )
    found = generate(["a dog barking", "rain"], ["church bell"], wordnet, config)
    assert found == generate(["a dog barking", "rain"], ["church bell"], wordnet, config)
    assert {"seed": 0} | {name: len(texts) for name, texts in found.items()} == vars(config)
    first = [phrase for texts in found.values() for phrase in texts]
    assert len(first) == len(set(first)) == 1170
    assert {"a dog barking", "rain", "church bell"} <= set(first)
    assert all(p == phrases.normalise(p) and "{" not in p for p in first)


def test_no_captions_is_an_error(wordnet: WordNet) -> None:
    with pytest.raises(DataError, match="at least one caption"):
        generate([], ["bell"], wordnet, PhraseConfig())


def test_captions_and_labels_are_read(tmp_path: Path) -> None:
    rows = [{"captions": ["A  Dog", "a dog barking"], "label": "dog"}, {"captions": [], "label": "rain"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "labels.json").write_text(json.dumps(["Wail, moan", "Wind noise (microphone)"]))
    assert phrases.corpus_captions([tmp_path / "a.jsonl"]) == ["a dog", "a dog barking", "dog", "rain"]
    found = phrases.label_names(tmp_path / "labels.json")
    assert {"wail, moan", "wail", "moan", "wind noise (microphone)", "wind noise"} == set(found)
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"a\.jsonl, line"):
        phrases.corpus_captions([tmp_path / "a.jsonl"])
    with pytest.raises(DataError, match=r"there is no file .*b\.json"):
        phrases.label_names(tmp_path / "b.json")


@given(st.text("abcdefghij ", min_size=1, max_size=30), st.integers(0, 1000))
def test_a_typing_error_changes_one_word_by_one_letter(text: str, seed: int) -> None:
    text = phrases.normalise(text)
    before, after = text.split(), misspell(text, random.Random(seed)).split()
    assert len(before) == len(after)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) <= 1
    assert all(len(a) >= 4 and a[0] == b[0] and abs(len(a) - len(b)) <= 1 for a, b in changed)


@pytest.mark.parametrize(
    ("phrase", "caught"),
    [
        ("remove the hoover", True),
        ("hoovers in a kitchen", True),
        ("someone hoovering", True),
        ("a six string", True),
        ("six-strings", True),
        ("the sixstring", True),
        ("six of the strings", False),
        ("hooves", False),
    ],
)
def test_filter_finds_inflections_and_spellings(phrase: str, caught: bool) -> None:
    assert PhraseFilter(["hoover", "six-string"])(phrase) is caught


def test_rule_has_fifty_labels() -> None:
    assert len(set(synonym_labels())) == 50


def test_rule_draws_words_below_a_label(wordnet: WordNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synonyms, "_rule", lambda: {"labels": {"dog": "dog.n.1"}, "named": {"hoover": "vacuum"}})
    assert {p.word for p in draw_synonyms(wordnet, [])} == {"hoover", "puppy", "whelp"}
    assert {p.word for p in draw_synonyms(wordnet, ["two puppies playing"])} == {"hoover", "whelp"}


@needs_wordnet
def test_rule_gives_enough_pairs() -> None:
    pairs = draw_synonyms(WordNet.read(), ["a dog barking", "puppy"], limit=6)
    assert len(pairs) >= 150
    assert {"hoover", "pup", "six-string"} <= {p.word for p in pairs}
    assert "puppy" not in {p.word for p in pairs}
    assert len({p.word for p in pairs}) == len(pairs)
