"""Shards: Ogg Opus in tar files, with an index beside them; the same audio gives the same bytes."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiosep.atomic import write_bytes, write_text
from audiosep.errors import AudioError

# Bits a second of a channel, by sample rate in Hz.
_BITS = {16_000: 28_000, 24_000: 36_000, 48_000: 48_000}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def opus(x: NDArray[np.float32], rate: int) -> bytes:
    """Encode as Ogg Opus.

    Args:
        x: (samples,) or (channels, samples).
        rate: Hz, one of those of Opus.

    Raises:
        AudioError: the encoder refuses.
    """
    frames = np.atleast_2d(x).T
    # Of libsndfile: 0 is 256 kbit/s for a channel, 1 is 6.
    level = 1 - (_BITS[rate] - 6_000) / 250_000
    file = io.BytesIO()
    try:
        soundfile.write(file, frames, rate, format="OGG", subtype="OPUS", compression_level=level)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the Opus encoder refuses: {error}") from error
    return _with_serial(file.getvalue(), 1)


def write_shard(path: Path, members: Sequence[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write a shard and its index, first the shard.

    Args:
        path: the tar file; the index has the suffix .jsonl.
        members: rows as `audiosep.data.readers.read_shards` takes them, with `member`, and the files.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, data in members:
            info = tarfile.TarInfo(row["member"])  # owner, time and mode are constants
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    write_bytes(path, content.getvalue())
    lines = [json.dumps({**row, "shard": path.name}, ensure_ascii=False, sort_keys=True) + "\n" for row, _ in members]
    write_text(path.with_suffix(".jsonl"), "".join(lines))


def _with_serial(ogg: bytes, serial: int) -> bytes:
    """An Ogg stream with another serial number; encoders draw it at random."""
    out, at = bytearray(ogg), 0
    while at < len(out):
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = struct.pack("<I", serial)
        out[at + 22 : at + 26] = bytes(4)
        # The checksum of Ogg is CRC-32 with the bits of each byte reversed, and without inversions (RFC 3533).
        check = zlib.crc32(bytes(out[at:end]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        out[at + 22 : at + 26] = struct.pack("<I", int(f"{check:032b}"[::-1], 2))
        at = end
    return bytes(out)
