"""Zero-shot accuracy of a model's towers on held-back clips, compared with the teachers that they were distilled from.

`python -m research.tower_accuracy MODEL MANIFEST --cache CACHE --tagger mn04_as.pt --labels audioset_labels.json`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audiosep.data.corpus import Corpus
from audiosep.query.mini import MiniEncoder
from audiosep.training.caption_table import TextEncoder
from audiosep.training.tower_files import TextTowerEncoder
from audiosep.training.towers.teachers import SentenceTeacher, Tagger
from audiosep.training.towers.zero_shot import (
    ZeroShotAccuracy,
    compare_accuracy,
    listener_embedder,
    tagger_embedder,
)
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import read_config


def compare(
    model: str | Path, corpus: Corpus, tagger: Tagger, labels: Sequence[str], sentences: TextEncoder, count: int = 10**9
) -> dict[str, float]:
    """Measure a model's towers and their teachers on the same clips.

    Args:
        model: name or folder of a whole model with its own towers.
        corpus: with held-back clips, at the tagger's sample rate.
        tagger: the audio teacher.
        labels: names of its tags.
        sentences: the text teacher.
        count: about how many clips of each split.

    Returns:
        "val/top1" and "zero/top1" (labels never trained on) of the model, ".../teacher_top1", and their ".../ratio".

    Raises:
        ModelError: there is no such model.
    """
    folder = locate(model)
    encoder = MiniEncoder.from_config(read_config(folder)["query"], folder)
    accuracy, label_embeddings = ZeroShotAccuracy(corpus, count), sentences.text(list(labels))
    ours = accuracy(listener_embedder(encoder.listener), TextTowerEncoder(encoder.tower, encoder.words).text)
    return compare_accuracy(ours, accuracy(tagger_embedder(tagger, label_embeddings), sentences.text))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.tower_accuracy", description=__doc__)
    parser.add_argument("model", help="a model by its name or folder")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the decoded audio")
    parser.add_argument("--tagger", type=Path, required=True, help="TorchScript file of mn04_as")
    parser.add_argument("--labels", type=Path, required=True, help="JSON list of its class names")
    parser.add_argument("--teacher", type=Path, help="sentence encoder; default: the installed package")
    options = parser.parse_args(arguments)
    labels = json.loads(options.labels.read_text(encoding="utf-8"))
    sentences = SentenceTeacher(options.teacher or SentenceTeacher.installed())
    corpus = Corpus(options.manifest, options.cache, Tagger.sample_rate)
    scores = compare(options.model, corpus, Tagger(options.tagger), labels, sentences)
    sys.stdout.write(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
