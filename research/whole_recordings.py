"""Twenty sounds out of whole recordings, by the word, at "fast" and at "best": pictures and the ear of another network.

    python -m research.whole_recordings manifest.jsonl --cache cache/ --tagger TAGGER --labels audioset_labels.json \
        --picture docs/recall.jpg --into docs/recall.md

Nobody knows how these recordings sound without the rest, so there is no SI-SDR. A tagger that has no part in the
separation hears the recording, each estimate, and what it leaves: a good estimate has the sound, and its rest has not.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiosep.api import load
from audiosep.atomic import write_bytes
from audiosep.data.corpus import Corpus
from audiosep.inference.options import Options
from audiosep.output.spectrogram import colours, matplotlib, spectrogram
from audiosep.query.query import Query
from audiosep.separator import Separator
from audiosep.training.towers.teachers import Tagger
from research.pages import put

WAYS = ("word", "fast", "best")
_SECONDS = 10.0


@dataclass(frozen=True)
class Sound:
    """A sound in a whole recording.

    Attributes:
        clip: id of the recording.
        query: in words.
        tag: the class of AudioSet that a tagger listens for.
    """

    clip: str
    query: str
    tag: str


SOUNDS = (
    Sound("am0037", "dog barking", "Dog"),
    Sound("am0039", "siren", "Siren"),
    Sound("farm-ambience-9c5177975adc", "rooster crowing", "Crowing, cock-a-doodle-doo"),
    Sound("farm-ambience-640d77d40349", "sheep bleating", "Sheep"),
    Sound("street-market-with-motorbikes-6fcd5694b824", "motorcycle", "Motorcycle"),
    Sound("forest-at-night-b4f5672a1724", "owl hooting", "Owl"),
    Sound("forest-ambience-afeeb94cc19c", "fly buzzing", "Fly, housefly"),
    Sound("dogs-barking-469496fd7dac", "dog barking", "Dog"),
    Sound("children-on-a-playground-79873e246143", "children playing", "Children playing"),
    Sound("pub-ambience-d4161d5ea462", "speech", "Speech"),
    Sound("am0056", "dishes", "Dishes, pots, and pans"),
    Sound("am0058", "reversing beeps", "Reversing beeps"),
    Sound("am0062", "motorcycle", "Motorcycle"),
    Sound("am0065", "car horn", "Toot"),
    Sound("am0086", "speech", "Speech"),
    Sound("am0010", "church bell", "Gong"),
    Sound("am0006", "choir", "Choir"),
    Sound("wooden-carriage-passing-on-gravel-4fb495920c6e", "horse hooves", "Clip-clop"),
    Sound("am0029", "crickets", "Cricket"),
    Sound("park-ambience-8fdca31d88d6", "crow cawing", "Crow"),
)


@dataclass(frozen=True)
class Heard:
    """One sound taken out in one way.

    Attributes:
        target: (samples,) the estimate.
        level: of the estimate against the recording, dB.
        with_sound: how probable the tagger finds the sound in the estimate, 0..1.
        without: the same in what the estimate leaves.
    """

    target: Tensor
    level: float
    with_sound: float
    without: float


class Listener:
    """How probable a tagger finds a class in a sound.

    Args:
        tagger: TorchScript file.
        labels: JSON list of its classes.
    """

    def __init__(self, tagger: Path, labels: Path) -> None:
        self._tagger = Tagger(tagger)
        self._classes: list[str] = json.loads(labels.read_text(encoding="utf-8"))

    def __call__(self, waveform: Tensor, tag: str) -> float:
        """How probable a class is, 0..1.

        Args:
            waveform: (samples,) at 32 kHz.
            tag: name of the class.
        """
        return float(torch.sigmoid(self._tagger(waveform[None])[0])[0, self._classes.index(tag)])


def take_out(separator: Separator, mix: Tensor, sound: Sound, listener: Listener) -> dict[str, Heard]:
    """A sound by each of `WAYS`.

    Args:
        separator: with prototypes.
        mix: (samples,) at 32 kHz.
        sound: that is asked for.
        listener: that hears what comes out.
    """
    assert separator.encoder is not None
    found = {}
    for way in WAYS:
        word = Query(embedding=separator.encoder.text([sound.query])[0], name="target")
        query = word if way == "word" else Query(sound.query, name="target")
        options = Options(quality="best" if way == "best" else "fast")
        target = separator.separate(mix, query, sample_rate=32000, options=options)["target"]
        level = 10 * float(torch.log10(target.square().mean() / mix.square().mean() + 1e-10))
        found[way] = Heard(target, level, listener(target, sound.tag), listener(mix - target, sound.tag))
    return found


def draw(rows: Sequence[tuple[Sound, Tensor, dict[str, Heard]]], path: Path) -> None:
    """One row a sound: spectrograms of the recording and of each estimate.

    Args:
        rows: sounds, recordings and what came out.
        path: JPEG file.
    """
    matplotlib()
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(rows), 1 + len(WAYS), figsize=(11, 0.95 * len(rows)), dpi=75)
    for (sound, mix, found), places in zip(rows, axes, strict=True):
        levels = [spectrogram(x[None].numpy(), 32000, 64, 200) for x in (mix, *(found[way].target for way in WAYS))]
        for place, level in zip(places, levels, strict=True):
            place.imshow(colours(level, float(levels[0].max())), aspect="auto")
            place.set(xticks=[], yticks=[])
        places[0].set_ylabel(sound.query.replace(" ", "\n"), fontsize=7, rotation=0, ha="right", va="center")
    for place, title in zip(axes[0], ("recording", *WAYS), strict=True):
        place.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="jpeg", pil_kwargs={"quality": 80})
    write_bytes(path, file.getvalue())
    pyplot.close(figure)


def table(rows: Sequence[tuple[Sound, str, float, dict[str, Heard]]]) -> str:
    """Markdown: how probable the sound is in the recording, in each estimate and in what it leaves.

    Args:
        rows: sounds, labels of the recordings, how probable the sound is there, and what came out.
    """
    lines = [
        "| recording | query | in the recording | " + " | ".join(WAYS) + " |",
        "|---|---|---:|" + "---:|" * len(WAYS),
    ]
    for sound, label, before, found in rows:
        cells = [f"{one.with_sound:.2f} / {one.without:.2f}, {one.level:.0f} dB" for one in found.values()]
        lines.append(f"| {label} | {sound.query} | {before:.2f} | " + " | ".join(cells) + " |")
    means = [
        f"{np.mean([found[way].with_sound for *_, found in rows]):.2f} / "
        f"{np.mean([found[way].without for *_, found in rows]):.2f}"
        for way in WAYS
    ]
    lines.append(f"| mean | | {np.mean([before for _, _, before, _ in rows]):.2f} | " + " | ".join(means) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.whole_recordings", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tagger", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- whole recordings -->")
    options = parser.parse_args(arguments)
    corpus = Corpus(options.manifest, options.cache, 32000, on_error="skip")
    separator, listener = load(options.model, device="cpu"), Listener(options.tagger, options.labels)
    rows, pictures = [], []
    for sound in track(SOUNDS, "separating", console=Console(stderr=True)):
        number = corpus.index(sound.clip)
        mix = corpus.segment(number, 0, round(_SECONDS * 32000)).float()
        mix = mix * float(corpus.scales[number])
        found = take_out(separator, mix, sound, listener)
        rows.append((sound, corpus.clips[number].label, listener(mix, sound.tag), found))
        pictures.append((sound, mix, found))
    draw(pictures, options.picture)
    text = table(rows)
    print(text, end="")
    if options.into:
        put(text, options.into, "whole recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
