"""Zero-shot classification: held-back clips by the nearest label text, as a measure of how well two towers align."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.data.corpus import Corpus
from audiosep.models.listener import Listener
from audiosep.training.caption_table import normalise_caption
from audiosep.training.engine import distributed
from audiosep.training.towers.teachers import Tagger

CLIP_SECONDS = 5

AudioEmbedder = Callable[[Tensor], Tensor]
TextEmbedder = Callable[[Sequence[str]], Tensor]


class ZeroShotAccuracy:
    """Top-1 accuracy on the clips of the splits "val" and "zero" (labels never trained on).

    Each clip is classified among the labels of its split.

    Args:
        corpus: a split without clips is left out.
        count: about how many clips of each split; the middle five seconds of each are used.
    """

    def __init__(self, corpus: Corpus, count: int) -> None:
        self._sets: dict[str, tuple[list[Tensor], list[str], list[int]]] = {}
        for split in ("val", "zero"):
            rows = [i for i, clip in enumerate(corpus.clips) if clip.split == split]
            rows = rows[:: max(1, len(rows) // count)]
            if not rows:
                continue
            labels = sorted({normalise_caption(corpus.clips[i].label) for i in rows})
            waveforms = [_middle(corpus.audio(i), CLIP_SECONDS * corpus.sample_rate) for i in rows]
            truth = [labels.index(normalise_caption(corpus.clips[i].label)) for i in rows]
            self._sets[split] = (waveforms, labels, truth)

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
        for split, (waveforms, labels, truth) in self._sets.items():
            texts = embed_texts(labels)
            pairs = distributed.share(list(zip(waveforms, truth, strict=True)))
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


def listener_embedder(listener: Listener) -> AudioEmbedder:
    """Embed with a listener: waveforms and embeddings are on the CPU, the listener is where its weights are."""
    device = next(listener.parameters()).device
    return lambda waveforms: listener.embed(waveforms.to(device)).cpu()


def tagger_embedder(tagger: Tagger, label_embeddings: Tensor) -> AudioEmbedder:
    """Embed with a tagger: the mean of its labels' text embeddings, weighted by the tags' probabilities.

    Args:
        tagger: gives the tags.
        label_embeddings: (tags, dimension).
    """
    return lambda waveforms: F.normalize(tagger(waveforms)[0].softmax(-1) @ label_embeddings, dim=-1)


def _middle(x: Tensor, samples: int) -> Tensor:
    start = max(0, (x.shape[-1] - samples) // 2)
    return x[..., start : start + samples]
