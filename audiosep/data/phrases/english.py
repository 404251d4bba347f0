"""Inflection of English nouns and verbs, as far as phrases need it."""

from __future__ import annotations

_IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "mouse": "mice", "ox": "oxen", "knife": "knives", "wolf": "wolves", "leaf": "leaves",
    "calf": "calves", "hoof": "hooves", "loaf": "loaves", "wife": "wives", "sheep": "sheep", "fish": "fish",
    "deer": "deer", "aircraft": "aircraft", "piano": "pianos", "cello": "cellos", "radio": "radios",
    "banjo": "banjos", "video": "videos", "bass": "basses",
}  # fmt: skip
_DOUBLING = {
    "bat", "beg", "blot", "bob", "chat", "chop", "clap", "clip", "chug", "cut", "dab", "dig", "dip", "drag", "drip",
    "drop", "drum", "fan", "flap", "flip", "flop", "get", "grab", "grin", "hit", "hop", "hug", "hum", "jab", "jam",
    "jog", "jot", "knit", "knot", "let", "nap", "nod", "pat", "pet", "plan", "plod", "plop", "plug", "pop", "put",
    "rap", "rev", "rip", "rob", "rub", "run", "scrub", "set", "shut", "sip", "sit", "skip", "slam", "slap", "slip",
    "slit", "snap", "snip", "sob", "spin", "spit", "split", "spot", "squat", "stab", "step", "stir", "stop",
    "strum", "swim", "swat", "tap", "tip", "trap", "trip", "trot", "tug", "wag", "wrap", "yap", "zap", "zip",
}  # fmt: skip
_VOWELS = "aeiou"
# Words that begin with a vowel letter and a consonant sound, or the other way round.
_SPOKEN_VOWEL = ("hour", "honest", "heir", "honor", "mp3", "x-ray")
_SPOKEN_CONSONANT = ("uni", "use", "usu", "uku", "eu", "one", "once", "ute", "ufo")


def plural(noun: str) -> str:
    """The plural of a noun or noun phrase.

    Args:
        noun: its last word is inflected.
    """
    head, space, last = noun.rpartition(" ")
    if last in _IRREGULAR_PLURALS:
        last = _IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and len(last) > 1 and last[-2] not in _VOWELS:
        last = last[:-1] + "ies"
    else:
        last += "s"
    return head + space + last


def progressive(verb: str) -> str:
    """The -ing form of a verb or verb phrase.

    Args:
        verb: its first word is inflected.
    """
    first, space, rest = verb.partition(" ")
    if first.endswith("ie"):
        first = first[:-2] + "y"
    elif first.endswith("e") and not first.endswith(("ee", "oe", "ye")) and first != "be":
        first = first[:-1]
    elif first in _DOUBLING:
        first += first[-1]
    return first + "ing" + space + rest


def third_person(verb: str) -> str:
    """The third person singular of a verb or verb phrase.

    Args:
        verb: its first word is inflected.
    """
    first, space, rest = verb.partition(" ")
    return plural(first) + space + rest


def past(verb: str) -> str:
    """The regular past form of a verb or verb phrase.

    Args:
        verb: its first word is inflected.
    """
    first, space, rest = verb.partition(" ")
    if first.endswith("e"):
        first += "d"
    elif first.endswith("y") and len(first) > 1 and first[-2] not in _VOWELS:
        first = first[:-1] + "ied"
    else:
        first += (first[-1] if first in _DOUBLING else "") + "ed"
    return first + space + rest


def with_article(noun: str) -> str:
    """A noun with "a" or "an" before it.

    Args:
        noun: a noun or noun phrase.
    """
    word = noun.lower()
    vowel = word[:1] in _VOWELS and not word.startswith(_SPOKEN_CONSONANT)
    return ("an " if vowel or word.startswith(_SPOKEN_VOWEL) else "a ") + noun


def inflections(word: str) -> set[str]:
    """A word or phrase and its regular inflected forms, as a noun and as a verb.

    Args:
        word: a word or phrase.
    """
    return {word, plural(word), progressive(word), past(word), third_person(word)}
