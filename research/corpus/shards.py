"""Shards: FLAC in tar files, with an index beside them; the same audio gives the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiosep.atomic import write_bytes, write_text


def flac(x: NDArray[np.float32], rate: int) -> bytes:
    """Encode as FLAC with 16 bits: lossless, and faster by an order of magnitude than a lossy codec.

    Args:
        x: (samples,) or (channels, samples), within full scale.
        rate: Hz.
    """
    file = io.BytesIO()
    soundfile.write(file, np.atleast_2d(x).T, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def write_shard(path: Path, members: Sequence[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write a shard and its index, first the shard.

    Args:
        path: the tar file; the index has the suffix .jsonl.
        members: rows as `audiosep.data.shards.read_shards` takes them, with `member`, and the files.
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
