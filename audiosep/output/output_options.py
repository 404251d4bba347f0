"""What is written of a separated file: the options that Python, the command line and Ray jobs share."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

from audiosep.audio.bitrates import bitrate_range
from audiosep.audio.formats import FORMATS, written_depth
from audiosep.audio.limits import MAX_SECONDS, check_part, check_rate
from audiosep.audio.stem_file import SONG, STEM_FILE, STEMS, TRACKS
from audiosep.audio.video_formats import CONTAINERS
from audiosep.errors import InputError, did_you_mean
from audiosep.output.names import TEMPLATE, check_template

OnClip = Literal["gain", "float", "clip"]
_AAC = ("aac", "adts", "m4b", "m4r")


@dataclass(frozen=True)
class OutputOptions:
    """What is written for each recording, and in which format.

    Args:
        format: wav, flac, ogg, opus, mp3 or m4a, in any case; sample depth, tags, cover, chapters and speaker layout
            follow the input. Where the format lacks the sample rate, the outputs are resampled. "stem.mp4" for stems:
            one file for DJ programs, with the song and its four stems as tracks of AAC.
        template: of the file names, with {file}, {stem} (the target's name) and {ext}; slashes make subfolders. One
            without {ext} gets it.
        residual: whether to write also what is left of the mixture; beside a target it is not written to standard
            output.
        only: write only this target, or these, in any case; what is left then contains the others. None writes all.
        on_clip: what to do where samples of an integer format would clip: "gain" multiplies all outputs of a recording
            by one gain, "float" writes floating-point samples (wav), "clip" saturates.
        overwrite: whether existing files may be replaced.
        max_seconds: recordings longer than this are refused, in seconds.
        rest_only: whether to write nothing but what is left of the mixture.
        video: whether to copy the picture of videos, so that each output is a video with other sound; its format is
            that of the input.
        skip_existing: whether to leave out recordings all of whose outputs exist; outputs of another recording of the
            same name are passed over, and one that was made with other options or by another model is an error. Where
            only some of them exist, as when a process was killed, the others are made. No file is replaced.
        bitrate: of ogg, opus, mp3 and m4a, and of each track of stem.mp4, kbit/s; None: 320 for mp3, about 250 for two
            channels of the others.
        start: seconds of each recording to leave out at its start.
        end: where to end, in seconds of the recording; None: at its end.
        preview: separate only a stretch of so many seconds, which sounds like the whole recording.
        rate: sample rate of the outputs, Hz; None: that of the recording.
        mono: whether the outputs are the mean of their channels.
        loudness: of the loudest output in LUFS (ITU-R BS.1770); all outputs of a recording get the same gain. Where
            that would clip, the gain is less, as `on_clip` says. None: as they are.
        track: number (from 1 on), language or name of the audio track of recordings with several; None: the
            default one.
        everywhere: whether what is left differs from the recording everywhere; else only where the targets may sound
            (`Activity.extent`), with edges of 50 ms.
        labels: whether to write beside each target when it sounds, as a label file of Audacity with the same name and
            the ending txt; with `rest_only` one for all targets.

    Raises:
        InputError: an impossible value; the message names the possible ones.
    """

    format: str = "wav"
    template: str = TEMPLATE
    residual: bool = True
    only: str | Sequence[str] | None = None
    on_clip: OnClip = "gain"
    overwrite: bool = False
    max_seconds: float = MAX_SECONDS
    rest_only: bool = False
    skip_existing: bool = False
    video: bool = False
    bitrate: int | None = None
    track: str | None = None
    start: float = 0.0
    end: float | None = None
    preview: float | None = None
    rate: int | None = None
    mono: bool = False
    loudness: float | None = None
    everywhere: bool = True
    labels: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", _format_named(str(self.format)))
        if self.on_clip not in get_args(OnClip):
            raise InputError(f"on_clip must be {', '.join(get_args(OnClip))}, got {self.on_clip!r}")
        if self.on_clip == "float" and written_depth(self.encoding, "float") != "float":
            raise InputError(f"{self.format} files hold no floating-point samples: write wav, or leave out on_clip")
        check_template(self.template, None if self.video else self.format)
        if self.bitrate is not None:
            if not isinstance(self.bitrate, int) or isinstance(self.bitrate, bool) or self.bitrate < 1:
                raise InputError(f"bitrate must be a whole number of kbit/s, got {self.bitrate!r}")
            if self.video is True:
                raise InputError("videos have sound of a fixed bit rate: leave out the bit rate")
            self._check_bitrate(self.bitrate)
        for name in ("residual", "rest_only", "overwrite", "skip_existing", "video", "mono", "everywhere", "labels"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.video and (self.format != "wav" or self.on_clip == "float"):
            raise InputError("videos keep the format of the input: leave out the format and on_clip='float'")
        if self.overwrite and self.skip_existing:
            raise InputError("overwrite=True and skip_existing=True exclude each other: choose one")
        self._check_stretch()
        if self.rate is not None:
            check_rate(self.rate)
        if self.loudness is not None and (not isinstance(self.loudness, Real) or not -70 < self.loudness <= 0):
            raise InputError(f"loudness must be a number above -70 and up to 0 LUFS, got {self.loudness!r}")
        if not isinstance(self.max_seconds, Real) or not self.max_seconds >= 0:
            raise InputError(f"max_seconds must be a number of at least 0, got {self.max_seconds!r}")
        if self.track is not None:
            object.__setattr__(self, "track", str(self.track))  # a number too, from Python
        if self.only is not None:
            only = (self.only,) if isinstance(self.only, str) else tuple(self.only)
            if not only or not all(isinstance(name, str) for name in only):
                raise InputError(f"only must name at least one target, got {self.only!r}")
            object.__setattr__(self, "only", only)  # a tuple, so that equal options compare equal

    def _check_bitrate(self, bitrate: int) -> None:
        """Refuse what the format has for no sample rate and number of channels, or a format without bit rates."""
        form = FORMATS[self.encoding]
        low = min(bitrate_range(self.encoding, rate, 1)[0] for rate in form.rates or (8_000,))
        high = bitrate_range(self.encoding, form.rates[-1] if form.rates else 48_000, form.channels)[1]
        if not low <= bitrate <= high:
            raise InputError(f"{self.format} has {low} to {high} kbit/s, not {bitrate} (bitrate=)")

    def _check_stretch(self) -> None:
        check_part(self.start, self.end)
        length = self.preview
        if length is not None and (not isinstance(length, int | float) or not 0.1 <= length < math.inf):
            raise InputError(f"preview must be a number of seconds of at least 0.1, got {length!r}")
        if length is not None and (self.start or self.end is not None):
            raise InputError("preview chooses the stretch itself: leave out start and end")
        if self.video and (self.start or self.end is not None or self.preview is not None):
            raise InputError("videos keep their length: leave out start, end and preview")

    @property
    def encoding(self) -> str:
        """The one of `audio.FORMATS` that the samples are written in."""
        return "m4a" if self.format == STEM_FILE else self.format

    @property
    def tracks(self) -> tuple[str, ...]:
        """What is in the one file of a recording; empty where there is a file for each output."""
        return TRACKS if self.format == STEM_FILE else ()

    @property
    def file_template(self) -> str:
        """The template, without the name of the output where there is one only."""
        return "{file}.{ext}" if self.tracks and self.template == TEMPLATE else self.template

    def written_targets(self, names: Sequence[str]) -> list[str]:
        """The targets that are written.

        Args:
            names: of all targets that are separated.

        Raises:
            InputError: `only` names something else.
        """
        if self.only is None:
            return list(names)
        known = {name.casefold(): name for name in names}
        unknown = [name for name in self.only if name.casefold() not in known]
        if unknown:
            hint = did_you_mean(unknown[0], known) or (
                f"; any other sound is separated by words: audiosep separate FILE {shlex.join(unknown)}"
            )
            raise InputError(
                f"{', '.join(map(repr, unknown))} cannot be the only output: choose from {', '.join(names)}{hint}"
            )
        return list(dict.fromkeys(known[name.casefold()] for name in self.only))

    def written_rest(self, targets: Sequence[str], *, stems: bool, stdout: bool = False) -> str | None:
        """The name of the output with what is left of the mixture.

        Args:
            targets: that are separated.
            stems: whether they are the model's fixed stems.
            stdout: whether the output goes to standard output.

        Returns:
            "instrumental" beside the stem vocals alone, otherwise "without piano, violin"; None where it is not
            written: not wanted, or all stems are written, which sum to the mixture.

        Raises:
            InputError: nothing is left of the mixture, and nothing else is wanted.
        """
        if stems and self.only is None:
            if self.rest_only:
                raise InputError("the stems sum to the mixture and leave nothing: name those to remove (only=)")
            return None
        if not self.rest_only and (stdout or not self.residual):
            return None
        return rest_name(targets, stems=stems)

    def written(self, targets: Sequence[str], rest: str | None) -> list[str]:
        """The names of all outputs of a recording.

        Args:
            targets: that are separated.
            rest: the name of what is left of the mixture; None where it is not written.

        Raises:
            InputError: a stem file of other targets than the four stems.
        """
        if self.tracks:
            if rest is not None or {SONG, *targets} != {*self.tracks}:
                raise InputError(
                    f"a {STEM_FILE} file holds a song and its stems {', '.join(STEMS)}: use `audiosep stems` without "
                    "--only, with a model that has these"
                )
            return ["stems"]
        return [*([] if self.rest_only else targets), *([] if rest is None else [rest])]


def _format_named(text: str) -> str:
    """The format of a name or an extension, in any case.

    Raises:
        InputError: there is none.
    """
    name = text.lower().removeprefix(".")
    for format, form in FORMATS.items():
        if name == format or f".{name}" in form.extensions:
            return format
    if name != STEM_FILE:
        known = ", ".join("m4a (AAC)" if format == "m4a" else format for format in FORMATS)
        hint = did_you_mean(name, [*FORMATS, STEM_FILE])
        if f".{name}" in CONTAINERS:
            hint = "; a video keeps its own format with video=True, and m4a is mp4 without a picture"
        elif name in _AAC:
            hint = "; did you mean 'm4a'?"
        raise InputError(f"unknown format {name!r}; use {known}, or {STEM_FILE} for stems{hint}")
    return name


def rest_name(targets: Sequence[str], *, stems: bool = False) -> str:
    """The name of what is left of a mixture.

    Args:
        targets: that were separated.
        stems: whether they are a model's fixed stems.

    >>> rest_name(["piano", "violin"])
    'without piano, violin'
    """
    return "instrumental" if stems and tuple(targets) == ("vocals",) else f"without {', '.join(targets)}"
