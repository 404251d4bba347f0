"""Prototypes: what recordings of a label sounded like, so that words are answered with sounds and not with words alone.

Text and audio embeddings lie in different corners of the joint space, and a decoder that is queried with what such
sounds were like separates better than one queried with their name. A text picks labels by a softmax over similarities;
the mean embedding of their recordings joins the text's own embedding, the more so the more recordings there are.

A file of prototypes belongs to the encoder that embedded the recordings. It holds what that encoder makes of a fixed
sound and a fixed text, so that another encoder is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audiosep.atomic import write_bytes
from audiosep.errors import ModelError
from audiosep.hearing.score_track import TagScores
from audiosep.inference.options import Quality
from audiosep.models.known_sounds import Among, Beside, KnownSounds
from audiosep.models.query_ways import Ways
from audiosep.query.encoder import SAME, QueryEncoder, encoder_probe

PROTOTYPES = "prototypes.safetensors"
_TEMPERATURE = 0.05  # of the softmax over labels; 0.02 to 0.08 are alike
# Similarity of the nearest label to a text: recordings count least below the first, in full above the second; how much
# they count at least where a tag means the text. Fitted on groups g and h of the validation recipe, research/mini.md.
_UNLIKE, _ALIKE = 0.7, 0.82
_LEAST = 0.5
_COUNT_POWER = 0.5  # a label with four times as many recordings has twice the share
_TAG_TEMPERATURE = 0.06  # of the softmax over the names of tags
_UNKNOWN = 0.05  # largest share of a tag in a text that no tag means; "other" has 0.03
_PROFILE = 0.3  # how much the tags of the recordings count beside the names of tags
_NEGLIGIBLE = 0.001  # share below which a label is not listed
_BESIDE = {"fast": 0, "balanced": 1, "best": 2}  # sounds that are taken away, one at a time, at a quality
# Another sound is one that is as unlike the queried one by its name, by its recordings, and by its tags.
_OTHER_TEXT, _OTHER_RECORDINGS, _OTHER_TAGS = 0.55, 0.75, 0.5


@dataclass(frozen=True)
class Recalled:
    """What prototypes say about a text.

    Attributes:
        text: (dimension,), the text's own embedding.
        memory: (dimension,), L2-normalised mean of the recordings.
        tags: (tags,), how much each logit of the tagger says for the sound; None where no tagger heard the recordings.
        labels: label, its share of the memory, its number of recordings; the largest share first.
        trust: how much the recordings count, 0 to 1: less where no label means the same as the text.
        word: how much the text counts beside the recordings.
        known: whether a label or a tag means the text; the tagger cannot tell whether an estimate fits others.
        own: whether the recordings are examples of a sound of the user's own.
        prototypes: that know which sounds may be heard beside it; None without.
        stem: stem of songs that the text names; None for another sound.
    """

    text: Tensor
    memory: Tensor
    tags: Tensor | None
    labels: tuple[tuple[str, float, int], ...]
    trust: float = 1.0
    word: float = 1.0
    known: bool = True
    own: bool = False
    prototypes: Prototypes | None = None
    stem: str | None = None

    @property
    def query(self) -> Tensor:
        """(dimension,): text and memory in one embedding, L2-normalised."""
        recordings = max(self.trust, _LEAST) if self.known else self.trust
        return F.normalize(self.word * self.text + recordings * self.memory, dim=-1)

    def ways(self, quality: Quality, stems: Container[str] = ()) -> Ways | None:
        """The ways to estimates of the sound at a quality; None where nothing can compare them.

        Args:
            quality: how much is computed.
            stems: that the model separates.
        """
        if self.tags is None or self.prototypes is None or not self.known:
            return None
        among = self.prototypes.among(self)
        if among is None:
            return None
        stem = self.stem if self.stem in stems else None
        beside = self.prototypes.beside(self, 0 if stem else _BESIDE[quality])
        # A name of the user's own may say nothing; a word chooses better than the recordings of its labels do.
        sound = self.query if self.own else self.text
        return Ways(sound, among, beside, stem, twice=quality == "best" and stem is None)


@dataclass(frozen=True)
class Recordings:
    """Recordings with labels, as an encoder and a tagger hear them.

    Attributes:
        labels: of N recordings.
        embeddings: (N, dimension), L2-normalised.
        tags: (N, tags), the logits of the tagger; None without one.
    """

    labels: tuple[str, ...]
    embeddings: Tensor
    tags: Tensor | None = None


class Prototypes:
    """Mean embeddings of the recordings of labels.

    Args:
        labels: L distinct ones.
        parts: the tensors of a file: `texts` (L, dimension) text embeddings of the labels; `means` (L, dimension) mean
            embeddings of their recordings and `counts` (L,) the numbers of these; `probe` (2, dimension), see
            `encoder_probe`; with a tagger also `tags` (L, tags) mean logits of each label, standardised over all
            recordings, `mean` and `spread` (tags,) their mean and standard deviation, and `names` (tags, dimension)
            text embeddings of the tags.
    """

    def __init__(self, labels: Sequence[str], parts: Mapping[str, Tensor]) -> None:
        self.labels = tuple(labels)
        self._parts = {name: part.float() if part.is_floating_point() else part.long() for name, part in parts.items()}
        self._texts, self._means, counts = (self._parts[name] for name in ("texts", "means", "counts"))
        self.counts = counts.float()

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, recordings: Recordings, encoder: QueryEncoder, tag_names: Tensor | None = None) -> Prototypes:
        """Average recordings by label.

        Args:
            recordings: by the encoder.
            encoder: embeds the labels.
            tag_names: (tags, dimension) text embeddings of the tagger's tags.
        """
        names = sorted(set(recordings.labels))
        places = {name: place for place, name in enumerate(names)}
        numbers = torch.tensor([places[label] for label in recordings.labels])
        counts = torch.bincount(numbers)

        def means(values: Tensor) -> Tensor:
            sums = torch.zeros(len(names), values.shape[1]).index_add_(0, numbers, values)
            return sums / counts[:, None]

        parts = {
            "texts": encoder.text(names).detach().float().cpu(),
            "means": means(recordings.embeddings.float()),
            "counts": counts,
            "probe": encoder_probe(encoder),
        }
        if recordings.tags is not None and tag_names is not None:
            spread, mean = torch.std_mean(recordings.tags.float(), 0)
            parts |= {
                "tags": means((recordings.tags.float() - mean) / spread),
                "mean": mean,
                "spread": spread,
                "names": tag_names.detach().float().cpu(),
            }
        return cls(names, parts)

    @classmethod
    def load(cls, path: str | Path) -> Prototypes:
        """Read a file of prototypes.

        Args:
            path: the file.

        Raises:
            ModelError: no such file, or it is damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                labels = json.loads(file.metadata()["labels"])
                parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            return cls(labels, _unpacked(parts))
        except FileNotFoundError as error:
            raise ModelError(f"{path} is missing; install or convert the model again") from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise ModelError(
                f"{path} is no file of prototypes, or damaged ({error}); install the model again"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write a file that `load` reads, embeddings as int8 with one scale a row.

        Args:
            path: the file to write or replace; it appears whole or not at all.

        Raises:
            AudioSepError: the file cannot be written.
        """
        content = save(_packed(self._parts), metadata={"labels": json.dumps(self.labels, ensure_ascii=False)})
        write_bytes(path, content)

    def has(self, label: str) -> bool:
        """Whether there are recordings of a label, whatever its case.

        Args:
            label: in words.
        """
        return " ".join(label.casefold().split()) in {known.casefold() for known in self.labels}

    def check(self, encoder: QueryEncoder, where: str | Path) -> None:
        """Check that these prototypes were made with an encoder.

        Args:
            encoder: that embeds the queries.
            where: the file, for the message.

        Raises:
            ModelError: they were made with another one.
        """
        mine, known = encoder_probe(encoder), self._parts["probe"]
        if mine.shape != known.shape or (mine * known).sum(-1).min() < SAME:
            raise ModelError(
                f"{where} was made with other weights of the query encoder than {encoder.name!r} has: "
                "use the model that it was made with, or make it again"
            )

    def recall(self, text: Tensor) -> Recalled:
        """What the recordings of labels that mean much the same as a text sounded like.

        Args:
            text: (dimension,), L2-normalised text embedding.
        """
        share, trust, memory = (part[0] for part in self._meant(text[None]))
        tags, known = None, bool(trust > 0)
        if "tags" in self._parts:
            named = self._named(text[None])[0]
            tags = self._weighed(named, share @ self._parts["tags"], float(trust))
            known = known or float(named.max()) >= _UNKNOWN
        return Recalled(text, memory, tags, self._answers(share), float(trust), known=known, prototypes=self)

    def _meant(self, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What (N, dimension) texts mean.

        Returns:
            (N, labels) the share of each label, (N,) how much its recordings count, (N, dimension) their L2-normalised
            mean.
        """
        likeness = texts @ self._texts.T
        trust = ((likeness.amax(1) - _UNLIKE) / (_ALIKE - _UNLIKE)).clamp(0, 1)
        share = (likeness / _TEMPERATURE).softmax(1) * self.counts**_COUNT_POWER
        share = share / share.sum(1, keepdim=True)
        return share, trust, F.normalize(share @ self._means, dim=-1)

    def _named(self, texts: Tensor) -> Tensor:
        """(N, tags): how much the name of each tag means (N, dimension) texts."""
        return (texts @ self._parts["names"].T / _TAG_TEMPERATURE).softmax(1)

    @cached_property
    def sounds(self) -> KnownSounds:
        """All labels as sounds that may be heard beside a queried one."""
        share, trust, memory = self._meant(self._texts)
        tags = self._weighed(self._named(self._texts), share @ self._parts["tags"])  # a label is all like itself
        scores = self.tag_scores(tags)
        assert scores is not None
        return KnownSounds(F.normalize(self._texts + trust[:, None] * memory, dim=-1), memory, tags, scores.offsets)

    def among(self, recalled: Recalled) -> Among | None:
        """A recalled sound among those of these prototypes; None where no tagger heard their recordings.

        Args:
            recalled: with tags.
        """
        scores = None if recalled.tags is None else self.tag_scores(recalled.tags[None])
        if scores is None:
            return None
        return Among(self.sounds, recalled.memory, scores.weights[0], float(scores.offsets))

    def beside(self, recalled: Recalled, most: int) -> Beside | None:
        """The sounds that may be heard beside a recalled one; None where all are like it, or no tagger heard any.

        Args:
            recalled: with tags.
            most: how many are taken away; None is returned for 0.
        """
        if not most or recalled.tags is None or "mean" not in self._parts:
            return None
        others = (
            (self._texts @ recalled.text < _OTHER_TEXT)
            & (self.sounds.recordings @ recalled.memory < _OTHER_RECORDINGS)
            & (F.normalize(self.sounds.tags, dim=-1) @ F.normalize(recalled.tags, dim=-1) < _OTHER_TAGS)
        )
        return Beside(others, most) if others.any() else None

    def _weighed(self, named: Tensor, profile: Tensor, trust: float = 1.0) -> Tensor:
        """Tags whose names mean a text, and tags that its recordings have more than others."""
        tags: Tensor = named + _PROFILE * trust * F.normalize(profile, dim=-1) / self._parts["spread"]
        return tags

    def weigh_tags(self, logits: Tensor) -> Tensor | None:
        """How much each logit of the tagger says for a sound that it has heard.

        Args:
            logits: (tags,) mean logits of the tagger for recordings of the sound.

        Returns:
            (tags,); None where no tagger heard the recordings of these prototypes.
        """
        if "mean" not in self._parts:
            return None
        standard = (logits - self._parts["mean"]) / self._parts["spread"]
        return self._weighed(torch.zeros(len(logits)), standard)

    def tag_scores(self, weights: Tensor) -> TagScores | None:
        """What the tagger says for some sounds, so that scores of different sounds compare.

        Args:
            weights: (sounds, tags), as in `Recalled.tags`.

        Returns:
            Scores that are about 0 for recordings of other labels; None where no tagger heard the recordings.
        """
        if "mean" not in self._parts:
            return None
        return TagScores(weights, weights @ self._parts["mean"] + self._label_scores(weights).mean(0))

    def spill(self, weights: Tensor) -> Tensor:
        """By how much the score of one sound rises with that of another that is there alone.

        Args:
            weights: (sounds, tags), as in `tag_scores`.

        Returns:
            (sounds, sounds), slopes of regressions over the labels, 0 to 1: row i for what column j does to sound i.
        """
        scores = self._label_scores(weights)
        covariance = torch.cov(scores.T)
        return (covariance / covariance.diagonal()).clamp(0, 1)

    def _label_scores(self, weights: Tensor) -> Tensor:
        """(labels, sounds): what the recordings of each label score more than all recordings."""
        return (self._parts["tags"] * self._parts["spread"]) @ weights.T

    def _answers(self, share: Tensor) -> tuple[tuple[str, float, int], ...]:
        order = share.argsort(descending=True, stable=True)
        least = int((share[order].cumsum(0) < 1 - _NEGLIGIBLE).sum()) + 1
        return tuple((self.labels[k], float(share[k]), int(self.counts[k])) for k in order[:least].tolist())


def _packed(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    packed = {}
    for name, part in parts.items():
        if part.is_floating_point() and part.ndim == 2:
            scale = part.abs().amax(1).clamp_min(1e-8) / 127
            packed[name] = (part / scale[:, None]).round().to(torch.int8)
            packed[f"{name}.scale"] = scale
        else:
            packed[name] = part.int() if not part.is_floating_point() else part
    return packed


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scales = {name.removesuffix(".scale"): part for name, part in packed.items() if name.endswith(".scale")}
    return {
        name: part.float() * scales[name][:, None] if name in scales else part
        for name, part in packed.items()
        if not name.endswith(".scale")
    }
