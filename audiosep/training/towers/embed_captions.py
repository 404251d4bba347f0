"""Build the caption table of a corpus: the embeddings of all captions, stem names and, optionally, a tagger's labels.

`python -m audiosep.training.towers.embed_captions manifest.jsonl out.safetensors --model mini`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from audiosep.data.manifest import read_manifest
from audiosep.data.queries import query_texts
from audiosep.training.caption_table import CaptionTable, TextEncoder
from audiosep.training.tower_files import TextTowerEncoder
from audiosep.training.towers.teachers import SentenceTeacher


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m audiosep.training.towers.embed_captions", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=Path, help="JSON list of a tagger's class names to add")
    parser.add_argument("--teacher", type=Path, help="sentence encoder; default: the installed package")
    parser.add_argument("--model", help="a model (name or folder) or the folder of a trained text tower, to embed with")
    options = parser.parse_args(arguments)
    texts = query_texts(read_manifest(options.manifest))
    if options.labels:
        texts |= set(json.loads(options.labels.read_text(encoding="utf-8")))
    encoder: TextEncoder
    if options.model:
        encoder = TextTowerEncoder.read(options.model)
    else:
        encoder = SentenceTeacher(options.teacher or SentenceTeacher.installed())
    CaptionTable.build(texts, encoder).save(options.out)


if __name__ == "__main__":
    main()
