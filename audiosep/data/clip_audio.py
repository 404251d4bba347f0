"""Clips to samples: mono float32 at one rate, from files and members of tar shards."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from audiosep.audio import read_audio, resample
from audiosep.audio.samples import Array
from audiosep.data.manifest import Clip
from audiosep.errors import AudioError, BehindTheEndError, InputError


class ShardReader:
    """Members of tar shards by name; each shard is opened and indexed once."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def names(self, path: str) -> list[str]:
        """Names of all files in a shard.

        Args:
            path: the shard.

        Raises:
            AudioError: the shard cannot be read.
        """
        return list(self._shard(path)[1])

    def extract(self, path: str, member: str) -> Path:
        """Copy a member to a temporary file, which the next call overwrites and `close` removes.

        Args:
            path: the shard.
            member: name of a file in it.

        Raises:
            AudioError: the shard cannot be read or has no such member.
        """
        shard, members = self._shard(path)
        if member not in members:
            raise AudioError(f"{path} has no member {member!r}; rebuild the manifest with `audiosep data build`")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="audiosep-")
        target = Path(self._folder.name, "member").with_suffix(Path(member).suffix)
        try:
            file = shard.extractfile(members[member])
            assert file is not None  # only regular files are indexed
            target.write_bytes(file.read())
        except (OSError, tarfile.TarError) as error:
            raise AudioError(f"cannot read {path}:{member}: {error}") from error
        return target

    def _shard(self, path: str) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
        if path not in self._open:
            try:
                shard = tarfile.open(path)  # noqa: SIM115  # stays open for the next members; closed by close()
                self._open[path] = shard, {info.name.removeprefix("./"): info for info in shard if info.isfile()}
            except (OSError, tarfile.TarError) as error:
                raise AudioError(f"cannot read the shard {path}: {error}") from error
        return self._open[path]

    def close(self) -> None:
        """Close all shards and remove the temporary file."""
        for shard, _ in self._open.values():
            shard.close()
        self._open.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class ClipKeys:
    """Names of the audio of clips, which change when their files do; each file is looked at once."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, int, int]] = {}

    def __call__(self, clip: Clip) -> str:
        """The file with its size and time of modification, and the part of it.

        Args:
            clip: the clip; where its file is missing, decoding it raises the error.
        """
        if clip.path not in self._files:
            path = Path(clip.path)
            try:
                status = path.stat()
                size, modified = status.st_size, status.st_mtime_ns
            except OSError:
                size, modified = 0, 0
            self._files[clip.path] = path.resolve().as_posix(), size, modified
        channel = () if clip.channel is None else (f"channel {clip.channel}",)
        return "|".join(map(str, (*self._files[clip.path], clip.member or "", clip.start, clip.seconds, *channel)))


def decode_clip(clip: Clip, shards: ShardReader) -> tuple[Array, int]:
    """Decode a clip at the rate of its file.

    Args:
        clip: names the file or shard member, and the part of it.
        shards: reads shard members.

    Returns:
        samples (channels, samples) float32, sample rate in Hz.

    Raises:
        AudioError: the audio cannot be decoded, has no samples, NaN or infinity, or not the channel of the clip; the
            message names the file.
    """
    path = Path(clip.path) if clip.member is None else shards.extract(clip.path, clip.member)
    seconds = clip.seconds if clip.seconds > 0 else None
    try:
        x, rate = read_audio(path, max_seconds=None, start=clip.start, seconds=seconds, name=clip.place)
    except BehindTheEndError as error:  # names the file itself
        raise AudioError(str(error)) from error
    except InputError as error:
        raise AudioError(f"{clip.place}: {error}") from error
    if clip.channel is None:
        return x, rate
    if not 0 <= clip.channel < len(x):
        raise AudioError(f"{clip.place}: the manifest names channel {clip.channel}, counted from 0, of {len(x)}")
    return x[clip.channel : clip.channel + 1], rate


def mono_clip(clip: Clip, sample_rate: int, shards: ShardReader) -> Array:
    """Decode a clip as mono, the mean of its channels.

    Args:
        clip: the clip.
        sample_rate: Hz.
        shards: reads shard members.

    Returns:
        (samples,) float32.

    Raises:
        AudioError: as for `decode_clip`.
    """
    x, rate = decode_clip(clip, shards)
    mono = x.mean(0)[None]
    # Rounded to the nearest length, as in the caches that models were trained with; resample() rounds up.
    return resample(mono, rate, sample_rate)[0, : int(mono.shape[1] * sample_rate / rate + 0.5)]


def decode_many(clips: Sequence[Clip], sample_rate: int) -> Iterator[Array | AudioError]:
    """Decode clips as mono, one after the other.

    Args:
        clips: the clips.
        sample_rate: Hz.

    Yields:
        The samples (samples,) of each clip, or the error that it raised.
    """
    shards = ShardReader()
    try:
        for clip in clips:
            try:
                yield mono_clip(clip, sample_rate, shards)
            except AudioError as error:
                yield error
    finally:
        shards.close()
