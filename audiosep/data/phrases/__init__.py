"""Short phrases as people type them when they ask for a sound: what the text tower learns the sentence teacher from.

Sources: the captions of a training corpus, AudioSet's label names, and WordNet (nouns and verbs of things that sound
in templates, plain words, pieces of definitions and of examples). The templates and word lists are in `words.json`.
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
from audiosep.errors import DataError

_WORD = re.compile(r"[a-z][a-z'\-]*(?: [a-z][a-z'\-]*){0,2}")
_ARTICLE = re.compile(r"^(?:a|an|the|some) ")
_GLOSS_BREAK = re.compile(r"[;:,()\"]| - ")
_SYLLABLES = "aeiou"
# Most people ask for everyday things: half of the nouns in templates come from the list of common ones, and a third
# of the others are words that WordNet's own sample of English never used.
_COMMON = 0.5
_UNFAMILIAR = 0.33


@dataclass(frozen=True)
class PhraseConfig:
    """How many distinct phrases each source gives.

    Args:
        seed: of every random choice.
        captions: captions and AudioSet labels, alone and in templates.
        music: instruments and parts of a band in a musician's templates.
        nouns: names of sounding things in templates. things: names of other things. verbs: what they do.
        pairs: two things at once.
        lemmas: plain dictionary words. glosses: pieces of definitions. examples: pieces of usage examples.
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
    """The distinct captions and labels of corpus indexes (JSON lines with `captions` and `label`), sorted."""
    found: set[str] = set()
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                found.update(normalise(text) for text in [*row["captions"], row["label"]])
    return sorted(found)


def label_names(path: Path) -> list[str]:
    """AudioSet's label names (a JSON list), whole and in their comma-separated parts, sorted."""
    found: set[str] = set()
    for name in json.loads(path.read_text(encoding="utf-8")):
        plain = re.sub(r"\s*\([^)]*\)", "", name)
        found.update(normalise(part) for part in [name, plain, *plain.split(",")])
    return sorted(found)


def normalise(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def prompts() -> list[str]:
    """Queries written by hand as people ask for sounds, to measure with; training leaves them out."""
    return files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()


def generate(
    captions: Sequence[str], labels: Sequence[str], wordnet: WordNet, config: PhraseConfig
) -> dict[str, list[str]]:
    """Distinct phrases of each source (the names of PhraseConfig's counts), a pure function of the arguments.

    Args:
        captions: of the corpus, see `corpus_captions`.
        labels: see `label_names`.

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
    # A source of templates never ends but may run out of new phrases.
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
    """Words that WordNet's sense-tagged texts use, and words that they do not."""

    familiar: list[str]
    rare: list[str]


@dataclass(frozen=True)
class Lexicon:
    """The words that go into templates.

    Attributes:
        captions: whole captions and label names.
        nouns: names of sounding things. things: names of other things. verbs: base forms.
    """

    captions: list[str]
    nouns: Words
    things: Words
    verbs: Words

    @classmethod
    def build(cls, captions: Sequence[str], labels: Sequence[str], wordnet: WordNet) -> Lexicon:
        """Collect the words below the WordNet roots of `words.json`."""
        lists = word_lists()
        nouns, things, verbs = (_below(wordnet, lists[kind]) for kind in ("nouns", "things", "verbs"))
        return cls(list(dict.fromkeys([*captions, *labels])), nouns, things, verbs)

    def templated(self, kind: str, rng: random.Random, nouns: Words) -> Iterator[str]:
        """Endless phrases of one kind of template."""
        templates = word_lists()[kind]
        while True:
            yield rng.choice(templates).format_map(_Slots(self, rng, nouns))

    def captions_source(self, rng: random.Random) -> Iterator[str]:
        """Every caption, then endless captions in templates, some with two neighbouring words exchanged."""
        yield from self.captions
        for phrase in self.templated("caption", rng, self.nouns):
            yield exchange(phrase, rng) if rng.random() < 0.06 else phrase


class _Slots(dict[str, str]):
    """Draws the words of one template as they are asked for, and bends them to the form that the slot wants."""

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
        return self.rng.choice(words.rare if self.rng.random() < _UNFAMILIAR else words.familiar)

    def _place(self) -> str:
        place = self.rng.choice(word_lists()["places"])
        return self.rng.choice((f"the {place}", with_article(place)))


def exchange(phrase: str, rng: random.Random) -> str:
    """`phrase` with two neighbouring words exchanged."""
    words = phrase.split()
    if len(words) > 1:
        i = rng.randrange(len(words) - 1)
        words[i : i + 2] = words[i + 1], words[i]
    return " ".join(words)


def misspell(phrase: str, rng: random.Random) -> str:
    """`phrase` with one slip of the finger (a letter dropped, doubled, swapped or replaced) in a longer word."""
    words = phrase.split()
    long = [i for i, word in enumerate(words) if len(word) >= 4]
    if not long:
        return phrase
    i = rng.choice(long)
    word, at = words[i], rng.randrange(1, len(words[i]) - 1)
    slip = rng.randrange(4)
    if slip == 0:
        word = word[:at] + word[at + 1 :]
    elif slip == 1:
        word = word[:at] + word[at] + word[at:]
    elif slip == 2:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    else:
        letters = _SYLLABLES if word[at] in _SYLLABLES else "bcdfghjklmnpqrstvwxyz"
        word = word[:at] + rng.choice(letters) + word[at + 1 :]
    words[i] = word
    return " ".join(words)


def _below(wordnet: WordNet, roots: Sequence[str]) -> Words:
    """Ordinary words below some meanings, where that meaning is among the two most usual ones of the word."""
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
    """Distinct parts of two words or more, the first nine words of longer ones."""
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
