"""A small corpus of made sounds in real files: several labels, formats, sample rates, and songs of stems."""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import sounds

from audiosep.data.corpus import Corpus
from audiosep.data.manifest import STEMS, Clip

RATE = 16000
FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
LABELS = {
    "dog barking": ("event", ("a dog barking", "dog")),
    "rain": ("event", ("rain falling", "heavy rain")),
    "rain on a surface": ("event", ("rain", "rain on a window")),
    "clock ticking": ("event", ("a clock ticking",)),
    "explosion": ("event", ("blast",)),
    "zipper": ("event", ("zipping up",)),
    "speech": ("speech", ("people talking", "someone talking")),
    "male speech": ("speech", ("a man speaking", "speech")),
    "female speech": ("speech", ("a woman speaking", "speech")),
    "piano": ("instrument", ("a piano playing",)),
}


def wave(seed: int, seconds: float, rate: int) -> np.ndarray:
    """Up to 4 s of a made sound, another for every seed."""
    return np.roll(_base(seed % 3, rate), 997 * seed)[: round(seconds * rate)]


@functools.cache
def _base(kind: int, rate: int) -> np.ndarray:
    loud = (sounds.voice, sounds.drums, sounds.noise)[kind](4.0, rate, seed=kind)
    return (loud + 0.3 * sounds.loop(4.0, rate, period=0.8, seed=kind)).astype(np.float32)


def encode(x: np.ndarray, rate: int, name: str) -> bytes:
    """Real bytes of x (samples,) or (samples, channels) in the format that the name's extension says."""
    container, subtype = FORMATS[name.rpartition(".")[2]]
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=container, subtype=subtype)
    return file.getvalue()


def write(path: Path, x: np.ndarray, rate: int = RATE) -> Path:
    """An audio file, folders made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(x, rate, path.name))
    return path


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar file."""
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))


def make_clips(folder: Path, takes: int = 3, songs: int = 2) -> list[Clip]:
    """`takes` recordings of each label, one a group, and songs of four stems; 0.8 to 3 s, 8 and 16 kHz."""
    clips = []
    for number, (label, (family, captions)) in enumerate(LABELS.items()):
        for take in range(takes):
            seed = 10 * number + take
            rate = 8000 if label == "clock ticking" else RATE
            name = f"{label.replace(' ', '_')}-{take}.{list(FORMATS)[seed % 3]}"
            seconds = 0.8 if take == 2 else 3.0
            path = write(folder / name, wave(seed, seconds, rate), rate)
            source = {"source_rate": rate, "seconds": seconds, "group": f"file:{name}"}
            clips.append(Clip(id=name, path=str(path), label=label, family=family, captions=captions, **source))
    for song in range(songs):
        for number, stem in enumerate(STEMS):
            label = {"bass": "bass guitar", "other": "piano"}.get(stem, stem)
            path = write(folder / f"song{song}" / f"{stem}.flac", 0.3 * wave(200 + 10 * song + number, 4.0, RATE))
            place = {"stem": stem, "song": f"song{song}", "group": f"song:song{song}", "gain_db": -3.0 * number}
            clip = Clip(f"song{song}/{stem}", str(path), label, seconds=4.0, family="music", source_rate=RATE, **place)
            clips.append(clip)
    return clips


def make_corpus(folder: Path, clips: Sequence[Clip] | None = None) -> Corpus:
    """The decoded corpus, at RATE."""
    return Corpus(make_clips(folder) if clips is None else clips, folder / "cache", RATE)
