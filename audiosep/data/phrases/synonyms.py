"""Test synonyms for the text tower: chosen by a fixed rule, and excluded from all training phrases.

The rule: 50 sound labels, each with its meaning in WordNet (`synonyms.json`). Candidates for a label are the other
words for that meaning and the words for the meanings directly below it, if

- the meaning is the most frequent one of the word, the word has at most three parts and is no proper or Latin name;
- it has no word in common with the label, so that spelling alone does not give it away ("toy dog");
- no caption of the corpus and no AudioSet label has it, in any inflected form;
- it is a candidate for one label only.

Of each label the first `limit` in the order of crc32 are taken, and three fixed pairs are added. The rule uses neither
the teacher nor the trained tower.
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
    """A synonym of a label.

    Args:
        word: the synonym.
        label: the label of the corpus.
    """

    word: str
    label: str


def synonym_labels() -> list[str]:
    """The 50 labels."""
    return list(_rule()["labels"])


def draw_synonyms(wordnet: WordNet, texts: Sequence[str], limit: int = 5) -> list[Synonym]:
    """Choose the synonyms, a pure function of the arguments.

    Args:
        wordnet: the dictionary.
        texts: captions and label names that the synonyms must not occur in.
        limit: most synonyms of one label.
    """
    rule = _rule()
    known = PhraseFilter(())
    used = known.word_sequences(texts)
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
    """Whether phrases contain one of some words, in any inflected form.

    Hyphens and spaces make no difference: "six-string" is also found as "sixstring".

    Args:
        words: words or phrases to find.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._forms = {form for word in words for form in _forms(word)}

    def __call__(self, phrase: str) -> bool:
        """Whether a phrase contains one of the words.

        Args:
            phrase: any phrase.
        """
        return not self._forms.isdisjoint(self.word_sequences([phrase]))

    @staticmethod
    def word_sequences(texts: Iterable[str]) -> set[str]:
        """All sequences of one to four words of some texts, joined without spaces.

        Args:
            texts: any texts.
        """
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
