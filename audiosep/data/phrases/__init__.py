"""Short phrases like the queries that people type: the texts on which the text tower is trained.

Sources: the captions of a training corpus, AudioSet's label names, and WordNet (nouns and verbs of sounds in templates,
dictionary words, parts of definitions and of usage examples). Templates and word lists are in `words.json`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path

from audiosep.data.phrases.english import past, plural, progressive, third_person, with_article
from audiosep.data.phrases.wordnet import Synset, WordNet
from audiosep.data.reading import json_rows
from audiosep.data.text_files import read_json
from audiosep.errors import DataError

_WORD = re.compile(r"[a-z][a-z'\-]*(?: [a-z][a-z'\-]*){0,2}")
_ARTICLE = re.compile(r"^(?:a|an|the|some) ")
_GLOSS_BREAK = re.compile(r"[;:,()\"]| - ")
_VOWELS = "aeiou"
_COMMON = 0.5  # share of nouns in templates from the list of common ones, because most queries are for everyday sounds
_RARE = 0.33  # share of the other words that WordNet's sense-tagged texts do not use
_SWAPPED = 0.06  # share of captions in templates with two words swapped


@dataclass(frozen=True)
class PhraseConfig:
    """Number of distinct phrases of each source.

    Args:
        seed: of all random choices.
        captions: captions and AudioSet labels, alone and in templates.
        music: instruments and other parts of a song, in templates.
        nouns: names of things that sound, in templates.
        things: names of other things, in templates.
        verbs: verbs of sounds, in templates.
        pairs: two things in one template.
        lemmas: dictionary words.
        glosses: parts of definitions.
        examples: parts of usage examples.
    """

    seed: int = 0
    captions: int = 230_000
    music: int = 25_000
    nouns: int = 250_000
    things: int = 60_000
    verbs: int = 190_000
    pairs: int = 130_000
    lemmas: int = 75_000
    glosses: int = 55_000
    examples: int = 10_000


def corpus_captions(paths: Iterable[Path]) -> list[str]:
    """The distinct captions and labels of corpus indices, sorted.

    Args:
        paths: files of JSON lines with `captions` and `label`.

    Raises:
        DataError: a file cannot be read, or a line is no JSON.
    """
    rows = (row for path in paths for _, row in json_rows(path))
    return sorted({normalise(text) for row in rows for text in [*row["captions"], row["label"]]})


def label_names(path: Path) -> list[str]:
    """AudioSet's label names, whole and in their comma-separated parts, sorted.

    Args:
        path: a JSON list.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    found: set[str] = set()
    for name in read_json(path):
        plain = re.sub(r"\s*\([^)]*\)", "", name)
        found.update(normalise(part) for part in [name, plain, *plain.split(",")])
    return sorted(found)


def normalise(text: str) -> str:
    """A text in lower case with single spaces.

    Args:
        text: any text.
    """
    return " ".join(text.lower().split())


def prompts() -> list[str]:
    """Queries written by hand, for validation; training leaves them out."""
    return files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()


def generate(
    captions: Sequence[str], labels: Sequence[str], wordnet: WordNet, config: PhraseConfig
) -> dict[str, list[str]]:
    """Generate distinct phrases, a pure function of the arguments.

    Args:
        captions: of the corpus, see `corpus_captions`.
        labels: see `label_names`.
        wordnet: nouns, verbs, definitions and usage examples.
        config: number of phrases of each source.

    Returns:
        Source (a field of PhraseConfig) -> its phrases.

    Raises:
        DataError: no captions or labels.
    """
    if not captions or not labels:
        raise DataError("phrases need at least one caption and one label")
    lexicon = Lexicon.build(captions, labels, wordnet)
    sources: dict[str, tuple[int, Callable[[random.Random], Iterator[str]]]] = {
        "captions": (config.captions, lexicon.captions_source),
        "music": (config.music, lambda rng: lexicon.templated("music", rng, lexicon.nouns)),
        "nouns": (config.nouns, lambda rng: lexicon.templated("noun", rng, lexicon.nouns)),
        "things": (config.things, lambda rng: lexicon.templated("noun", rng, lexicon.things)),
        "verbs": (config.verbs, lambda rng: lexicon.templated("verb", rng, lexicon.nouns)),
        "pairs": (config.pairs, lambda rng: lexicon.templated("pair", rng, lexicon.nouns)),
        "lemmas": (config.lemmas, lambda rng: _lemmas(wordnet, rng)),
        "glosses": (config.glosses, lambda rng: _shuffled(_glosses(wordnet), rng)),
        "examples": (config.examples, lambda rng: _shuffled(_examples(wordnet), rng)),
    }
    found: set[str] = set()
    return {
        name: _take(source(random.Random(f"{config.seed}/{name}")), count, found)
        for name, (count, source) in sources.items()
    }


def _take(source: Iterator[str], count: int, found: set[str]) -> list[str]:
    """The first `count` phrases that are not yet in `found`, to which they are added."""
    taken: list[str] = []
    # Templates yield phrases without end, but not always new ones.
    for text in islice(source, 20 * count):
        phrase = normalise(text)
        if len(taken) >= count:
            break
        if phrase not in found:
            found.add(phrase)
            taken.append(phrase)
    return taken


@lru_cache(maxsize=1)
def word_lists() -> dict[str, list[str]]:
    """The templates, WordNet roots and word lists of `words.json`."""
    lists: dict[str, list[str]] = json.loads(files(__package__).joinpath("words.json").read_text(encoding="utf-8"))
    return lists


@dataclass(frozen=True)
class Words:
    """Words for templates.

    Args:
        familiar: words that WordNet's sense-tagged texts use.
        rare: words that they do not use.
    """

    familiar: list[str]
    rare: list[str]


@dataclass(frozen=True)
class Lexicon:
    """The words and texts that are put into templates.

    Args:
        captions: whole captions and label names.
        nouns: names of things that sound.
        things: names of other things.
        verbs: verbs of sounds, base forms.
    """

    captions: list[str]
    nouns: Words
    things: Words
    verbs: Words

    @classmethod
    def build(cls, captions: Sequence[str], labels: Sequence[str], wordnet: WordNet) -> Lexicon:
        """Collect the words below the WordNet roots of `words.json`.

        Args:
            captions: of the corpus.
            labels: label names.
            wordnet: the dictionary.
        """
        lists = word_lists()
        nouns, things, verbs = (_below(wordnet, lists[kind]) for kind in ("nouns", "things", "verbs"))
        return cls(list(dict.fromkeys([*captions, *labels])), nouns, things, verbs)

    def templated(self, kind: str, rng: random.Random, nouns: Words) -> Iterator[str]:
        """Phrases of one kind of template, without end.

        Args:
            kind: key of the templates in `words.json`.
            rng: draws templates and words.
            nouns: the nouns to use.
        """
        templates = word_lists()[kind]
        while True:
            yield rng.choice(templates).format_map(_Slots(self, rng, nouns))

    def captions_source(self, rng: random.Random) -> Iterator[str]:
        """All captions, then captions in templates without end, some with two neighbouring words swapped.

        Args:
            rng: draws templates and captions.
        """
        yield from self.captions
        for phrase in self.templated("caption", rng, self.nouns):
            yield swap_words(phrase, rng) if rng.random() < _SWAPPED else phrase


class _Slots(dict[str, str]):
    """Draws the words of one template when it is formatted, and inflects them as the slot needs."""

    def __init__(self, lexicon: Lexicon, rng: random.Random, nouns: Words) -> None:
        super().__init__()
        self.lexicon, self.rng, self.nouns = lexicon, rng, nouns

    def __missing__(self, slot: str) -> str:
        lists, choice = word_lists(), self.rng.choice
        drawn: dict[str, Callable[[], str]] = {
            "x": self._noun, "y": self._noun, "v.": lambda: self._word(self.lexicon.verbs),
            "w": lambda: progressive(self._word(self.lexicon.verbs)), "c": lambda: choice(self.lexicon.captions),
            "d": lambda: _ARTICLE.sub("", choice(self.lexicon.captions)), "m": lambda: choice(lists["artists"]),
            "n": lambda: choice(lists["artists"]), "adj": lambda: choice(lists["adjectives"]),
            "pl": self._place, "su": lambda: choice(lists["surfaces"]), "who": lambda: choice(lists["people"]),
        }  # fmt: skip
        forms: dict[str, tuple[str, Callable[[str], str]]] = {
            "a": ("x", with_article), "s": ("x", plural), "ay": ("y", with_article), "sy": ("y", plural),
            "v": ("v.", progressive), "vb": ("v.", str), "vs": ("v.", third_person), "vd": ("v.", past),
        }  # fmt: skip
        if slot in forms:
            base, form = forms[slot]
            self[slot] = form(self[base])
        else:
            self[slot] = drawn[slot]()
        return self[slot]

    def _noun(self) -> str:
        if self.nouns is self.lexicon.nouns and self.rng.random() < _COMMON:
            return self.rng.choice(word_lists()["actors"])
        return self._word(self.nouns)

    def _word(self, words: Words) -> str:
        return self.rng.choice(words.rare if self.rng.random() < _RARE else words.familiar)

    def _place(self) -> str:
        place = self.rng.choice(word_lists()["places"])
        return self.rng.choice((f"the {place}", with_article(place)))


def swap_words(phrase: str, rng: random.Random) -> str:
    """A phrase with two neighbouring words swapped.

    Args:
        phrase: any phrase.
        rng: draws the words.
    """
    words = phrase.split()
    if len(words) > 1:
        i = rng.randrange(len(words) - 1)
        words[i : i + 2] = words[i + 1], words[i]
    return " ".join(words)


def misspell(phrase: str, rng: random.Random) -> str:
    """A phrase with one typing error: a letter of a word of four letters or more dropped, doubled, swapped or replaced.

    Args:
        phrase: any phrase; one without such a word stays as it is.
        rng: draws the error.
    """
    words = phrase.split()
    long = [i for i, word in enumerate(words) if len(word) >= 4]
    if not long:
        return phrase
    i = rng.choice(long)
    word, at = words[i], rng.randrange(1, len(words[i]) - 1)
    error = rng.randrange(4)
    if error == 0:
        word = word[:at] + word[at + 1 :]
    elif error == 1:
        word = word[:at] + word[at] + word[at:]
    elif error == 2:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    else:
        letters = _VOWELS if word[at] in _VOWELS else "bcdfghjklmnpqrstvwxyz"
        word = word[:at] + rng.choice(letters) + word[at + 1 :]
    words[i] = word
    return " ".join(words)


def _below(wordnet: WordNet, roots: Sequence[str]) -> Words:
    """Words of one to three parts below the roots, whose meaning there is one of their two most frequent ones."""
    found: dict[str, None] = {}
    for synset in wordnet.below(wordnet.sense(root) for root in roots):
        for lemma in synset.lemmas:
            if _WORD.fullmatch(lemma) and len(lemma) <= 24 and wordnet.rank(lemma, synset) < 2:
                found.setdefault(lemma)
    familiar = [word for word in found if word in wordnet.familiar]
    return Words(familiar, [word for word in found if word not in wordnet.familiar])


def _lemmas(wordnet: WordNet, rng: random.Random) -> Iterator[str]:
    words = (lemma for synset in wordnet.synsets.values() for lemma in synset.lemmas)
    plain = _shuffled([word for word in dict.fromkeys(words) if _WORD.fullmatch(word)], rng)
    return iter(sorted(plain, key=lambda word: word not in wordnet.familiar))


def _glosses(wordnet: WordNet) -> list[str]:
    return _pieces(wordnet, lambda synset: _GLOSS_BREAK.split(synset.definition))


def _examples(wordnet: WordNet) -> list[str]:
    return _pieces(wordnet, lambda synset: [part for text in synset.examples for part in _GLOSS_BREAK.split(text)])


def _pieces(wordnet: WordNet, split: Callable[[Synset], Sequence[str]]) -> list[str]:
    """Distinct parts of two words or more, cut after nine words."""
    found: dict[str, None] = {}
    for synset in wordnet.synsets.values():
        for part in split(synset):
            words = part.split()[:9]
            if len(words) > 1:
                found.setdefault(" ".join(words))
    return list(found)


def _shuffled(items: list[str], rng: random.Random) -> Iterator[str]:
    rng.shuffle(items)
    return iter(items)
