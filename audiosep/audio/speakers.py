"""Speaker layouts of recordings with more than two channels, and the order of the channels in each format.

Samples are in the order of WAVE everywhere in audiosep: front left, front right, front centre, LFE, back left, ... A
layout is a number with a bit for each speaker, dwChannelMask of WAVE_FORMAT_EXTENSIBLE (Microsoft, "Multiple channel
audio data and WAVE files"); 0 stands for a layout that the file does not state.
"""

from __future__ import annotations

from audiosep.errors import AudioError

# By the names of ffmpeg (libavutil/channel_layout.c), whose channels are in the order of WAVE too.
_LAYOUTS = {
    "2.1": 0x00B,
    "3.0": 0x007,
    "3.0(back)": 0x103,
    "4.0": 0x107,
    "quad": 0x033,
    "quad(side)": 0x603,
    "3.1": 0x00F,
    "5.0": 0x037,
    "5.0(side)": 0x607,
    "4.1": 0x10F,
    "5.1": 0x03F,
    "5.1(side)": 0x60F,
    "6.0": 0x707,
    "6.0(front)": 0x6C3,
    "hexagonal": 0x137,
    "6.1": 0x70F,
    "6.1(back)": 0x13F,
    "6.1(front)": 0x6CB,
    "7.0": 0x637,
    "7.0(front)": 0x6C7,
    "7.1": 0x63F,
    "7.1(wide)": 0x0FF,
    "7.1(wide-side)": 0x6CF,
    "octagonal": 0x737,
}
_NAMES = {mask: name for name, mask in _LAYOUTS.items()}
_LFE = 0x008
USUAL = {3: 0x007, 4: 0x033, 5: 0x037, 6: 0x03F, 7: 0x70F, 8: 0x63F}
"""Channels -> the layout of flac (RFC 9639, 9.1.3) and of Vorbis, which stands for one that is not stated."""

FLAC_SPEAKERS = "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
"""Name of the Vorbis comment with the speakers of a flac file that has other than the usual ones (RFC 9639, 8.6.2)."""

# Vorbis I specification, 4.3.9, which Opus follows (RFC 7845, 5.1.1.2): for each of its channels that of WAVE.
_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}
# Where there is one pair of surround speakers, formats call it back or side.
_SAME = {0x603: 0x033, 0x607: 0x037, 0x60F: 0x03F}


def layout_mask(name: str) -> int:
    """The speakers of one of ffmpeg's layouts.

    Args:
        name: such as "5.1(side)".

    Returns:
        A bit for each speaker; 0 for mono, stereo and layouts that WAVE cannot state.
    """
    return _LAYOUTS.get(name, 0)


def layout_name(channels: int, speakers: int) -> str:
    """The name that ffmpeg has for a layout.

    Args:
        channels: number of channels.
        speakers: a bit for each; 0: the usual layout.
    """
    if channels < 3:
        return ("mono", "stereo")[channels - 1]
    return _NAMES.get(speakers or USUAL[channels], f"{channels} channels")


def vorbis_order(channels: int) -> tuple[int, ...]:
    """For each channel of a Vorbis or Opus file, its place in the order of WAVE.

    Args:
        channels: 1 to 8.
    """
    return _VORBIS.get(channels, tuple(range(channels)))


def wave_order(channels: int) -> tuple[int, ...]:
    """For each channel in the order of WAVE, its place in a Vorbis or Opus file.

    Args:
        channels: 1 to 8.
    """
    order = vorbis_order(channels)
    return tuple(order.index(i) for i in range(channels))


def low_passed(channels: int, speakers: int) -> int | None:
    """Which channel a lossy format takes for LFE, and cuts above 120 Hz, though the recording does not say so.

    Args:
        channels: number of channels.
        speakers: a bit for each; 0: not known.

    Returns:
        Its number from 1 on; None where there is no LFE, or one that the recording states.
    """
    usual = USUAL.get(channels, 0)
    return None if speakers or not usual & _LFE else (usual & (2 * _LFE - 1)).bit_count()


def plain(channels: int, speakers: int) -> int:
    """The speakers for encoders, which know most layouts by the usual name of their surround speakers.

    Args:
        channels: number of channels.
        speakers: a bit for each; 0: the usual layout.
    """
    return _SAME.get(speakers, speakers) or USUAL.get(channels, 0)


def is_usual(channels: int, speakers: int) -> bool:
    """Whether a layout is the one that stands for its number of channels.

    Args:
        channels: number of channels.
        speakers: a bit for each; 0: the usual layout.
    """
    return channels < 3 or plain(channels, speakers) == USUAL[channels]


def check_usual(format: str, channels: int, speakers: int) -> None:
    """Refuse a layout for a format that has one per number of channels, and that would call a speaker something else.

    An encoder treats a channel by its speaker: what it takes for LFE loses all above 120 Hz.

    Args:
        format: name, for the message.
        channels: number of channels.
        speakers: a bit for each; 0: the usual layout.

    Raises:
        AudioError: names formats that can hold it.
    """
    if not is_usual(channels, speakers):
        raise AudioError(
            f"{format} has no speaker layout {layout_name(channels, speakers)}, for {channels} channels only "
            f"{layout_name(channels, 0)}: write wav or flac instead"
        )
