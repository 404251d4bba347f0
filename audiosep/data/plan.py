"""A plan: everything random about a batch of mixtures, as plain numbers; rendering it is deterministic."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiosep.data.augment import Effects, Image
from audiosep.data.stretch import SPEED_STEP


@dataclass(frozen=True)
class Piece:
    """A segment of one clip in one source.

    Attributes:
        clip: number in the corpus.
        start, length: samples of the clip.
        at: sample of the source where the piece begins.
        speed: of resampling, in units of 1 / SPEED_STEP. tempo: of stretching after it, in the same units.
    """

    clip: int
    start: int
    length: int
    at: int
    speed: int = SPEED_STEP
    tempo: int = SPEED_STEP


@dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
        pieces: segments that sound together; the first names the source.
        gain_db: level in the mixture: relative to a common RMS, or to the recorded level (`recorded`).
        recorded: keep the recorded level, as the stems of a song must.
        effects: applied to the sum of the pieces.
        image: its place in a stereo mixture.
    """

    pieces: tuple[Piece, ...]
    gain_db: float = 0.0
    recorded: bool = False
    effects: Effects = field(default_factory=Effects)
    image: Image | None = None

    @property
    def clip(self) -> int:
        return self.pieces[0].clip


@dataclass(frozen=True)
class Mixture:
    """Sources that sound together.

    Attributes:
        sources: the sources.
        peak: peak of the rendered mixture, of full scale.
        song: the sources are stems, whose membership the fixed heads learn.
        cutoff: Hz; some source has nothing above it.
    """

    sources: tuple[Source, ...]
    peak: float
    song: bool
    cutoff: float


@dataclass(frozen=True)
class Ask:
    """One query.

    Attributes:
        mixture: its mixture. members: sources that are its target; none = the sound is absent.
        caption: text. negative: text of what to keep out.
        label, family: what is asked for, for scores by label.
        example: another recording of the sound, to ask with.
    """

    mixture: int
    members: tuple[int, ...]
    caption: str
    negative: str | None
    label: str
    family: str
    example: Source | None = None


@dataclass(frozen=True)
class Plan:
    """A batch: mixtures of `samples` samples and `channels` channels (1 or 2), and their queries."""

    samples: int
    mixtures: tuple[Mixture, ...]
    asks: tuple[Ask, ...]
    channels: int = 1
