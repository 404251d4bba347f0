"""Zero-shot classification: held-back clips by the nearest label text, as a measure of how well two towers align."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiosep.data.corpus import Corpus
from audiosep.models.audio_tower import AudioTower
from audiosep.training.caption_table import CaptionTable, normalise_caption
from audiosep.training.engine import distributed
from audiosep.training.towers.teachers import Tagger

CLIP_SECONDS = 5

AudioEmbedder = Callable[[Tensor], Tensor]
TextEmbedder = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class LabelledClips:
    """Clips of one split.

    Attributes:
        waveforms: (samples,) each.
        labels: all of the split, sorted.
        truth: place of each clip's own label among them.
    """

    waveforms: list[Tensor]
    labels: list[str]
    truth: list[int]


class ZeroShotAccuracy:
    """Top-1 accuracy on the clips of the splits "val" and "zero" (labels never trained on).

    Each clip is classified among the labels of its split.

    Args:
        corpus: a split without clips is left out.
        count: about how many clips of each split; the middle five seconds of each are used.

    Attributes:
        splits: name of a split -> its clips.
    """

    def __init__(self, corpus: Corpus, count: int) -> None:
        self.splits: dict[str, LabelledClips] = {}
        for split in ("val", "zero"):
            rows = [i for i, clip in enumerate(corpus.clips) if clip.split == split]
            if not rows:
                continue
            labels = sorted({normalise_caption(corpus.clips[i].label) for i in rows})
            rows = rows[:: max(1, len(rows) // count)]
            waveforms = [_middle(corpus.audio(i), CLIP_SECONDS * corpus.sample_rate) for i in rows]
            truth = [labels.index(normalise_caption(corpus.clips[i].label)) for i in rows]
            self.splits[split] = LabelledClips(waveforms, labels, truth)

    @torch.no_grad()
    def __call__(self, embed_audio: AudioEmbedder, embed_texts: TextEmbedder) -> dict[str, float]:
        """Classify all clips; the processes of a run share them.

        Args:
            embed_audio: (1, samples) waveform -> (1, dimension).
            embed_texts: n texts -> (n, dimension).

        Returns:
            Accuracy of each split, 0..1.
        """
        accuracy = {}
        for split, clips in self.splits.items():
            texts = embed_texts(clips.labels)
            pairs = distributed.share(list(zip(clips.waveforms, clips.truth, strict=True)))
            correct = [int((embed_audio(x[None]) @ texts.T.to(x.device)).argmax()) == label for x, label in pairs]
            correct = distributed.gather(correct)
            accuracy[split] = sum(correct) / len(correct)
        return accuracy


def compare_accuracy(ours: Mapping[str, float], teachers: Mapping[str, float]) -> dict[str, float]:
    """Name the accuracies of a model and its teachers for a run's log.

    Args:
        ours: accuracy of each split.
        teachers: the same of the teachers.

    Returns:
        ".../top1", ".../teacher_top1" and their ".../ratio" of each split.
    """
    values: dict[str, float] = {}
    for split, top in ours.items():
        teacher = teachers[split]
        values |= {f"{split}/top1": top, f"{split}/teacher_top1": teacher, f"{split}/ratio": top / max(teacher, 1e-9)}
    return values


def listener_embedder(listener: AudioTower) -> AudioEmbedder:
    """Embed with a listener: waveforms and embeddings are on the CPU, the listener is where its weights are."""
    device = next(listener.parameters()).device
    return lambda waveforms: listener.embed(waveforms.to(device)).cpu()


def listener_tagger(listener: AudioTower) -> AudioEmbedder:
    """Give a listener's logits of a recording, to meet `tag_weights`; places as for `listener_embedder`."""
    device = next(listener.parameters()).device
    return lambda waveforms: listener.tags(listener.pooled(listener.energies(waveforms.to(device)))).float().cpu()


def tag_weights(embed_texts: TextEmbedder, label_embeddings: Tensor, temperature: float = 0.06) -> TextEmbedder:
    """Describe texts by a tagger's tags: the softmax of their similarities to the tags' labels.

    Args:
        embed_texts: n texts -> (n, dimension).
        label_embeddings: (tags, dimension).
        temperature: of the softmax.

    Returns:
        n texts -> (n, tags), whose product with a recording's logits is its score for each text.
    """
    return lambda texts: (embed_texts(texts) @ label_embeddings.T / temperature).softmax(-1)


class ListenerValidation:
    """Zero-shot accuracy of a listener, by its embeddings and by its tags, and of the tagger on the same clips.

    Args:
        corpus: with clips of the splits "val" and "zero".
        captions: embeddings of their labels.
        count: about how many clips of each split.
        tagger: the audio teacher.
        label_embeddings: (tags, dimension) text embeddings of its labels.
    """

    def __init__(
        self, corpus: Corpus, captions: CaptionTable, count: int, tagger: Tagger, label_embeddings: Tensor
    ) -> None:
        self._accuracy, self._embed_texts = ZeroShotAccuracy(corpus, count), captions.__getitem__
        self._tag_weights = tag_weights(self._embed_texts, label_embeddings)
        self._tagger = self._accuracy(lambda waveforms: tagger(waveforms)[0], self._tag_weights)

    def __call__(self, listener: AudioTower) -> dict[str, float]:
        """Return ".../top1" by embeddings, ".../tags_top1", ".../teacher_top1" and the tags' ratio to it by split."""
        embedded = self._accuracy(listener_embedder(listener), self._embed_texts)
        tagged = compare_accuracy(self._accuracy(listener_tagger(listener), self._tag_weights), self._tagger)
        values = {name.replace("/top1", "/tags_top1"): value for name, value in tagged.items()}
        return {f"{split}/top1": top for split, top in embedded.items()} | values


def _middle(x: Tensor, samples: int) -> Tensor:
    start = max(0, (x.shape[-1] - samples) // 2)
    return x[..., start : start + samples]
