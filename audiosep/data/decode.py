"""Clips to samples: mono float32 at one rate, from files and tar members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from audiosep.audio import read_audio
from audiosep.data.manifest import Clip
from audiosep.errors import AudioError

Samples = NDArray[np.float32]


class ShardReader:
    """Bytes of tar members by name; each shard is opened and indexed once.

    Raises:
        AudioError: the shard cannot be read or has no such member.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]] = {}

    def names(self, path: str) -> list[str]:
        """Names of all files in a shard."""
        return list(self._shard(path)[1])

    def read(self, path: str, member: str) -> bytes:
        """The bytes of one file in a shard."""
        shard, members = self._shard(path)
        if member not in members:
            raise AudioError(f"{path} has no member {member!r}; rebuild the manifest with `audiosep data build`")
        try:
            file = shard.extractfile(members[member])
            assert file is not None  # only regular files are indexed
            return file.read()
        except (OSError, tarfile.TarError) as error:
            raise AudioError(f"cannot read {path}:{member}: {error}") from error

    def _shard(self, path: str) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
        if path not in self._open:
            try:
                shard = tarfile.open(path)  # noqa: SIM115  # stays open for the next members; closed by close()
                self._open[path] = shard, {info.name.removeprefix("./"): info for info in shard if info.isfile()}
            except (OSError, tarfile.TarError) as error:
                raise AudioError(f"cannot read the shard {path}: {error}") from error
        return self._open[path]

    def close(self) -> None:
        for shard, _ in self._open.values():
            shard.close()
        self._open.clear()


def decode_clip(clip: Clip, shards: ShardReader) -> tuple[Samples, int]:
    """The clip at the rate of its file.

    Returns:
        samples (samples, channels) float32, sample rate in Hz.

    Raises:
        AudioError: the audio cannot be read, is empty or holds NaN/Inf; the message names the file.
    """
    x, rate = _packed(clip, shards) if clip.member is not None else _plain(clip)
    if not len(x):
        raise AudioError(f"{clip.place}: no samples")
    if not np.isfinite(x).all():
        raise AudioError(f"{clip.place}: NaN or infinite samples")
    return x, rate


def _packed(clip: Clip, shards: ShardReader) -> tuple[Samples, int]:
    assert clip.member is not None
    data = io.BytesIO(shards.read(clip.path, clip.member))
    try:
        return _read(data, clip)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{clip.place}: cannot decode: {error}") from error


def _plain(clip: Clip) -> tuple[Samples, int]:
    if not Path(clip.path).is_file():
        raise AudioError(f"{clip.path}: no such file")
    try:
        return _read(clip.path, clip)
    except (soundfile.LibsndfileError, RuntimeError):
        x, rate = read_audio(clip.path, max_seconds=None)  # formats that libsndfile lacks; says what is wrong otherwise
        first = round(clip.start * rate)
        last = first + round(clip.seconds * rate) if clip.seconds > 0 else None
        return np.ascontiguousarray(x[:, first:last].T), rate


def _read(source: io.BytesIO | str, clip: Clip) -> tuple[Samples, int]:
    with soundfile.SoundFile(source) as file:
        rate = int(file.samplerate)
        file.seek(min(round(clip.start * rate), file.frames))
        frames = round(clip.seconds * rate) if clip.seconds > 0 else -1
        return file.read(frames, dtype="float32", always_2d=True), rate


def mono_clip(clip: Clip, sample_rate: int, shards: ShardReader) -> Samples:
    """The clip as mono float32 (samples,) at `sample_rate` Hz (channels averaged)."""
    x, rate = decode_clip(clip, shards)
    mono: Samples = x.mean(1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ").astype(np.float32)
    return mono


def decode_many(clips: Sequence[Clip], sample_rate: int) -> Iterator[Samples | AudioError]:
    """Mono samples of each clip in turn, or the error that it raised."""
    shards = ShardReader()
    try:
        for clip in clips:
            try:
                yield mono_clip(clip, sample_rate, shards)
            except AudioError as error:
                yield error
    finally:
        shards.close()
