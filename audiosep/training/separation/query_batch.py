"""A training batch of mixtures with their queries: text embeddings, recordings, blends of both, negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.data.mixing import MixtureBatch
from audiosep.models.audio_tower import AudioTower
from audiosep.training.caption_table import CaptionTable
from audiosep.training.separation.separation_config import SeparationOptions

TEXT, AUDIO, BLEND = range(3)


@dataclass
class QueryBatch:
    """A batch of mixtures with its queries as embeddings.

    Attributes:
        mixtures: the mixtures.
        text: (queries, dimension) embeddings.
        negative: (queries, dimension) embeddings, zeros for no negative.
        kind: (queries,) `TEXT`, `AUDIO` or `BLEND`.
        keep: (queries, 1) 0 if the embedding is dropped.
        cut: (mixtures,) whether the input is cut off at the mixture's cutoff.
        refinements: runs of the decoder before the one that is trained.
        levels: (mixtures, sources) gains of the sources; None for the levels they were rendered at.
    """

    mixtures: MixtureBatch
    text: Tensor
    negative: Tensor
    kind: Tensor
    keep: Tensor
    cut: Tensor
    refinements: int = 0
    levels: Tensor | None = None

    def to(self, device: torch.device) -> QueryBatch:
        """Return the batch on another device."""
        moved = {k: getattr(self, k).to(device) for k in ("text", "negative", "kind", "keep", "cut")}
        levels = None if self.levels is None else self.levels.to(device)
        return replace(self, mixtures=self.mixtures.to(device), levels=levels, **moved)

    def draw_levels(self, most_db: float, generator: torch.Generator) -> None:
        """Draw other levels of the sources.

        Args:
            most_db: largest change, dB, up or down.
            generator: of the random numbers.
        """
        change = (2 * torch.rand(self.mixtures.sources.shape[:2], generator=generator) - 1) * most_db
        self.levels = 10 ** (change / 20)

    def leveled(self) -> MixtureBatch:
        """Return the mixtures with their sources at these levels."""
        if self.levels is None:
            return self.mixtures
        sources = self.mixtures.sources
        return replace(self.mixtures, sources=sources * self.levels.view(*sources.shape[:2], *[1] * (sources.ndim - 2)))

    def embeddings(self, listener: AudioTower, examples: Tensor, multiple: int = 1) -> Tensor:
        """Replace or blend the text embeddings by those of recordings, according to `kind`.

        Args:
            listener: embeds the recordings.
            examples: (queries, samples).
            multiple: see `SeparationOptions`.

        Returns:
            (queries, dimension).
        """
        embeddings = self.text.clone()
        rows = torch.nonzero(self.kind != TEXT)[:, 0]
        if len(rows):
            with torch.no_grad():
                audio = listener.embed(examples[padded(rows, multiple)])[: len(rows)]
            weight = torch.where((self.kind[rows] == BLEND)[:, None], 0.5, 1.0)
            embeddings[rows] = F.normalize(weight * audio + (1 - weight) * embeddings[rows], dim=-1)
        return embeddings


def make_queries(
    mixtures: MixtureBatch,
    captions: CaptionTable,
    options: SeparationOptions,
    refinements: int,
    generator: torch.Generator,
    recalled: CaptionTable | None = None,
) -> QueryBatch:
    """Look the text embeddings up and draw the kinds of queries.

    Args:
        mixtures: the rendered mixtures.
        captions: embeddings of their captions.
        options: the shares.
        refinements: runs of the decoder before the one that is trained.
        generator: of the random numbers.
        recalled: what prototypes recall of the captions, which takes their place in some queries.
    """
    count = len(mixtures.owner)
    text, negative = embed_texts(mixtures, captions, options.noise, generator)
    if recalled is not None:
        recalls = torch.rand((count, 1), generator=generator) < options.recalled
        text = torch.where(recalls, recalled[mixtures.captions], text)
    draw = torch.rand(count, generator=generator)
    kind = torch.where(draw < options.audio, AUDIO, torch.where(draw < options.audio + options.mixed, BLEND, TEXT))
    has_recording = (mixtures.membership.sum(1) > 0).cpu()
    if mixtures.example_of is not None:
        has_recording[mixtures.example_of.cpu()] = True
    kind = torch.where(has_recording, kind, TEXT)
    keep = (torch.rand(count, generator=generator) >= options.query_dropout).float()[:, None]
    cut = torch.rand(len(mixtures.cutoff), generator=generator) < options.lowpass
    return QueryBatch(mixtures, text, negative, kind, keep, cut, refinements)


def padded(rows: Tensor, multiple: int) -> Tensor:
    """Repeat some rows until their number is a multiple of a quarter of something.

    Args:
        rows: (n,) numbers of rows.
        multiple: see `SeparationOptions`.
    """
    part = max(1, multiple // 4)
    return rows[torch.arange(-(-len(rows) // part) * part, device=rows.device) % max(1, len(rows))]


def cut_queries(mixtures: MixtureBatch, multiple: int) -> MixtureBatch:
    """Leave queries out until their number is a multiple of something, unless none would be left.

    Args:
        mixtures: the rendered mixtures.
        multiple: what it is a multiple of.
    """
    count = len(mixtures.owner) // multiple * multiple or len(mixtures.owner)
    if count == len(mixtures.owner):
        return mixtures
    lists = {name: getattr(mixtures, name)[:count] for name in ("captions", "negatives", "labels", "families")}
    examples, example_of = mixtures.examples, mixtures.example_of
    if examples is not None and example_of is not None:
        kept = int((example_of < count).sum())
        examples, example_of = (examples[:kept], example_of[:kept]) if kept else (None, None)
    return replace(
        mixtures,
        owner=mixtures.owner[:count],
        membership=mixtures.membership[:count],
        examples=examples,
        example_of=example_of,
        **lists,
    )


def embed_texts(
    mixtures: MixtureBatch, captions: CaptionTable, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Look up the embeddings of the queries' texts.

    Args:
        mixtures: the rendered mixtures.
        captions: embeddings of their captions.
        noise: standard deviation of noise on the embeddings, which are then normalised again.
        generator: of the noise.

    Returns:
        Embeddings and negatives (zeros for none), (queries, dimension) each.
    """
    text = captions[mixtures.captions]
    text = text + torch.randn(text.shape, generator=generator) * noise
    negative = torch.zeros_like(text)
    with_negative = [q for q, caption in enumerate(mixtures.negatives) if caption]
    if with_negative:
        negative[with_negative] = captions[[str(mixtures.negatives[q]) for q in with_negative]]
    return F.normalize(text, dim=-1), negative


def query_recordings(mixtures: MixtureBatch, targets: Tensor) -> Tensor:
    """Choose the recordings of audio queries: another recording of the sound if there is one, else the target.

    Args:
        mixtures: the batch.
        targets: (queries, channels, samples).

    Returns:
        (queries, samples).
    """
    recordings = targets.mean(1)
    if mixtures.examples is not None and mixtures.example_of is not None:
        recordings[mixtures.example_of] = mixtures.examples
    return recordings
