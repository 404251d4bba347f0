"""Scenes from audio files, and the error for missing files that all readers of test sets share."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiosep.audio import read_audio, resample
from audiosep.audio.samples import Array
from audiosep.errors import DataError, counted
from audiosep.evaluation.benchmarks import Scene


@dataclass(frozen=True)
class SetLayout:
    """Where the files of a test set belong and who publishes it.

    Attributes:
        title: name of the set.
        tree: its files, one a line.
        owner: where its owner publishes it; "you" for files that users make.
    """

    title: str
    tree: str
    owner: str

    def missing(self, problem: str, root: Path) -> DataError:
        """The error for a missing file.

        Args:
            problem: what is missing.
            root: the folder that was searched.

        Returns:
            An error that also names the expected files and where to get them.
        """
        tree = "\n".join(f"  {line}" for line in self.tree.strip().splitlines())
        source = "as files of your own" if self.owner == "you" else f"published at {self.owner}"
        return DataError(f"{self.title}: {problem} in {root}; expected\n{tree}\n{source}")


@dataclass(frozen=True)
class SourceFile:
    """A file that holds one true source.

    Attributes:
        name: key of the source in the scene.
        path: the file.
        channel: the channel that holds the source; None for all.
    """

    name: str
    path: str
    channel: int | None = None


def read_scene(
    mix: str | None,
    sources: Sequence[SourceFile],
    *,
    rate: int | None = None,
    mono: bool = False,
    ratio: float | None = None,
) -> Scene:
    """Read a scene.

    Args:
        mix: the file of the mixture; None for the sum of the sources.
        sources: at least one; cut or padded by up to 4410 samples (0.1 s at 44.1 kHz) to the length of the mixture.
        rate: Hz to convert to; None for the rate of the files.
        mono: average the channels.
        ratio: energy of the first source over each other one, in dB; None for the levels of the files.

    Raises:
        DataError: lengths, rates or channels that differ.
    """
    read = {source.name: _read(source, rate, mono) for source in sources}
    first_rate = next(iter(read.values()))[1]
    if mix is None:
        rows = {name: x for name, (x, _) in read.items()}
        length = max(x.shape[-1] for x in rows.values())
        parts = {name: _fit(x, length, len(x), name) for name, x in rows.items()}
        if ratio is not None:
            parts = _balanced(parts, ratio)
        return Scene(np.sum(list(parts.values()), axis=0), parts, first_rate)
    whole, whole_rate = _read(SourceFile("mix", mix), rate, mono)
    for source in sources:
        if read[source.name][1] != whole_rate:
            raise DataError(f"{source.path} has {read[source.name][1]} Hz, its mixture {mix} {whole_rate} Hz")
    fitted = {s.name: _fit(read[s.name][0], whole.shape[-1], len(whole), s.path) for s in sources}
    return Scene(whole, fitted, whole_rate)


def files_version(paths: Iterable[str | Path], *more: object) -> str:
    """A text that changes when one of the files does, by size or modification time, or when one of `more` does."""
    stats = [Path(path).stat() for path in paths]
    return f"{zlib.crc32(repr(([(s.st_size, s.st_mtime_ns) for s in stats], more)).encode()):08x}"


def loudest_cut(x: Array, samples: int) -> slice:
    """The cut of at most `samples` samples with the most energy.

    Args:
        x: (channels, any).
        samples: length of the cut.
    """
    length = min(x.shape[-1], samples)
    power = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64).sum(0))])
    start = int(np.argmax(power[length:] - power[: len(power) - length]))
    return slice(start, start + length)


def common_gain(arrays: Iterable[Array]) -> np.float32:
    """The gain, at most 1, that keeps all arrays below 0.99 of full scale."""
    return np.float32(min(1.0, 0.99 / max(1e-9, *(float(np.abs(x).max()) for x in arrays))))


def _read(source: SourceFile, rate: int | None, mono: bool) -> tuple[Array, int]:
    x, own = read_audio(source.path)
    if source.channel is not None:
        if source.channel >= len(x):
            raise DataError(f"{source.path}: expected {source.channel + 1} channels or more, it has {len(x)}")
        x = x[source.channel][None]
    if mono:
        x = x.mean(0, keepdims=True)
    if rate is not None:
        x, own = resample(x, own, rate), rate
    return x, own


def _fit(x: Array, samples: int, channels: int, name: str) -> Array:
    # 0.1 s at 44.1 kHz: codecs and editors add or drop a frame; a larger difference means another recording.
    if abs(x.shape[-1] - samples) > 4410:
        raise DataError(f"{name} has {counted(x.shape[-1], 'sample')}, its mixture {samples}: not the same recording")
    if len(x) not in (1, channels):
        raise DataError(f"{name} has {counted(len(x), 'channel')}, its mixture {channels}")
    cut = np.pad(x[:, :samples], ((0, 0), (0, max(0, samples - x.shape[-1]))))
    return np.ascontiguousarray(np.broadcast_to(cut, (channels, samples)))


def _balanced(parts: dict[str, Array], ratio: float) -> dict[str, Array]:
    (first, target), *others = parts.items()
    energy = float(np.square(target, dtype=np.float64).sum())
    out = {first: target}
    for name, x in others:
        own = float(np.square(x, dtype=np.float64).sum())
        gain = np.sqrt(energy / own) * 10 ** (-ratio / 20) if own > 0 else 1.0
        out[name] = (x * gain).astype(np.float32)
    return out
