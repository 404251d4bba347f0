"""Writing WAV: the same bytes at every run, and RF64 where a file passes the 4 GiB of RIFF.

libsndfile writes the time into float files and has to know beforehand whether a file will pass 4 GiB. Here the header
reserves the space that EBU Tech 3306 (RF64) describes, and is completed when the file is closed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from audiosep.audio.tags import riff_info

RIFF_LIMIT = 2**32 - 1
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# 5.1 and 7.1, where the speakers are not known; other numbers of channels have several usual orders: none is claimed.
_SPEAKERS = {6: 0x3F, 8: 0x63F}
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
_DS64_BYTES = 28


class WavFile:
    """A WAV file that is written in blocks.

    Args:
        file: opened for writing, at its start, seekable.
        sample_rate: Hz.
        channels: number of channels; above two the header is WAVE_FORMAT_EXTENSIBLE.
        depth: "16", "24" or "float".
        tags: by the names of AudioInfo.tags.
        speakers: dwChannelMask; 0: not known.
        chunks: further ones, whole.
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate: int,
        channels: int,
        depth: str,
        tags: Mapping[str, str] | None = None,
        speakers: int = 0,
        chunks: bytes = b"",
    ) -> None:
        self._file = file
        self._width = {"16": 2, "24": 3, "float": 4}[depth] * channels
        self._samples = 0
        code = _FLOAT if depth == "float" else _PCM
        form = _format_chunk(code, sample_rate, channels, self._width, speakers)
        self._fact = 12 + 8 + _DS64_BYTES + len(form) + 8
        front = b"JUNK" + struct.pack("<I", _DS64_BYTES) + bytes(_DS64_BYTES) + form
        # The tags first: the mark of an output must lie near the start of the file.
        front += b"fact" + struct.pack("<II", 4, 0) + riff_info(tags or {}) + chunks + b"data" + bytes(4)
        self._header = 12 + len(front)
        file.write(b"RIFF" + bytes(4) + b"WAVE" + front)

    def write(self, frames: npt.NDArray[np.int16] | npt.NDArray[np.int32] | npt.NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            frames: (samples, channels): int16, int32 whose lower 24 bits count, or float32, by depth.
        """
        self._samples += len(frames)
        if frames.dtype == np.int32:
            octets = np.ascontiguousarray(frames, "<i4").view(np.uint8).reshape(*frames.shape, 4)
            self._file.write(octets[:, :, :3].tobytes())
        else:
            self._file.write(frames.astype(frames.dtype.newbyteorder("<")).tobytes())

    def close(self) -> None:
        """Pad the data and complete the header; the file itself stays open."""
        data = self._samples * self._width
        self._file.write(b"\0" * (data % 2))
        riff = self._header - 8 + data + data % 2
        large = riff > RIFF_LIMIT
        self._patch(0, (b"RF64" if large else b"RIFF") + struct.pack("<I", 0xFFFFFFFF if large else riff))
        self._patch(self._fact, struct.pack("<I", min(self._samples, 0xFFFFFFFF)))
        self._patch(self._header - 4, struct.pack("<I", 0xFFFFFFFF if large else data))
        if large:
            self._patch(12, b"ds64" + struct.pack("<IQQQI", _DS64_BYTES, riff, data, self._samples, 0))

    def _patch(self, position: int, octets: bytes) -> None:
        self._file.seek(position)
        self._file.write(octets)


def _format_chunk(code: int, sample_rate: int, channels: int, width: int, speakers: int) -> bytes:
    bits = 8 * width // channels
    extensible = channels > 2
    body = struct.pack(
        "<HHIIHH", _EXTENSIBLE if extensible else code, channels, sample_rate, sample_rate * width, width, bits
    )
    if extensible:
        body += struct.pack("<HHIH", 22, bits, speakers or _SPEAKERS.get(channels, 0), code) + _SUBFORMAT
    return b"fmt " + struct.pack("<I", len(body)) + body
