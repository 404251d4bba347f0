"""Reading and writing audio: files and arrays as float32 (channels, samples), without torch."""

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
from audiosep.audio.limits import (
    MAX_SECONDS,
    check_rate,
)
from audiosep.audio.probe import probe
from audiosep.audio.resample import StreamResampler, resample, resampled_length

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
