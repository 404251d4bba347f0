"""Synonyms that training never shows: drawn by a fixed rule, and kept out of every training phrase.

The rule: 50 sound labels, each with its meaning in WordNet (`synonyms.json`). Candidates of a label are the other
words for that meaning and the words of the meanings directly below it, where

- the meaning is the word's most usual one, the word has three words at most, and no proper or Latin name;
- no word of it is a word of the label, so that it cannot be found by spelling alone ("toy dog");
- it occurs in no caption of the corpus and no AudioSet label, in no inflected form;
- it is no synonym of two labels.

Of each label the first `limit` by crc32 are taken, and the three that the requirement names are added. Nothing about
the teacher or the student enters.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from audiosep.data.phrases.english import inflections
from audiosep.data.phrases.wordnet import Synset, WordNet

_SEPARATORS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Synonym:
    """`word` asks for the sound that the corpus calls `label`."""

    word: str
    label: str


def synonym_labels() -> list[str]:
    """The 50 labels."""
    return list(_rule()["labels"])


def draw_synonyms(wordnet: WordNet, texts: Sequence[str], limit: int = 5) -> list[Synonym]:
    """The pairs, a pure function of the arguments.

    Args:
        texts: captions and label names that the synonyms must not occur in.
        limit: pairs of one label at most.
    """
    rule = _rule()
    known = PhraseFilter(())
    used = known.windows(texts)
    owners: dict[str, set[str]] = {}
    for label, sense in rule["labels"].items():
        for word in _candidates(wordnet, wordnet.sense(sense)):
            if not set(_words(word)) & set(_words(label)) and not _forms(word) & used:
                owners.setdefault(word, set()).add(label)
    drawn = [Synonym(word, label) for word, label in rule["named"].items()]
    named = {pair.word for pair in drawn}
    for label in rule["labels"]:
        words = [word for word, labels in owners.items() if labels == {label} and word not in named]
        words.sort(key=lambda word: zlib.crc32(word.encode()))
        drawn += [Synonym(word, label) for word in words[:limit]]
    return drawn


class PhraseFilter:
    """Tells phrases that contain one of some words or phrases, in any inflected form, spelling apart.

    Hyphens and spaces are the same, and "six-string" is also found as "sixstring".
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._forms = {form for word in words for form in _forms(word)}

    def __call__(self, phrase: str) -> bool:
        """Whether `phrase` contains one of them."""
        return not self._forms.isdisjoint(self.windows([phrase]))

    @staticmethod
    def windows(texts: Iterable[str]) -> set[str]:
        """All runs of one to four words of the texts, written together."""
        found: set[str] = set()
        for text in texts:
            words = _words(text)
            for start in range(len(words)):
                found.update("".join(words[start:end]) for end in range(start + 1, min(start + 4, len(words)) + 1))
        return found


def _rule() -> dict[str, dict[str, str]]:
    rule: dict[str, dict[str, str]] = json.loads(
        files(__package__).joinpath("synonyms.json").read_text(encoding="utf-8")
    )
    return rule


def _candidates(wordnet: WordNet, synset: Synset) -> list[str]:
    meanings = [synset, *(wordnet.synsets[key] for key in synset.hyponyms)]
    found: dict[str, None] = {}
    for meaning in meanings:
        for lemma in meaning.lemmas:
            proper = not re.fullmatch(r"[a-z][a-z\- ]+", lemma) or lemma.count(" ") > 2
            if not proper and wordnet.rank(lemma, meaning) == 0:
                found.setdefault(lemma)
    return list(found)


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text.lower().replace("'", "")) if word]


def _forms(word: str) -> set[str]:
    return {"".join(_words(form)) for form in inflections(word)}
