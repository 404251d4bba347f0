"""What is written of a separated file: the options that Python, the command line and Ray jobs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import get_args

from audiosep.audio import FORMATS, MAX_SECONDS, written_depth
from audiosep.errors import InputError
from audiosep.output.files import OnClip
from audiosep.output.names import TEMPLATE, check_template

RESIDUAL = "residual"


@dataclass(frozen=True)
class OutputOptions:
    """What is written for each recording, and in which format.

    Args:
        format: wav, flac, ogg, opus or mp3; sample depth and tags follow the input.
        template: of the file names, with {file}, {stem} (the target's name) and {ext}; slashes make subfolders.
        residual: whether to write also what is left of the mixture; never written to standard output.
        only: write only this target, or these; what is left then contains the others. None writes all.
        on_clip: what to do where samples of an integer format would clip: "gain" multiplies all outputs of a recording
            by one gain, "float" writes floating-point samples (wav), "clip" saturates.
        overwrite: whether existing files may be replaced.
        max_seconds: recordings longer than this are refused, in seconds.

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

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f"unknown format {self.format!r}; use {', '.join(FORMATS)}")
        if self.on_clip not in get_args(OnClip):
            raise InputError(f"on_clip must be {', '.join(get_args(OnClip))}, got {self.on_clip!r}")
        if self.on_clip == "float" and written_depth(self.format, "float") != "float":
            raise InputError(f"{self.format} files hold no floating-point samples: use format='wav' or on_clip='gain'")
        check_template(self.template)
        for name in ("residual", "overwrite"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.max_seconds, Real) or not self.max_seconds >= 0:
            raise InputError(f"max_seconds must be a number of at least 0, got {self.max_seconds!r}")
        if self.only is not None:
            only = (self.only,) if isinstance(self.only, str) else tuple(self.only)
            if not only or not all(isinstance(name, str) for name in only):
                raise InputError(f"only must name at least one target, got {self.only!r}")
            object.__setattr__(self, "only", only)  # a tuple, so that equal options compare equal

    def written_targets(self, names: Sequence[str]) -> list[str]:
        """The targets that are written.

        Args:
            names: of all targets that are separated.

        Raises:
            InputError: `only` names something else.
        """
        if self.only is None:
            return list(names)
        unknown = [name for name in self.only if name not in names]
        if unknown:
            raise InputError(
                f"{', '.join(map(repr, unknown))} cannot be the only output: choose from {', '.join(names)}"
            )
        return list(dict.fromkeys(self.only))

    def written_rest(self, targets: Sequence[str], *, stems: bool) -> str | None:
        """The name of the file with what is left of the mixture.

        Args:
            targets: that are written.
            stems: whether they are the model's fixed stems.

        Returns:
            "instrumental" beside vocals alone, otherwise "residual"; None where it is not written: not wanted, or all
            stems are written, which sum to the mixture.
        """
        if not self.residual or (stems and self.only is None):
            return None
        return "instrumental" if stems and tuple(targets) == ("vocals",) else RESIDUAL
