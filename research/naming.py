"""How well the towers of a model name held-back clips, beside the teachers that they were distilled from.

`python -m research.naming MODEL MANIFEST --cache CACHE --tagger mn04_as.pt --labels audioset_labels.json`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audiosep.data.corpus import Corpus
from audiosep.query.mini import MiniEncoder
from audiosep.training.towers.alignment import Naming, beside, hearing, hearing_tags
from audiosep.training.towers.captions import TextEncoder
from audiosep.training.towers.teachers import SentenceTeacher, Tagger
from audiosep.training.towers.text import TowerEncoder
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import read_config


def compare(
    model: str | Path, corpus: Corpus, tagger: Tagger, labels: Sequence[str], sentences: TextEncoder, count: int = 10**9
) -> dict[str, float]:
    """Share of the clips that get their own label, of those of their split; see `Naming`.

    Args:
        model: name or folder of a whole model with its own towers.
        corpus: with held-back clips, at the tagger's sample rate. count: about how many of each split.
        tagger, labels, sentences: the teachers: a clip lies where its tags' names lie.

    Returns:
        "val/top1" and "zero/top1" (labels never trained on) of the model, ".../teacher_top1", and their ".../ratio".

    Raises:
        ModelError: there is no such model.
    """
    folder = locate(model)
    encoder = MiniEncoder.from_config(read_config(folder)["query"], folder)
    naming, names = Naming(corpus, count), sentences.text(list(labels))
    ours = naming(hearing(encoder.listener), TowerEncoder(encoder.tower, encoder.words).text)
    return beside(ours, naming(hearing_tags(tagger, names), sentences.text))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.naming", description=__doc__)
    parser.add_argument("model", help="a model by its name or folder")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="where decoded audio is kept")
    parser.add_argument("--tagger", type=Path, required=True, help="TorchScript file of mn04_as")
    parser.add_argument("--labels", type=Path, required=True, help="JSON list of its class names")
    parser.add_argument("--teacher", type=Path, help="sentence encoder; default: the installed package")
    options = parser.parse_args(arguments)
    labels = json.loads(options.labels.read_text(encoding="utf-8"))
    sentences = SentenceTeacher(options.teacher or SentenceTeacher.installed())
    corpus = Corpus(options.manifest, options.cache, Tagger.sample_rate)
    sys.stdout.write(
        json.dumps(compare(options.model, corpus, Tagger(options.tagger), labels, sentences), indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
