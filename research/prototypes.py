"""The prototypes of a model: embeddings of the training clips of a manifest, by label.

    python -m research.prototypes manifest.jsonl --cache cache/ --model checkpoints/mini --into checkpoints/mini

Only clips of the split "train" are used. The same clips and weights give the same file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.errors import ModelError
from audiosep.query.prototypes import PROTOTYPES, Prototypes, Recordings, excerpt
from audiosep.separator import Separator

_SILENT = 1e-3  # peak below which a clip is left out


@torch.inference_mode()
def hear(corpus: Corpus, separator: Separator) -> Recordings:
    """Clips of a corpus as the encoder and the judge of a separator hear them; silent clips are left out.

    Args:
        corpus: at the sample rate of the separator.
        separator: with a query encoder, on the CPU.

    Raises:
        ModelError: the separator takes no queries.
    """
    if separator.encoder is None:
        raise ModelError(f"{separator.name} takes no queries")
    labels, embeddings, tags = [], [], []
    for number in track(range(len(corpus)), "listening", console=Console(stderr=True)):
        waveform = corpus.audio(number)
        if float(waveform.abs().max()) > _SILENT:
            heard = excerpt(waveform, corpus.sample_rate)
            labels.append(corpus.clips[number].label)
            embeddings.append(separator.encoder.audio([heard], corpus.sample_rate)[0])
            tags.append(separator.model.tags(heard[None]))
    known = [tag for tag in tags if tag is not None]
    return Recordings(tuple(labels), torch.stack(embeddings), torch.cat(known) if known else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.prototypes", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="decoded audio of the manifest")
    parser.add_argument("--model", default="mini", help="whose encoder embeds the clips")
    parser.add_argument("--into", type=Path, required=True, help="folder of the model that gets the file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # other numbers of threads round differently
    separator = load(options.model, device="cpu", precision="fp32")
    corpus = Corpus(options.manifest, options.cache, separator.sample_rate, splits=("train",), on_error="skip")
    recordings = hear(corpus, separator)
    assert separator.encoder is not None
    prototypes = Prototypes.of(recordings, separator.encoder, separator.model.tag_names)
    prototypes.save(options.into / PROTOTYPES)
    often = int((prototypes.counts >= 20).sum())
    print(f"{len(recordings.labels)} recordings, {len(prototypes)} labels, {often} of them with 20 recordings or more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
