"""The plan of a batch: everything random about its mixtures, as plain numbers; rendering a plan is deterministic."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiosep.data.augment import Effects, StereoImage
from audiosep.data.stretch import SPEED_STEP


@dataclass(frozen=True)
class Segment:
    """A segment of one clip in one source.

    Args:
        clip: number of the clip in the corpus.
        start: first sample of the clip.
        length: samples of the clip.
        at: sample of the source where the segment begins.
        speed: of resampling, in units of 1 / SPEED_STEP.
        tempo: of time-stretching after resampling, in units of 1 / SPEED_STEP.
    """

    clip: int
    start: int
    length: int
    at: int
    speed: int = SPEED_STEP
    tempo: int = SPEED_STEP


@dataclass(frozen=True)
class PlannedSource:
    """One source of a mixture.

    Args:
        segments: segments that are added up; label and stem are those of the first one's clip.
        gain_db: gain in the mixture, dB: relative to a common RMS, or to the recorded level (`recorded`).
        recorded: keep the recorded level, as the stems of a song need it.
        effects: applied to the sum of the segments.
        image: stereo image; None in mono mixtures.
    """

    segments: tuple[Segment, ...]
    gain_db: float = 0.0
    recorded: bool = False
    effects: Effects = field(default_factory=Effects)
    image: StereoImage | None = None

    @property
    def clip(self) -> int:
        """Number of the first segment's clip in the corpus."""
        return self.segments[0].clip


@dataclass(frozen=True)
class PlannedMixture:
    """One mixture.

    Args:
        sources: the sources that are added up.
        peak: peak of the rendered mixture, 1.0 = full scale.
        song: the sources are stems of songs, so that the stem outputs can be trained with them.
        cutoff: the lowest bandwidth of the sources, Hz; at least one source has no content above it.
    """

    sources: tuple[PlannedSource, ...]
    peak: float
    song: bool
    cutoff: float


@dataclass(frozen=True)
class PlannedQuery:
    """One query to one mixture.

    Args:
        mixture: number of the mixture in the batch.
        members: the sources that are the target; empty when the queried sound is absent.
        caption: text of the query.
        negative: text of a sound to keep out of the target, or None.
        label: label of the target, for scores by label.
        family: family of the target, for scores by family.
        example: another recording of the target, for a query by audio, or None.
    """

    mixture: int
    members: tuple[int, ...]
    caption: str
    negative: str | None
    label: str
    family: str
    example: PlannedSource | None = None


@dataclass(frozen=True)
class BatchPlan:
    """The mixtures and queries of a batch.

    Args:
        samples: length of each mixture.
        mixtures: the mixtures.
        queries: the queries, mixture by mixture.
        channels: 1 or 2.
    """

    samples: int
    mixtures: tuple[PlannedMixture, ...]
    queries: tuple[PlannedQuery, ...]
    channels: int = 1
