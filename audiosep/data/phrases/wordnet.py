"""Reading the WordNet 3.0 database files (`wndb(5)`), as Debian's package `wordnet` installs them.

The files are not part of this package. Princeton University's licence allows use, copying and distribution for any
purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from audiosep.errors import DataError

FOLDER = Path("/usr/share/wordnet")
_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_HYPONYMS = ("~", "~i")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_EXAMPLE = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Synset:
    """One meaning, and the words for it.

    Args:
        key: part of speech and byte offset, e.g. "n02084071".
        lemmas: the words, with spaces for underscores.
        hyponyms: keys of the meanings directly below this one.
        definition: its definition.
        examples: usage examples.
    """

    key: str
    lemmas: tuple[str, ...]
    hyponyms: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class WordNet:
    """All meanings and words.

    Args:
        synsets: key -> meaning.
        senses: "word.part" -> keys in WordNet's order, most frequent first.
        familiar: words that occur in WordNet's sense-tagged texts.
    """

    synsets: dict[str, Synset]
    senses: dict[str, tuple[str, ...]] = field(repr=False)
    familiar: frozenset[str] = field(repr=False)

    @classmethod
    def read(cls, folder: Path = FOLDER) -> WordNet:
        """Read the database.

        Args:
            folder: of `data.*` and `index.*`.

        Raises:
            DataError: a file is missing.
        """
        synsets: dict[str, Synset] = {}
        senses: dict[str, tuple[str, ...]] = {}
        familiar: set[str] = set()
        for part, name in _FILES.items():
            for line in _lines(folder / f"data.{name}"):
                synset = _synset(line, part)
                synsets[synset.key] = synset
            for line in _lines(folder / f"index.{name}"):
                fields = line.split()
                word, count = fields[0].replace("_", " "), int(fields[2])
                senses[f"{word}.{part}"] = tuple(part + offset for offset in fields[-count:])
                if int(fields[-count - 1]):
                    familiar.add(word)
        return cls(synsets, senses, frozenset(familiar))

    def of(self, word: str, part: str = "n") -> tuple[Synset, ...]:
        """The meanings of a word, most frequent first.

        Args:
            word: in base form; an unknown one has no meanings.
            part: of speech: n, v, a or r.
        """
        return tuple(self.synsets[key] for key in self.senses.get(f"{word.lower()}.{part}", ()))

    def sense(self, name: str) -> Synset:
        """The meaning with a name.

        Args:
            name: word.part.number, for example "dog.n.1".

        Raises:
            DataError: there is no such meaning.
        """
        word, part, number = name.rsplit(".", 2)
        found = self.of(word.replace("_", " "), part)
        if not 1 <= int(number) <= len(found):
            raise DataError(f"WordNet has no sense {name!r}")
        return found[int(number) - 1]

    def below(self, roots: Iterable[Synset]) -> list[Synset]:
        """The roots and all meanings below them, each once, breadth first.

        Args:
            roots: where to begin.
        """
        seen: dict[str, Synset] = {}
        queue = list(roots)
        for synset in queue:
            if synset.key not in seen:
                seen[synset.key] = synset
                queue.extend(self.synsets[key] for key in synset.hyponyms)
        return list(seen.values())

    @cached_property
    def first(self) -> dict[str, int]:
        """For each "word key", the rank of that meaning among the word's meanings (0 = most frequent)."""
        return {
            f"{word.rsplit('.', 1)[0]} {key}": rank
            for word, keys in self.senses.items()
            for rank, key in enumerate(keys)
        }

    def rank(self, lemma: str, synset: Synset) -> int:
        """Rank of a meaning among those of a word; 0 = most frequent.

        Args:
            lemma: the word.
            synset: the meaning.
        """
        return self.first[f"{lemma.lower()} {synset.key}"]


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise DataError(f"{path} is missing: install WordNet 3.0 (Debian: apt install wordnet)")
    with path.open(encoding="utf-8") as file:
        # The licence at the head of each file is indented by two spaces.
        yield from (line for line in file if not line.startswith("  "))


def _synset(line: str, part: str) -> Synset:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    count = int(fields[3], 16)
    lemmas = tuple(_MARKER.sub("", fields[4 + 2 * i]).replace("_", " ") for i in range(count))
    start = 5 + 2 * count
    pointers = [fields[start + 4 * i : start + 4 * i + 3] for i in range(int(fields[start - 1]))]
    hyponyms = tuple(kind + offset for symbol, offset, kind in pointers if symbol in _HYPONYMS)
    definition = _EXAMPLE.sub("", gloss).strip(" ;\n")
    examples = tuple(text.strip() for text in _EXAMPLE.findall(gloss))
    return Synset(part + fields[0], lemmas, hyponyms, definition, examples)
