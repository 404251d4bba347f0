"""Audio in and out of the library: files and arrays as float32 (channels, samples). Free of torch."""

from audiosep.audio.arrays import as_array
from audiosep.audio.decode import AudioReader, read_audio
from audiosep.audio.encode import AudioWriter, write_audio
from audiosep.audio.formats import (
    DEPTHS,
    FORMATS,
    SUFFIXES,
    can_clip,
    check_format,
    format_of,
    is_recording,
    written_depth,
)
from audiosep.audio.info import AudioInfo
from audiosep.audio.limits import (
    MAX_CHANNELS,
    MAX_RATE,
    MAX_SECONDS,
    MIN_RATE,
    check_channels,
    check_duration,
    check_finite,
    check_rate,
)
from audiosep.audio.probe import probe
from audiosep.audio.resample import StreamResampler, resample, resampled_length

__all__ = [
    "DEPTHS",
    "FORMATS",
    "MAX_CHANNELS",
    "MAX_RATE",
    "MAX_SECONDS",
    "MIN_RATE",
    "SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "StreamResampler",
    "as_array",
    "can_clip",
    "check_channels",
    "check_duration",
    "check_finite",
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
]
