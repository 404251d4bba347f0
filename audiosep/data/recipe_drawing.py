"""Drawing a validation recipe from the held-back clips of a corpus.

Groups of entries:

- a: two sources at 0 dB, every family;
- b: three to five sources;
- c: the queried sound is absent;
- d: speech in noise;
- e: four stems of held-back songs;
- f: the mixtures of a, queried with another recording of the sound;
- g: labels that are never trained on (zero-shot);
- h: collections that are neither trained on nor part of the prototypes (split "test").
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.manifest import STEMS, Clip
from audiosep.data.validation_recipe import Excerpt, RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.errors import DataError, counted
from audiosep.weights.configs import from_dict, to_dict

SECONDS = 5.0
SONG_SECONDS = 10.0
SOUND_FAMILIES = ("event", "ambience", "vocal-effect", "instrument", "speech", "music")
SIZES = {"a": 40, "b": 100, "c": 100, "d": 60, "g": 120, "h": 160}  # entries; of group a for each family
SEED = 20261120
_LEVEL_DB = -26.0  # RMS of a source at 0 dB, of full scale
_LEAST_ZERO_CLIPS = 8  # of a label in group g
_SHORTEST = 2.0  # seconds of a clip in group h
_EXCERPT_TRIES = 20
_AUDIBLE_RMS = 3e-3  # of an excerpt; below it another one is tried
_OTHER_TRIES = 1000


def draw_recipe(corpus: Corpus, seed: int = SEED) -> ValidationRecipe:
    """Draw a recipe; groups that the corpus has no clips for are left out, and so are mixtures of the target alone.

    Args:
        corpus: with splits; entries are made of the clips of the splits "val", "zero" and "test".
        seed: of all random choices.

    Raises:
        DataError: fewer than two labels are held back, or none that can be mixed and no song.
    """
    drawer = _Drawer(corpus, seed)
    two = drawer.two_sources()
    groups = [two, drawer.several_sources(), drawer.absent_sounds(), drawer.speech_in_noise(), drawer.songs()]
    groups += [[drawer.by_example(entry) for entry in two], drawer.zero_shot(), drawer.collections()]
    entries = tuple(entry for group in groups for entry in group if _is_mixture(entry))
    if not {"a", "e"} & {entry.group for entry in entries}:
        raise DataError(
            "of the held-back clips (split val) no two can be mixed, as the labels of all imply a common name: give "
            "clips of other sounds the split val in the manifest, or build it from more recordings of more sounds"
        )
    return ValidationRecipe(entries, corpus.sample_rate)


def _is_mixture(entry: RecipeEntry) -> bool:
    """Whether there is something beside the target; in a small corpus every other clip may be of the same kind."""
    return len(entry.target) < len(entry.sources)


class _Drawer:
    """Draws the groups one after the other from one random generator."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self.corpus, self.rng, self.table = corpus, np.random.default_rng(seed), label_table()
        self.audio = RecipeAudio(corpus)
        self.val = [clip for clip in corpus.clips if clip.split == "val"]
        self.zero = [clip for clip in corpus.clips if clip.split == "zero"]
        if (labels := len({clip.label for clip in self.val})) < 2:
            raise DataError(
                f"the held-back clips (split val) have {counted(labels, 'label')}, and a recipe mixes two: build the "
                "manifest from more recordings of more sounds, or give clips of other sounds the split val in it"
            )
        test = [clip for clip in corpus.clips if clip.split == "test" and self.audio.seconds(clip.id) >= _SHORTEST]
        own = sorted({clip.family for clip in self.val} - set(SOUND_FAMILIES))
        families = {f: [c for c in self.val if c.family == f] for f in (*SOUND_FAMILIES, *own)}
        self.known = tuple(family for family, clips in families.items() if clips)
        self.families = families | {"zero": self.zero, "test": test}

    # ---- groups ----------------------------------------------------------------------------------------------------

    def two_sources(self) -> list[RecipeEntry]:
        """Group a."""
        entries = []
        for family in self.known:
            for i in range(SIZES["a"]):
                clip = self._pick(self.families[family])
                others = self._others([clip], 1)
                entries.append(self._entry(f"a-{family}-{i}", "a", family, clip, others, [0.0, 0.0]))
        return entries

    def several_sources(self) -> list[RecipeEntry]:
        """Group b: three to five sources within +-5 dB."""
        entries = []
        for i in range(SIZES["b"]):
            family = self.known[self.rng.integers(len(self.known))]
            clip, count = self._pick(self.families[family]), int(self.rng.integers(2, 5))
            levels = [round(float(g), 2) for g in self.rng.uniform(-5, 5, count + 1)]
            entries.append(self._entry(f"b-{i}", "b", family, clip, self._others([clip], count), levels))
        return entries

    def absent_sounds(self) -> list[RecipeEntry]:
        """Group c: a query that matches none of the two or three sources."""
        entries = []
        for i in range(SIZES["c"]):
            clip = self._pick(self.families[self.known[self.rng.integers(len(self.known))]])
            others = self._others([clip], int(self.rng.integers(2, 4)))
            sources = tuple(self._excerpt(c, _LEVEL_DB + float(self.rng.integers(-3, 4))) for c in others)
            text = self._text(clip)
            entries.append(RecipeEntry(f"c-{i}", "c", clip.family, clip.label, text, SECONDS, sources, ()))
        return entries

    def speech_in_noise(self) -> list[RecipeEntry]:
        """Group d: speech at 0 or 5 dB over an event or ambience."""
        noises = [family for family in ("event", "ambience") if family in self.known]
        entries: list[RecipeEntry] = []
        for i in range(SIZES["d"] if noises and "speech" in self.known else 0):
            clip = self._pick(self.families["speech"])
            noise = self._others([clip], 1, noises)
            levels = [float(self.rng.choice([0.0, 5.0])), 0.0]
            entries.append(self._entry(f"d-{i}", "d", "speech", clip, noise, levels))
        return entries

    def songs(self) -> list[RecipeEntry]:
        """Group e: the stems of each song at their recorded balance, from a time when as many sound as can."""
        entries = []
        for song in sorted({clip.song for clip in self.val if clip.song}):
            clips = [clip for clip in self.val if clip.song == song]
            length = min(self.audio.seconds(clip.id) for clip in clips)
            start, heard = 0.0, [False] * len(clips)
            for _ in range(_EXCERPT_TRIES):
                tried = round(float(self.rng.uniform(0, max(0.0, length - SONG_SECONDS))), 3)
                there = [self._rms(clip, tried, SONG_SECONDS) > _AUDIBLE_RMS for clip in clips]
                if sum(there) > sum(heard):
                    start, heard = tried, there
                if all(there):
                    break
            sources = tuple(Excerpt(clip.id, start, clip.gain_db) for clip in clips)
            for stem in STEMS:
                target = tuple(i for i, clip in enumerate(clips) if clip.stem == stem)
                if any(heard[i] for i in target):  # silence cannot be separated well or badly
                    name = f"e-{song}-{stem}"
                    entries.append(RecipeEntry(name, "e", "stems", stem, stem, SONG_SECONDS, sources, target))
        return entries

    def by_example(self, entry: RecipeEntry) -> RecipeEntry:
        """Group f: an entry with another recording of the sound, of another group if there is one, as its query."""
        target = self.audio.clip(entry.sources[0].clip)
        same = [c for c in self.corpus.clips if c.label == target.label and c.id != target.id]
        same = [c for c in same if c.split in ("val", "zero")] or same
        clips = [c for c in same if c.group != target.group] or same or [target]
        example = self._excerpt(clips[zlib.crc32(entry.id.encode()) % len(clips)], _LEVEL_DB)
        values = to_dict(entry) | {"id": "f" + entry.id[1:], "group": "f", "example": to_dict(example)}
        return from_dict(RecipeEntry, values)

    def zero_shot(self) -> list[RecipeEntry]:
        """Group g: two sources at 0 dB, the target of a label never trained on, in every other round both of them."""
        labels = sorted({clip.label for clip in self.zero if clip.family == "event"})
        chosen = [label for label in labels if sum(c.label == label for c in self.zero) >= _LEAST_ZERO_CLIPS]
        entries = []
        for i in range(SIZES["g"] if chosen else 0):
            clip = self._pick([c for c in self.zero if c.label == chosen[i % len(chosen)]])
            others = self._others([clip], 1, ("zero",) if (i // len(chosen)) % 2 else self.known)
            entries.append(self._entry(f"g-{i}", "g", "event", clip, others, [0.0, 0.0]))
        return entries

    def collections(self) -> list[RecipeEntry]:
        """Group h: two sources at 0 dB, both from collections that are held back as a whole."""
        entries = []
        for i in range(SIZES["h"] if len({clip.label for clip in self.families["test"]}) > 1 else 0):
            clip = self._pick(self.families["test"])
            others = self._others([clip], 1, ("test",))
            entries.append(self._entry(f"h-{i}", "h", clip.family, clip, others, [0.0, 0.0]))
        return entries

    # ---- clips, excerpts and texts ---------------------------------------------------------------------------------

    def _pick(self, clips: Sequence[Clip]) -> Clip:
        """A clip: a uniformly drawn label, then a uniformly drawn clip of it."""
        labels = sorted({c.label for c in clips})
        label = labels[self.rng.integers(len(labels))]
        return (same := [c for c in clips if c.label == label])[self.rng.integers(len(same))]

    def _others(self, taken: list[Clip], count: int, families: Sequence[str] = ()) -> list[Clip]:
        """`count` more clips, fewer if the corpus has no more, with labels that do not conflict."""
        out, families = list(taken), families or self.known
        for _ in range(_OTHER_TRIES):
            if len(out) == len(taken) + count:
                break
            clip = self._pick(self.families[families[int(self.rng.integers(len(families)))]])
            if not any(self._conflict(clip, other) for other in out):
                out.append(clip)
        return out[len(taken) :]

    def _conflict(self, a: Clip, b: Clip) -> bool:
        return self.table.conflict(a.label, b.label) or bool(a.song and a.song == b.song)

    def _excerpt(self, clip: Clip, level_db: float) -> Excerpt:
        """An excerpt that is not silent, at an RMS level in dB of full scale."""
        length = self.audio.seconds(clip.id)
        for _ in range(_EXCERPT_TRIES):
            start = round(float(self.rng.uniform(0, max(0.0, length - SECONDS))), 3)
            rms = self._rms(clip, start, SECONDS)
            if rms > _AUDIBLE_RMS:
                break
        return Excerpt(clip.id, start, round(level_db - 20 * float(np.log10(max(rms, 1e-4))), 3))

    def _rms(self, clip: Clip, start: float, seconds: float) -> float:
        return float(self.audio.excerpt(Excerpt(clip.id, start, 0.0), seconds).square().mean().sqrt())

    def _text(self, clip: Clip) -> str:
        return clip.texts[self.rng.integers(len(clip.texts))]

    def _entry(
        self, name: str, group: str, family: str, clip: Clip, others: list[Clip], levels: list[float]
    ) -> RecipeEntry:
        """An entry whose target is `clip`; levels of all sources in dB."""
        # Fewer others than levels where the corpus has no more.
        sources = tuple(self._excerpt(c, _LEVEL_DB + g) for c, g in zip([clip, *others], levels, strict=False))
        return RecipeEntry(name, group, family, clip.label, self._text(clip), SECONDS, sources, (0,))
