"""Decoding with libsndfile: wav, flac, ogg, opus, mp3, aiff and more; sample exact, and gapless for mp3."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from audiosep.audio.info import AudioInfo, clean_tags, sndfile_depth
from audiosep.audio.integrity import mpeg_length, ogg_end, wav_end
from audiosep.audio.limits import Array
from audiosep.audio.source import Unreadable
from audiosep.audio.tags import read_id3

logger = logging.getLogger(__name__)

# libsndfile states at least this length where the file states none.
_UNKNOWN_LENGTH = 2**62
_FORMATS = {"WAVEX": "wav", "RF64": "wav"}
_BLOCK = 16_384


class SoundFileSource:
    """A file opened by soundfile.

    Args:
        path: the file.

    Raises:
        Unreadable: not a format of libsndfile, or one that it would cut short.
    """

    def __init__(self, path: Path) -> None:
        try:
            # As bytes, because soundfile does not take names that are no UTF-8.
            self._file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
        except (soundfile.LibsndfileError, TypeError) as error:
            # TypeError: soundfile takes any .raw file for headerless samples and then lacks their rate.
            raise Unreadable(_message(error)) from error
        self._cut = False
        try:
            self.info = self._describe(path)
        except BaseException:
            self._file.close()
            raise

    def _describe(self, path: Path) -> AudioInfo:
        file = self._file
        samples: int | None = file.frames if file.frames < _UNKNOWN_LENGTH else None
        estimate, tags = None, file.copy_metadata()
        if file.subtype.startswith("MPEG_LAYER"):
            length, tags = mpeg_length(path), read_id3(path) or tags
            if length.cut_at(file.frames):
                raise Unreadable(f"it would read only {file.frames} of about {length.samples} samples")
            if not length.stated:
                samples, estimate = None, length.samples / file.samplerate
        elif file.format == "FLAC" and samples is None:
            raise Unreadable("it would lose the end of a flac file that does not state its length")
        elif file.format == "OGG":
            ogg = ogg_end(path)
            if ogg.joined:
                raise Unreadable("it would read only the first of several Ogg streams")
            self._cut = not ogg.marked
        elif file.format in ("WAV", "WAVEX"):
            wav = wav_end(path)
            if samples == 0 and not wav.closed:
                raise Unreadable("it would read nothing of a wav file that was never closed")
            self._cut = wav.cut
        return AudioInfo(
            path=path,
            sample_rate=file.samplerate,
            channels=file.channels,
            samples=samples,
            depth=sndfile_depth(file.subtype),
            format="opus" if file.subtype == "OPUS" else _FORMATS.get(file.format, file.format.lower()),
            encoding=file.subtype,
            backend="soundfile",
            tags=clean_tags(tags),
            estimate=estimate,
        )

    def seek(self, sample: int) -> int:
        if not self._file.seekable():
            return 0
        return int(self._file.seek(min(sample, self._file.frames)))

    def blocks(self) -> Iterator[Array]:
        while True:
            try:
                frames = self._file.read(_BLOCK, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise Unreadable(_message(error)) from error
            if not len(frames):
                break
            yield np.ascontiguousarray(frames.T)
        if self._cut:
            logger.warning("%s ends early: it was cut off", self.info.path)

    def close(self) -> None:
        self._file.close()


def _message(error: Exception) -> str:
    text = str(getattr(error, "error_string", error)).strip().removeprefix("Error : ").rstrip(".")
    return text or "the data is damaged"
