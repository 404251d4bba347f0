"""Bit rates of lossy formats, and the settings of the encoders that reach them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audiosep.errors import InputError

# libsndfile takes a level between 0 and 1 instead of a bit rate: mp3 from the highest to the lowest bit rate of its
# sample rates (ISO/IEC 11172-3, 13818-3, MPEG-2.5), Opus from 256 to 6 kbit/s for each channel, Vorbis from quality 10
# to quality 0.
_MP3 = ((32_000, (32, 320)), (16_000, (8, 160)), (0, (8, 64)))
_PER_CHANNEL = {"opus": (6, 256), "ogg": (32, 250), "m4a": (16, 256)}
# kbit/s of two channels at 44.1 kHz by quality (libvorbis, vorbisenc.h and its nominal rates).
_VORBIS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)
_VORBIS_RATE = 44_100


def bitrate_range(format: str, sample_rate: int, channels: int) -> tuple[int, int]:
    """The lowest and the highest bit rate.

    Args:
        format: ogg, opus, mp3 or m4a.
        sample_rate: Hz.
        channels: number of channels.

    Returns:
        kbit/s.

    Raises:
        InputError: a format without bit rates.
    """
    if format == "mp3":
        return next(limits for lowest, limits in _MP3 if sample_rate >= lowest)
    if format not in _PER_CHANNEL:
        raise InputError(
            f"{format} keeps every sample and has no bit rate (bitrate=): leave it out, or write mp3, opus, ogg or m4a"
        )
    low, high = _PER_CHANNEL[format]
    scale = min(1.0, sample_rate / _VORBIS_RATE) if format == "ogg" else 1.0
    return round(low * channels * scale), round(high * channels * scale)


def with_bitrate(
    format: str, sample_rate: int, channels: int, encoder: Mapping[str, Any], bitrate: int
) -> dict[str, Any]:
    """The options of soundfile.SoundFile for a bit rate.

    Args:
        format: ogg, opus or mp3.
        sample_rate: Hz.
        channels: number of channels.
        encoder: the options without it.
        bitrate: kbit/s, within `bitrate_range`.
    """
    low, high = bitrate_range(format, sample_rate, channels)
    level = (high - bitrate) / (high - low)
    if format == "ogg":
        nominal = 2 * bitrate / channels / min(1.0, sample_rate / _VORBIS_RATE)
        import numpy as np  # here, as a command line that only checks bit rates does without it

        level = 1 - float(np.interp(nominal, _VORBIS, np.arange(len(_VORBIS)))) / 10
    # At 1 libsndfile asks LAME for less than its lowest bit rate.
    return {**encoder, "compression_level": min(level, 0.999)}
