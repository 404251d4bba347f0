"""File formats: the suffixes of recordings, the formats that audiosep writes, and what each of them can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosep.audio.bitrates import bitrate_range
from audiosep.audio.speakers import check_usual
from audiosep.errors import AudioError, InputError

DEPTHS = ("16", "24", "float")
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "caf", "au", "snd", "voc", "flac", "alac"),
        *("ape", "wv", "tta", "tak", "mp1", "mp2", "mp3", "mpga", "mpc", "m4a", "m4b", "m4r", "aac", "adts", "ogg"),
        *("oga", "opus", "spx", "wma", "mka", "weba", "ac3", "eac3", "dts", "amr", "awb", "3ga", "ra"),
        # Videos; not ts, which is also the suffix of TypeScript.
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "vob", "mts", "m2ts", "wmv", "asf", "flv", "f4v"),
        *("3gp", "3g2", "ogv", "mxf", "rm", "rmvb"),
    )
)
WITHOUT_SOUND = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "svg", "heic", "ico", "txt", "md", "pdf", "doc"),
        *("docx", "odt", "xls", "xlsx", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "html", "htm", "nfo"),
        *("log", "cue", "m3u", "m3u8", "pls", "xspf", "lrc", "srt", "vtt", "ass", "sub", "idx", "ini", "db", "url"),
        *("lnk", "sha256", "md5", "sfv", "py", "zip", "part"),
    )
)
"""Suffixes of files that lie beside recordings and hold no sound."""


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Args:
        extensions: of file names, the usual one first.
        depths: DEPTHS that it has; empty for lossy formats.
        rates: sample rates in Hz that it has, in order; empty: all.
        channels: most channels.
        encoder: options of soundfile.SoundFile, at a quality for further processing; None where another library
            writes the format.
        vorbis: whether its channels are in the order of Vorbis.
    """

    extensions: tuple[str, ...]
    depths: tuple[str, ...] = ()
    rates: tuple[int, ...] = ()
    channels: int = 8
    encoder: Mapping[str, Any] | None = None
    vorbis: bool = False


FORMATS = {
    "wav": Format((".wav", ".wave"), depths=DEPTHS),
    "flac": Format((".flac",), depths=("16", "24"), encoder={"format": "FLAC"}),
    # About 270 kbit/s for stereo.
    "ogg": Format(
        (".ogg", ".oga"),
        encoder={"format": "OGG", "subtype": "VORBIS", "compression_level": 0.2},
        vorbis=True,
    ),
    # About 250 kbit/s for stereo.
    "opus": Format(
        (".opus",),
        rates=(8_000, 12_000, 16_000, 24_000, 48_000),
        encoder={"format": "OGG", "subtype": "OPUS", "compression_level": 0.5},
        vorbis=True,
    ),
    # 320 kbit/s.
    "mp3": Format(
        (".mp3",),
        rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        channels=2,
        encoder={
            "format": "MP3",
            "subtype": "MPEG_LAYER_III",
            "compression_level": 0.0,
            "bitrate_mode": "CONSTANT",
        },
    ),
    # AAC, 256 kbit/s for stereo. With more channels ffmpeg's encoder writes layouts that other programs do not know.
    "m4a": Format(
        (".m4a",),
        rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
        channels=6,
    ),
}
_LIST = ", ".join(FORMATS)


def is_recording(path: Path) -> bool:
    """Whether a file of a folder is taken for a recording: by its suffix (SUFFIXES), and not when it is hidden.

    A file that the user names is tried whatever its suffix.

    Args:
        path: any path; only its name counts.
    """
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def format_of(path: str | Path) -> str:
    """The format of a file name.

    Args:
        path: the file; `-`, standard output, is wav.

    Raises:
        AudioError: an extension that is not one of FORMATS.
    """
    if str(path) == "-":
        return "wav"
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if suffix in form.extensions:
            return name
    raise AudioError(f"cannot write {path}: the extension {suffix!r} names none of the formats {_LIST}")


def written_depth(format: str, depth: str) -> str | None:
    """The depth that a file will have.

    Args:
        format: one of FORMATS.
        depth: one of DEPTHS.

    Returns:
        `depth`, or the best that the format has below it; None for lossy formats.

    >>> written_depth("flac", "float")
    '24'

    Raises:
        InputError: not one of DEPTHS.
        AudioError: not one of FORMATS.
    """
    if depth not in DEPTHS:
        raise InputError(f"the depth must be one of {', '.join(DEPTHS)}, got {depth!r}")
    depths = _format(format).depths
    return depth if depth in depths else depths[-1] if depths else None


def can_clip(format: str, depth: str) -> bool:
    """Whether a file saturates beyond full scale: all but floats do, lossy formats when they are played.

    Args:
        format: one of FORMATS.
        depth: one of DEPTHS.

    Raises:
        InputError, AudioError: as written_depth.
    """
    return written_depth(format, depth) != "float"


def written_rate(format: str, sample_rate: int) -> int:
    """The sample rate of a file: the same, or the next one above that the format has, else its highest.

    >>> written_rate("opus", 44100)
    48000

    Args:
        format: one of FORMATS.
        sample_rate: Hz.

    Returns:
        Hz.

    Raises:
        AudioError: not one of FORMATS.
    """
    rates = _format(format).rates
    if not rates or sample_rate in rates:
        return sample_rate
    return next((rate for rate in rates if rate > sample_rate), rates[-1])


def check_format(format: str, sample_rate: int, channels: int, speakers: int = 0, bitrate: int | None = None) -> None:
    """Refuse what a format cannot hold: audiosep never mixes channels, or calls one something else, to fit a format.

    Args:
        format: one of FORMATS.
        sample_rate: Hz.
        channels: number of channels.
        speakers: a bit for each, as in `audio.speakers`; 0: the usual layout.
        bitrate: kbit/s; None: that of the format.

    Raises:
        AudioError: the message names what the format has.
    """
    form = _format(format)
    if format == "flac" and sample_rate > 65_535 and sample_rate % 10:
        raise AudioError(f"flac cannot state {sample_rate} Hz, only multiples of 10 above 65535: write wav instead")
    if channels > form.channels:
        raise AudioError(f"{format} has at most {form.channels} channels, got {channels}: write wav or flac instead")
    if not form.depths:
        check_usual(format, channels, speakers)
    if bitrate is not None:
        low, high = bitrate_range(format, written_rate(format, sample_rate), channels)
        if not low <= bitrate <= high:
            raise AudioError(
                f"{format} has {low} to {high} kbit/s for {channels} channels of {sample_rate} Hz, not {bitrate}"
            )


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise AudioError(f"unknown audio format {name!r}: choose one of {_LIST}")
    return FORMATS[name]
