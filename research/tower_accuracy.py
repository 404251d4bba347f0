"""Zero-shot classification of held-back clips by a listener's embeddings and by its tags, and by the tagger mn04_as.

`python -m research.tower_accuracy MODEL MANIFEST --cache CACHE --tagger mn04_as.pt --labels audioset_labels.json`

All meet the label texts of a split through the text tower of MODEL: embeddings by their similarity, tags as in
`training.towers.zero_shot.tag_weights`. `--listener` measures another listener than MODEL's, such as a run's `model/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiosep.data.corpus import Corpus
from audiosep.models.audio_tower import AudioTower
from audiosep.models.towers import TowerConfig, build_tower
from audiosep.query.mini import MiniEncoder
from audiosep.training.caption_table import TextEncoder
from audiosep.training.tower_files import LISTENER_CONFIG, TextTowerEncoder, load_listener
from audiosep.training.towers.teachers import Tagger
from audiosep.training.towers.zero_shot import (
    AudioEmbedder,
    TextEmbedder,
    ZeroShotAccuracy,
    listener_embedder,
    listener_tagger,
    tag_weights,
)
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.model_config import read_config


@dataclass(frozen=True)
class _Described:
    listener: TowerConfig


def compare(
    listener: AudioTower,
    texts: TextEncoder,
    corpus: Corpus,
    tagger: Tagger,
    labels: Sequence[str],
    count: int = 10**9,
) -> dict[str, float]:
    """Measure a listener and the tagger on the same clips.

    Args:
        listener: the audio tower.
        texts: embeds labels in the joint space.
        corpus: with held-back clips, at the tagger's sample rate.
        tagger: the audio teacher.
        labels: names of the tags of both.
        count: about how many clips of each split.

    Returns:
        Accuracies, 0..1, of the splits "val" and "zero" (labels never trained on): ".../embeddings", ".../tags" and
        ".../tagger"; the same ".../standardised", each output over the clips of its split; the share that "tags" is of
        "tagger", ".../ratio"; and how often both have the same first tag, ".../first_tag".
    """
    accuracy, weights = ZeroShotAccuracy(corpus, count), tag_weights(texts.text, texts.text(list(labels)))
    kinds: dict[str, tuple[AudioEmbedder, TextEmbedder]] = {
        "embeddings": (listener_embedder(listener), texts.text),
        "tags": (listener_tagger(listener), weights),
        "tagger": (lambda waveforms: tagger(waveforms)[0], weights),
    }
    values: dict[str, float] = {}
    for split, clips in accuracy.splits.items():
        truth, first = torch.tensor(clips.truth), {}
        for kind, (embed_audio, embed_texts) in kinds.items():
            with torch.no_grad():
                outputs = torch.cat([embed_audio(waveform[None]) for waveform in clips.waveforms])
                targets = embed_texts(clips.labels)
            first[kind] = outputs.argmax(1)
            values[f"{split}/{kind}"] = _accuracy(outputs, targets, truth)
            spread = outputs.std(0, correction=0).clamp_min(1e-9)
            values[f"{split}/{kind}/standardised"] = _accuracy((outputs - outputs.mean(0)) / spread, targets, truth)
        values[f"{split}/ratio"] = values[f"{split}/tags"] / max(values[f"{split}/tagger"], 1e-9)
        values[f"{split}/first_tag"] = float((first["tags"] == first["tagger"]).float().mean())
    return values


def _accuracy(outputs: Tensor, targets: Tensor, truth: Tensor) -> float:
    return float(((outputs @ targets.T).argmax(1) == truth).float().mean())


def read_listener(folder: Path) -> AudioTower:
    """Read a listener of any shape.

    Args:
        folder: a run's `model/`, as `export_listener` writes it.

    Raises:
        ConfigError: its configuration is of no listener.
        ModelError: its weights are missing or damaged.
    """
    data = {"listener": json.loads((folder / LISTENER_CONFIG).read_text(encoding="utf-8"))}
    listener = build_tower(configs.from_dict(_Described, data).listener)
    load_listener(listener, folder)
    return listener.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.tower_accuracy", description=__doc__)
    parser.add_argument("model", help="a model by its name or folder")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the decoded audio")
    parser.add_argument("--tagger", type=Path, required=True, help="TorchScript file of mn04_as")
    parser.add_argument("--labels", type=Path, required=True, help="JSON list of its class names")
    parser.add_argument("--listener", type=Path, help="folder of another listener than the model's")
    parser.add_argument("--count", type=int, default=10**9, help="about how many clips of each split")
    options = parser.parse_args(arguments)
    labels = json.loads(options.labels.read_text(encoding="utf-8"))
    folder = locate(options.model)
    encoder = MiniEncoder.from_config(read_config(folder)["query"], folder)
    listener = encoder.listener if options.listener is None else read_listener(options.listener)
    corpus = Corpus(options.manifest, options.cache, Tagger.sample_rate)
    texts = TextTowerEncoder(encoder.tower, encoder.words)
    scores = compare(listener, texts, corpus, Tagger(options.tagger), labels, options.count)
    sys.stdout.write(json.dumps({name: round(value, 4) for name, value in scores.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
