"""Reading and writing audio: files and arrays as float32 (channels, samples), without torch.

The names are resolved on first use: what a command line checks needs no decoder, and not NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_PUBLIC = {
    "as_array": "audiosep.audio.arrays",
    "AudioReader": "audiosep.audio.decode",
    "read_audio": "audiosep.audio.decode",
    "AudioWriter": "audiosep.audio.encode",
    "write_audio": "audiosep.audio.encode",
    "FORMATS": "audiosep.audio.formats",
    "SUFFIXES": "audiosep.audio.formats",
    "can_clip": "audiosep.audio.formats",
    "check_format": "audiosep.audio.formats",
    "format_of": "audiosep.audio.formats",
    "is_recording": "audiosep.audio.formats",
    "written_depth": "audiosep.audio.formats",
    "written_rate": "audiosep.audio.formats",
    "AudioInfo": "audiosep.audio.info",
    "MAX_SECONDS": "audiosep.audio.limits",
    "check_rate": "audiosep.audio.limits",
    "probe": "audiosep.audio.probing",
    "StreamResampler": "audiosep.audio.resampling",
    "resample": "audiosep.audio.resampling",
    "resampled_length": "audiosep.audio.resampling",
}

__all__ = [
    "FORMATS",
    "MAX_SECONDS",
    "SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "StreamResampler",
    "as_array",
    "can_clip",
    "check_format",
    "check_rate",
    "format_of",
    "is_recording",
    "probe",
    "read_audio",
    "resample",
    "resampled_length",
    "write_audio",
    "written_depth",
    "written_rate",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'audiosep.audio' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


if TYPE_CHECKING:
    from audiosep.audio.arrays import as_array
    from audiosep.audio.decode import AudioReader, read_audio
    from audiosep.audio.encode import AudioWriter, write_audio
    from audiosep.audio.formats import (
        FORMATS,
        SUFFIXES,
        can_clip,
        check_format,
        format_of,
        is_recording,
        written_depth,
        written_rate,
    )
    from audiosep.audio.info import AudioInfo
    from audiosep.audio.limits import MAX_SECONDS, check_rate
    from audiosep.audio.probing import probe
    from audiosep.audio.resampling import StreamResampler, resample, resampled_length
