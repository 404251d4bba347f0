"""The recording of a page: checked, decoded once for playing, and looked at."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from audiosep.audio import SUFFIXES, AudioInfo, AudioReader, AudioWriter
from audiosep.audio.preview import representative_start
from audiosep.audio.samples import Array
from audiosep.audio.video_formats import CONTAINERS
from audiosep.errors import AudioError, Cancelled, InputError
from audiosep.studio.overview import Overview, overview_of_file
from audiosep.studio.studio_limits import Limits, check_decoded, check_upload

PREVIEW = 20.0
"""Seconds of a recording that are separated first."""

logger = logging.getLogger(__name__)

_OTHER = ".bin"
_LONGEST_NAME = 255  # as of file systems


@dataclass(frozen=True)
class Recording:
    """An uploaded recording.

    Attributes:
        name: that the user's file had; shown, and part of the names of downloads, but never of a path of ours.
        path: of the uploaded file.
        mix: its samples as a wav file of floats.
        info: what the file is.
        samples: of each channel.
        start: second at which a preview of `PREVIEW` seconds sounds like the whole.
        view: its picture.
        remarks: what was wrong with it and could be mended or left out, in words.
    """

    name: str
    path: Path
    mix: Path
    info: AudioInfo
    samples: int
    start: float
    view: Overview
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.info.sample_rate

    @property
    def is_video(self) -> bool:
        """Whether its picture can be copied beside another sound."""
        return self.path.suffix in CONTAINERS


def safe_suffix(name: str) -> str:
    """The ending of a file's name if it is one of recordings, in lower case; else one that says nothing.

    Args:
        name: that the user's file had.
    """
    suffix = Path(name.replace("\0", "")).suffix.lower()
    return suffix if suffix in SUFFIXES | set(CONTAINERS) else _OTHER


def shown_name(name: str) -> str:
    """The last part of a file's name, without control characters, and not too long.

    Args:
        name: that the user's file had.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:_LONGEST_NAME].strip() or "recording"


def open_recording(
    path: Path, name: str, limits: Limits, progress: Callable[[float], bool], track: int | None = None
) -> Recording:
    """Check a file and decode it once.

    Args:
        path: of the file, in a folder of its own, where the decoded one goes too.
        name: that the user's file had.
        limits: of the studio.
        progress: called with the fraction that is done; returning False cancels.
        track: number of the audio track; None for the default one.

    Raises:
        InputError: too large or long, or nothing that can be separated.
        AudioError: no recording.
        Cancelled: by `progress`.
    """
    name, label, mix = shown_name(name), f"upload {path.parent.name}", path.with_name("mix.wav")
    logger.info("%s: %d bytes", label, path.stat().st_size)

    def told(message: str) -> str:
        return message.replace(label, name).replace(str(path), name)

    with remarks() as found:
        try:
            info = check_upload(path, limits, track)
            expected = (info.seconds or limits.seconds) * info.sample_rate
            # The track is named, also the default one: the page says which others there are. The user's name for the
            # file is not, as it would go to the server's log.
            with AudioReader(path, max_seconds=limits.seconds, name=label, track=info.track) as reader:
                info = replace(reader.info, path=path)
                with AudioWriter(mix, info.sample_rate, info.channels, "float") as writer:
                    for block in checked_blocks(reader, limits):
                        writer.write(block)
                        if not progress(min(0.9, writer.samples / max(1.0, expected))):
                            raise Cancelled("opening the recording was cancelled")
        except (AudioError, InputError) as error:
            raise type(error)(told(str(error))) from error
    samples = writer.samples
    view = overview_of_file(mix)
    start = representative_start(mix, PREVIEW) if samples > 1.5 * PREVIEW * info.sample_rate else 0.0
    progress(1.0)
    return Recording(name, path, mix, info, samples, start, view, tuple(map(told, found)))


def checked_blocks(reader: AudioReader, limits: Limits) -> Iterator[Array]:
    """The blocks of a recording, (channels, n) each, as long as it is not too large: its header may not say.

    Args:
        reader: of the recording.
        limits: of the studio.

    Raises:
        InputError: too large when it is decoded.
        AudioError: the recording cannot be read.
    """
    samples = 0
    for block in reader:
        samples += block.shape[1]
        check_decoded(samples, reader.info.channels, limits)
        yield block


@contextlib.contextmanager
def remarks() -> Iterator[list[str]]:
    """The warnings that this thread logs: damage that decoders found, and what a format cannot hold."""
    found: list[str] = []
    thread = threading.get_ident()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    logger, handler = logging.getLogger("audiosep"), Keep(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
