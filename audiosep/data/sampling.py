"""Drawing batches: sources, levels, effects and queries, as a pure function of (seed, step, rank)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audiosep.data.augment import AugmentConfig, Effects, StereoImage, draw_effects, draw_speed, draw_stereo_image
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import STEMS
from audiosep.data.mixture_plan import BatchPlan, PlannedMixture, PlannedQuery, PlannedSource, Segment
from audiosep.data.queries import QueryBuilder, TextQuery
from audiosep.data.stretch import SPEED_STEP
from audiosep.errors import ConfigError, DataError

_SEGMENT_TRIES = 3
_SEGMENT_LEVEL = 0.05  # power of a segment relative to that of its clip, from which no other segment is tried
_AUDIBLE_LEVEL = 0.005  # power of a segment relative to that of its clip, above which it can be queried
_AUDIBLE_POWER = 1e-7  # and above this power: -70 dB of full scale
_MOST_STEMS = 6  # of a song in one mixture


@dataclass(frozen=True)
class SamplingConfig:
    """What batches consist of.

    Args:
        mixtures: mixtures of a batch.
        seconds: length of each mixture.
        longer: share of batches with half as many mixtures, twice as long.
        queries: most queries of one mixture, absent targets not counted.
        sources: weights of mixtures of 2, 3, 4 and 5 sources.
        families: weight of each family; 0 leaves one out, families that the corpus does not have are ignored, and one
            that is not named has the mean of the weights of those that are.
        label_seconds: labels of a family have equal weight from this much audio on, proportionally less below it.
        songs: share of mixtures that are stems of one song.
        mixed_songs: share of mixtures that are stems of different songs.
        level_db: gains of independent sources, dB: a range (uniform) or a standard deviation (gaussian), see `levels`.
        levels: distribution of these gains.
        song_level_db: range of the gains around the balance of a song, dB.
        equal: share of mixtures in which two clips of one label are one target.
        siblings: share of mixtures in which siblings (male and female speech) may be different sources.
        mix_audio: share of sources made of two segments of one recording (Kong et al., ResUNetDecouple+, 2021).
        absent: share of mixtures with a query for an absent sound.
        negatives: share of queries with a negative.
        examples: share of queries with an example recording, absent sounds included.
        stem_captions: share of queries in songs that are for a whole stem.
        split: the split that clips are drawn from.
        channels: 1, or 2 for stereo mixtures, in which every source has a random stereo image.
        augment: effects on the sources.
    """

    mixtures: int = 12
    seconds: float = 3.0
    longer: float = 0.0
    queries: int = 2
    sources: tuple[float, float, float, float] = (0.55, 0.25, 0.13, 0.07)
    families: dict[str, float] = field(
        default_factory=lambda: {
            "speech": 0.16,
            "event": 0.40,
            "vocal-effect": 0.07,
            "singing": 0.07,
            "ambience": 0.10,
            "instrument": 0.15,
            "music": 0.12,
        }
    )
    label_seconds: float = 15.0
    songs: float = 0.17
    mixed_songs: float = 0.05
    level_db: float = 5.0
    levels: Literal["uniform", "gaussian"] = "uniform"
    song_level_db: float = 6.0
    equal: float = 0.04
    siblings: float = 0.05
    mix_audio: float = 0.05
    absent: float = 0.1
    negatives: float = 0.15
    examples: float = 0.25
    stem_captions: float = 0.35
    split: str = "train"
    channels: Literal[1, 2] = 1
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name in ("mixtures", "seconds", "queries", "label_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"sampling.{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("longer", "songs", "mixed_songs", "equal", "siblings", "mix_audio", "absent", "negatives",
                     "examples", "stem_captions"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"sampling.{name} is a share and must lie in 0..1, got {getattr(self, name)}")
        for name, weights in (("sources", self.sources), ("families", tuple(self.families.values()))):
            if any(weight < 0 for weight in weights) or (name == "sources" and not any(weights)):
                raise ConfigError(f"sampling.{name}: weights must not be negative, and not all 0, got {weights}")
        if self.level_db < 0 or self.song_level_db < 0:
            raise ConfigError("sampling.level_db and song_level_db must not be negative")


class Sampler:
    """Draws the plans of batches.

    Args:
        corpus: the clips; only those of `config.split` are drawn.
        config: what batches consist of.
        seed: of all random choices.

    Raises:
        DataError: the corpus has fewer than two labels in that split.
    """

    def __init__(self, corpus: Corpus, config: SamplingConfig, seed: int = 0) -> None:
        self.corpus, self.config, self.seed = corpus, config, seed
        rows = [i for i, clip in enumerate(corpus.clips) if clip.split == config.split]
        self.query_builder = QueryBuilder([corpus.clips[i] for i in rows], rows)
        self.by_label: dict[str, list[int]] = defaultdict(list)
        self.songs: dict[str, list[int]] = defaultdict(list)
        self.stems: dict[str, list[int]] = defaultdict(list)
        pools: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i in rows:
            clip = corpus.clips[i]
            self.by_label[clip.label].append(i)
            pools[clip.family][clip.label].append(i)
            if clip.song and clip.stem:
                self.songs[clip.song].append(i)
                self.stems[clip.stem].append(i)
        if len(self.by_label) < 2:
            raise DataError(f"mixtures need two labels in split {config.split!r}; the corpus has {len(self.by_label)}")
        self._song_names = [name for name, stems in sorted(self.songs.items()) if len(stems) > 1]
        self._pools = {family: [pools[family][label] for label in sorted(pools[family])] for family in sorted(pools)}
        self._label_weights = {family: self._weights(labels) for family, labels in self._pools.items()}
        self._family_weights = _family_weights(config.families, self._pools)
        counts = np.array(config.sources, float)
        self._counts = counts / counts.sum()

    def plan(self, step: int, rank: int = 0) -> BatchPlan:
        """The plan of a batch, a pure function of the seed and the arguments.

        Args:
            step: of the training.
            rank: of this process.
        """
        rng = np.random.default_rng([self.seed, step, rank])
        samples, count = round(self.config.seconds * self.corpus.sample_rate), self.config.mixtures
        if self.config.longer and rng.random() < self.config.longer:
            samples, count = 2 * samples, max(1, count // 2)
        mixtures: list[PlannedMixture] = []
        queries: list[PlannedQuery] = []
        for number in range(count):
            kind = rng.random()
            if self._song_names and kind < self.config.songs:
                sources = self._song(rng, samples)
            elif len(self.stems) > 1 and kind < self.config.songs + self.config.mixed_songs:
                sources = self._mixed_song(rng, samples)
            else:
                sources = self._scene(rng, samples)
            mixtures.append(self._mixture(rng, sources))
            queries += self._queries(rng, number, sources, mixtures[-1].song, samples)
        return BatchPlan(samples, tuple(mixtures), tuple(queries), self.config.channels)

    def _mixture(self, rng: np.random.Generator, sources: tuple[PlannedSource, ...]) -> PlannedMixture:
        peak = float(rng.uniform(0.1, 0.9))
        return PlannedMixture(sources, peak, sources[0].recorded, min(self._cutoff(source) for source in sources))

    # ---- sources ---------------------------------------------------------------------------------------------------

    def _pick(self, rng: np.random.Generator) -> int:
        family = list(self._pools)[rng.choice(len(self._family_weights), p=self._family_weights)]
        labels = self._pools[family]
        label = labels[rng.choice(len(labels), p=self._label_weights[family])]
        return label[rng.integers(len(label))]

    def _weights(self, labels: list[list[int]]) -> NDArray[np.float64]:
        seconds = np.array([self.corpus.lengths[label].sum() / self.corpus.sample_rate for label in labels])
        weights = np.minimum(seconds, self.config.label_seconds)
        normalised: NDArray[np.float64] = weights / weights.sum()
        return normalised

    def _scene(self, rng: np.random.Generator, samples: int, first: int | None = None) -> tuple[PlannedSource, ...]:
        """Independent sources of different labels; sometimes two clips of one label. `first`: clip of the first."""
        count = 2 + int(rng.choice(len(self._counts), p=self._counts))
        clips = [self._pick(rng) if first is None else first]
        if rng.random() < self.config.equal:
            clips += self._other_recording(rng, clips[0], clips)
            count = max(count, len(clips) + 1)
        siblings = rng.random() < self.config.siblings
        for _ in range(20 * count):
            if len(clips) == count:
                break
            clip = self._pick(rng)
            if all(self.query_builder.separable(clip, other, siblings) for other in clips):
                clips.append(clip)
        return tuple(self._source(rng, clip, samples) for clip in clips)

    def _other_recording(self, rng: np.random.Generator, clip: int, used: Collection[int]) -> list[int]:
        """A clip of the same label that is not in use, of another group if there is one; empty if there is none."""
        clips = self.corpus.clips
        same = [i for i in self.by_label[clips[clip].label] if i not in used]
        better = [i for i in same if clips[i].group != clips[clip].group or not clips[i].group]
        pool = better or same
        return [pool[rng.integers(len(pool))]] if pool else []

    def _source(self, rng: np.random.Generator, clip: int, samples: int) -> PlannedSource:
        config = self.config
        speed, tempo = draw_speed(rng, config.augment)
        segments = [self._segment(rng, clip, samples, speed, tempo)]
        if rng.random() < config.mix_audio:
            segments.append(self._segment(rng, clip, samples, speed, tempo))
        gaussian = config.levels == "gaussian"
        gain = rng.normal(0, config.level_db) if gaussian else rng.uniform(-config.level_db, config.level_db)
        effects = draw_effects(rng, config.augment)
        return PlannedSource(tuple(segments), float(gain), effects=effects, image=self._image(rng))

    def _image(self, rng: np.random.Generator) -> StereoImage | None:
        return draw_stereo_image(rng) if self.config.channels == 2 else None

    def _segment(
        self, rng: np.random.Generator, clip: int, samples: int, speed: int = SPEED_STEP, tempo: int = SPEED_STEP
    ) -> Segment:
        length = int(self.corpus.lengths[clip])
        need = _needed(samples, speed, tempo)
        if length < need:
            free = samples - length * SPEED_STEP // speed * SPEED_STEP // tempo
            return Segment(clip, 0, length, int(rng.integers(0, max(free, 0) + 1)), speed, tempo)
        return Segment(clip, self._start(rng, [clip], need), need, 0, speed, tempo)

    def _start(self, rng: np.random.Generator, clips: list[int], need: int) -> int:
        """First sample of a segment: of the first of three random segments that is not much quieter than its clip."""
        length = int(self.corpus.lengths[clips].min())
        envelope = self.corpus.envelope(clips[0])
        start = 0
        for _ in range(_SEGMENT_TRIES):
            start = int(rng.integers(0, max(1, length - need)))
            part = envelope[start // self.corpus.block : (start + need) // self.corpus.block + 1]
            if part.mean() > _SEGMENT_LEVEL * envelope.mean():
                break
        return start

    def _song(self, rng: np.random.Generator, samples: int) -> tuple[PlannedSource, ...]:
        """Random stems of one song, all from the same time and at one speed."""
        stems = self.songs[self._song_names[rng.integers(len(self._song_names))]]
        most = min(len(stems), _MOST_STEMS)
        count = most if rng.random() < 0.5 else int(rng.integers(2, most + 1))
        clips = [stems[i] for i in rng.permutation(len(stems))[:count]]
        speed = self._song_speed(rng)
        need = _needed(samples, speed)
        start = self._start(rng, clips, need)
        return tuple(self._stem(rng, clip, start, need, speed) for clip in clips)

    def _mixed_song(self, rng: np.random.Generator, samples: int) -> tuple[PlannedSource, ...]:
        """One clip of each stem, each from any song."""
        present = [stem for stem in STEMS if stem in self.stems]
        order = [present[i] for i in rng.permutation(len(present))]
        chosen = order[: int(rng.integers(2, len(order) + 1))]
        speed = self._song_speed(rng)
        need = _needed(samples, speed)
        sources = []
        for stem in chosen:
            clip = self.stems[stem][rng.integers(len(self.stems[stem]))]
            sources.append(self._stem(rng, clip, self._start(rng, [clip], need), need, speed))
        return tuple(sources)

    def _stem(self, rng: np.random.Generator, clip: int, start: int, need: int, speed: int) -> PlannedSource:
        jitter = rng.uniform(-self.config.song_level_db, self.config.song_level_db)
        gain = self.corpus.clips[clip].gain_db + float(jitter)
        effects = Effects(polarity=-1.0 if rng.random() < self.config.augment.polarity else 1.0)
        return PlannedSource((Segment(clip, start, need, 0, speed),), gain, True, effects, self._image(rng))

    def _song_speed(self, rng: np.random.Generator) -> int:
        """One speed for all stems; no time-stretching, which would shift them against each other."""
        speed, tempo = draw_speed(rng, self.config.augment)
        return speed if tempo == SPEED_STEP else SPEED_STEP

    def _cutoff(self, source: PlannedSource) -> float:
        """Bandwidth of a source in Hz: of its recording, scaled by the speed, or of its low-pass filter."""
        nyquist = self.corpus.sample_rate / 2
        rate = self.corpus.clips[source.clip].source_rate
        # Decoding at the corpus' sample rate removed what was above its Nyquist frequency, before the speed changes.
        recorded = min(rate / 2 if rate else nyquist, nyquist) * source.segments[0].speed / SPEED_STEP
        return min(nyquist, recorded, source.effects.lowpass or nyquist)

    # ---- queries ---------------------------------------------------------------------------------------------------

    def _queries(
        self, rng: np.random.Generator, mixture: int, sources: tuple[PlannedSource, ...], song: bool, samples: int
    ) -> list[PlannedQuery]:
        """Queries for up to `queries` different targets of a mixture, and sometimes for an absent sound."""
        clips = [source.clip for source in sources]
        audible = self._audible(sources)
        builder = self.query_builder
        queries: list[PlannedQuery] = []
        for i in rng.permutation(len(sources)):
            if len(queries) == self.config.queries:
                break
            by_stem = song and rng.random() < self.config.stem_captions
            query = builder.stem_query(rng, clips, int(i)) if by_stem else builder.source_query(rng, clips, int(i))
            taken = {planned.members for planned in queries}
            if query is None or query.members in taken or len(query.members) == len(sources):
                continue
            if not any(audible[m] for m in query.members):
                continue
            queries.append(self._complete(rng, mixture, clips, int(i), query, samples))
        if rng.random() < self.config.absent:
            absent = builder.absent_query(rng, clips, self._pick, song)
            if absent is not None:
                clip, caption = absent
                info = self.corpus.clips[clip]
                with_example = rng.random() < self.config.examples
                example = PlannedSource((self._segment(rng, clip, samples),)) if with_example else None
                # As often as for sounds that are there, or a negative would tell that one is.
                negative = builder.negative_text(rng, clips, ()) if rng.random() < self.config.negatives else None
                queries.append(PlannedQuery(mixture, (), caption, negative, info.label, info.family, example))
        return queries

    def _complete(
        self, rng: np.random.Generator, mixture: int, clips: list[int], source: int, query: TextQuery, samples: int
    ) -> PlannedQuery:
        """A text query for a source, with a negative and an example if the draw says so."""
        info = self.corpus.clips[clips[source]]
        negative = None
        if rng.random() < self.config.negatives:
            negative = self.query_builder.negative_text(rng, clips, query.members)
        example = None
        if rng.random() < self.config.examples:
            others = self._other_recording(rng, clips[source], clips) or [clips[source]]
            example = PlannedSource((self._segment(rng, others[0], samples),))
        return PlannedQuery(mixture, query.members, query.caption, negative, info.label, info.family, example)

    def _audible(self, sources: tuple[PlannedSource, ...]) -> list[bool]:
        """Which sources are audible in their segment; stems of a song may pause there."""
        out = []
        for source in sources:
            segment, envelope = source.segments[0], self.corpus.envelope(source.clip)
            block = self.corpus.block
            part = envelope[segment.start // block : (segment.start + segment.length) // block + 1]
            out.append(bool(part.mean() > max(_AUDIBLE_POWER, _AUDIBLE_LEVEL * envelope.mean())))
        return out


def _family_weights(given: Mapping[str, float], families: Collection[str]) -> NDArray[np.float64]:
    """The probability of each family of a corpus; equal ones where none has a weight."""
    weighted = [given[family] for family in families if given.get(family)]
    # A corpus may have families of its own: left out, none of their clips would ever be trained on.
    usual = sum(weighted) / len(weighted) if weighted else 1.0
    weights = np.array([given.get(family, usual) for family in families])
    return weights / weights.sum() if weights.any() else np.full(len(weights), 1 / len(weights))


def _needed(samples: int, speed: int, tempo: int = SPEED_STEP) -> int:
    """Samples of a clip that become `samples` samples at a speed and a tempo."""
    return (samples * tempo // SPEED_STEP + 1) * speed // SPEED_STEP + 1
