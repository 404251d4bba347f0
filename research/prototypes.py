"""The prototypes of a model: embeddings of the training clips of a manifest, by label.

    python -m research.prototypes manifest.jsonl --cache cache/ --model checkpoints/mini --into checkpoints/mini

Only clips of the split "train" are used. The same clips and weights give the same file. Beside it, PROTOTYPES.md says
whose recordings answer for which label.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from audiosep.api import load
from audiosep.atomic import write_text
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip
from audiosep.errors import ModelError
from audiosep.query.example import excerpt
from audiosep.query.prototypes import PROTOTYPES, Prototypes, Recordings
from audiosep.separator import Separator

_SILENT = 1e-3  # peak below which a clip is left out


@torch.inference_mode()
def hear(corpus: Corpus, separator: Separator) -> tuple[Recordings, list[Clip]]:
    """Clips of a corpus as the encoder and the tagger of a separator hear them; silent clips are left out.

    Args:
        corpus: at the sample rate of the separator.
        separator: with a query encoder, on the CPU.

    Returns:
        The recordings, and their clips.

    Raises:
        ModelError: the separator takes no queries.
    """
    if separator.encoder is None:
        raise ModelError(f"{separator.name} takes no queries")
    clips, embeddings, tags = [], [], []
    for number in track(range(len(corpus)), "listening", console=Console(stderr=True)):
        waveform = corpus.audio(number)
        if float(waveform.abs().max()) > _SILENT:
            heard = excerpt(waveform, corpus.sample_rate)
            clips.append(corpus.clips[number])
            embeddings.append(separator.encoder.audio([heard], corpus.sample_rate)[0])
            tags.append(separator.model.heard(heard[None, None]))
    known = [one.tags for one in tags if one is not None]
    labels = tuple(clip.label for clip in clips)
    return Recordings(labels, torch.stack(embeddings), torch.cat(known) if known else None), clips


def card(clips: Sequence[Clip]) -> str:
    """Whose recordings answer for which label, as Markdown.

    Args:
        clips: that the prototypes were made of.
    """
    sources = sorted({(clip.credit, clip.licence) for clip in clips})
    number = {source: index for index, source in enumerate(sources, 1)}
    labels: dict[str, Counter[int]] = defaultdict(Counter)
    for clip in clips:
        labels[clip.label][number[clip.credit, clip.licence]] += 1
    lines = [
        "# Recordings behind the prototypes\n",
        f"{len(clips)} recordings of {len(labels)} labels, by {len(sources)} credits (docs/recall.md). Made by",
        "`python -m research.prototypes`.\n",
        "## Labels\n",
        "Number of recordings, and the numbers of their credits below, with x times where one has several.\n",
    ]
    for label, counts in sorted(labels.items()):
        parts = (f"{index}" if count == 1 else f"{index} x {count}" for index, count in sorted(counts.items()))
        lines.append(f"- {label}: {counts.total()} ({', '.join(parts)})")
    lines += ["\n## Credits\n", *(f"{index}. {credit} ({licence})" for (credit, licence), index in number.items())]
    return "\n".join(lines) + "\n"


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
    recordings, clips = hear(corpus, separator)
    assert separator.encoder is not None
    prototypes = Prototypes.of(recordings, separator.encoder, separator.model.tag_names)
    prototypes.save(options.into / PROTOTYPES)
    write_text(options.into / "PROTOTYPES.md", card(clips))
    often = int((prototypes.counts >= 20).sum())
    print(f"{len(recordings.labels)} recordings, {len(prototypes)} labels, {often} of them with 20 recordings or more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
