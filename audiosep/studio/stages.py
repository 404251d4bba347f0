"""What is separated for a request, of long recordings first a part and then all, and the tracks that come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.hearing.spans import Span
from audiosep.inference.options import Options
from audiosep.output.output_options import OutputOptions
from audiosep.query.query import Query, fold_name
from audiosep.studio.overview import overview_of_file
from audiosep.studio.recording import PREVIEW, Recording
from audiosep.studio.track import Asked, Track

if TYPE_CHECKING:
    from audiosep.output.batch_report import FileResult
    from audiosep.separator import Separator

SEPARATING = Options(stem_head=True)
"""As the command line separates: words such as drums are answered by the stems of a model."""

PREVIEWING = Options(stem_head=True, quality="fast")
"""For a first impression, which comes sooner."""

_SHORT = 1.5  # recordings of up to so many previews are separated at once


@dataclass(frozen=True)
class Stage:
    """A part of a recording that is separated.

    Attributes:
        name: preview or full.
        start: second at which it begins.
        end: second at which it ends; None for that of the recording.
        options: of the separation.
    """

    name: str
    start: float
    end: float | None
    options: Options


def stages_of(recording: Recording, start: float) -> list[Stage]:
    """A preview, where the recording is long, and the whole.

    Args:
        recording: of a page.
        start: second at which a preview begins, where there is as much behind it.
    """
    stages = [Stage("full", 0.0, None, SEPARATING)]
    if recording.seconds > _SHORT * PREVIEW:
        start = min(max(0.0, start), recording.seconds - PREVIEW)
        stages.insert(0, Stage("preview", start, start + PREVIEW, PREVIEWING))
    return stages


def asked_of(separator: Separator, model: str, query: Query | None) -> list[Asked]:
    """What the tracks of a request answer; words that name a stem ask for it as the request for the stems does.

    Args:
        separator: that answers.
        model: its name, as the page has it.
        query: that is asked; None for the stems.
    """
    if query is None:
        return [(model, stem) for stem in separator.stem_names]
    if stem := separator.stems_for([query]).get(query.label):
        return [(model, stem)]
    return [(model, fold_name(query.text or ""), query.spans, query.negative_spans)]


def separate_stage(
    separator: Separator,
    recording: Recording,
    query: Query | None,
    out: Path,
    stage: Stage,
    progress: Callable[[float], bool],
) -> FileResult:
    """Separate a recording, or a part of it, to files; those of the whole are those of the command line.

    Args:
        separator: that answers.
        recording: of a page.
        query: that is asked; None for the stems.
        out: the folder of the files.
        stage: what of the recording.
        progress: called with the fraction that is done; returning False cancels.

    Raises:
        AudioSepError: the recording cannot be separated, or `progress` has cancelled it.
    """
    info = recording.info
    track = str(info.track) if len(info.tracks) > 1 else None
    report = separator.separate_files(
        recording.path,
        None if query is None else [query],
        out,
        output=OutputOptions(residual=False, start=stage.start, end=stage.end, track=track),
        options=stage.options,
        progress=progress,
    )
    for error in report.failures.values():
        raise error
    return report.results[0]


def tracks_of(
    result: FileResult,
    ids: Sequence[str],
    asked: Sequence[Asked],
    origin: str,
    model: str,
    stage: Stage,
    recording: Recording,
) -> list[Track]:
    """The tracks of a separated file.

    Args:
        result: of `separate_stage`.
        ids: of the tracks, one for each target.
        asked: what each answers.
        origin: how they were asked for, as of `Track`.
        model: that separated them.
        stage: that was separated.
        recording: that it is of.
    """
    seconds = result.samples / result.sample_rate
    heard = {name: one.spans for name, one in result.activity.items()}  # in seconds of the file
    return [
        Track(
            id=id,
            name=name,
            origin=origin,
            model=model,
            path=path,
            start=stage.start,
            seconds=seconds,
            gain=result.gain,
            presence=None if result.presence is None else result.presence.get(name),
            spans=tuple(Span(stage.start + start, stage.start + end) for start, end in heard.get(name, ())),
            complete=stage.end is None,
            view=overview_of_file(path, recording.view.highest),
            asked=one,
        )
        for id, one, (name, path) in zip(ids, asked, result.outputs.items(), strict=True)
    ]
