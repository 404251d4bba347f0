"""The options that `separate`, `remove` and `stems` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from audiosep.audio.limits import MAX_RATE, MIN_RATE
from audiosep.cli import common
from audiosep.cli.choices import choice
from audiosep.cli.times import seconds
from audiosep.inference.options import Options, Quality
from audiosep.output.output_options import OnClip, OutputOptions

_OUTPUT = {
    "format": typer.Option("--format", "-f", metavar="NAME", help="wav, flac, ogg, opus, mp3, m4a; stem.mp4 (stems)."),
    "template": typer.Option("--template", metavar="TEXT", help="File names of the outputs."),
    "residual": typer.Option(help="Also write what is left of the mixture."),
    "rest_only": typer.Option("--rest", help="Write nothing but what is left of the mixture."),
    "on_clip": typer.Option(
        metavar="|".join(get_args(OnClip)),
        parser=choice(*get_args(OnClip)),
        help="Where outputs would clip: one gain for all outputs of a file, floats, or saturation.",
    ),
    "overwrite": typer.Option("--overwrite", help="Replace outputs that exist."),
    "start": typer.Option(metavar="TIME", parser=seconds, help="Where to start, in seconds or as 1:23.4."),
    "end": typer.Option(metavar="TIME", parser=seconds, help="Where to end."),
    "preview": typer.Option(metavar="SECONDS", help="Separate a stretch that sounds like the whole recording."),
    "rate": typer.Option("--rate", metavar="HZ", min=MIN_RATE, max=MAX_RATE, help="Sample rate of the outputs."),
    "mono": typer.Option("--mono", help="Mix the channels of the outputs."),
    "loudness": typer.Option(metavar="LUFS", help="Of the loudest output; all get the same gain."),
    "video": typer.Option("--video", help="Copy the picture of videos: the outputs are videos with other sound."),
    "skip_existing": typer.Option("--skip-existing", help="Leave out what exists and was made so; replace nothing."),
    "labels": typer.Option("--labels", help="Write beside each target when it sounds, as labels for Audacity."),
    "max_seconds": typer.Option(metavar="SECONDS", help="Refuse recordings longer than this."),
    "bitrate": typer.Option(metavar="KBIT/S", help="Of ogg, opus, mp3 and m4a [default: about 250, mp3 320]."),
    "track": typer.Option(
        metavar="TRACK", help="Number, language or name of the audio track [default: the default one]."
    ),
}
"""The fields of `OutputOptions` but `only`, an option of `stems`, and `everywhere`, one of `remove`."""
_OUTPUT_OF_REMOVE = {name: option for name, option in _OUTPUT.items() if name not in ("residual", "rest_only")}

_OPTIONS = {
    "quality": typer.Option(
        "--quality",
        metavar="|".join(get_args(Quality)),
        parser=choice(*get_args(Quality)),
        help="How much is computed for a text query: more is slower and better.",
    ),
    "overlap": typer.Option(metavar="SHARE", help="Share of a window that cross-fades with the next, 0 to below 1."),
    "shifts": typer.Option(
        metavar="N", min=0, help="Average over N more passes, shifted in time: slower, a little better."
    ),
    "batch": typer.Option(metavar="N", min=1, help="Windows computed at once [default: 1, on a GPU as many as fit]."),
}
"""The fields of `Options`."""

Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with inputs: from `audiosep data build`, or text with a path a line."),
]


Jobs = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Recordings at once, as CPUs and memory allow; 0: as many as fit."),
]
Start = Annotated[float, _OUTPUT["start"]]
End = Annotated[float | None, _OUTPUT["end"]]


@dataclass(frozen=True)
class JobOptions:
    """The options of `separate`, `remove` and `stems`; what they mean in the library: `OutputOptions` and `Options`."""

    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder of the outputs; - writes one target to standard output."
        ),
    ] = "separated"
    output: Annotated[OutputOptions, _OUTPUT] = OutputOptions()
    options: Annotated[Options, _OPTIONS] = Options()
    jobs: Jobs = 1
    manifest: Manifest = None
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Use Ray: several processes or machines; skip what an earlier run finished."),
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes of --ray [default: one per GPU, or one per two CPUs]."),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of a running Ray cluster, or auto [default: RAY_ADDRESS, or this machine]."
        ),
    ] = None
    stems_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of the stems, and of words such as drums; none: --model [default: your configuration].",
        ),
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which recordings answered for the words, and how.")
    ] = False
    as_json: common.AsJson = False
    json_lines: common.JsonLines = False
    quiet: common.Quiet = False
    verbose: common.Verbose = 0


@dataclass(frozen=True)
class RemoveOptions(JobOptions):
    """The options of `remove`, which writes nothing but what is left of the mixture."""

    output: Annotated[OutputOptions, _OUTPUT_OF_REMOVE] = JobOptions.output
