"""What a page downloads: tracks, what they leave, the mix as it is set, and all of them in one file."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio import AudioReader, can_clip
from audiosep.audio.broadcast import read_broadcast
from audiosep.audio.chapters import read_chapters, within
from audiosep.audio.covers import read_cover
from audiosep.audio.marker import fingerprint
from audiosep.audio.samples import Array
from audiosep.audio.stem_file import STEM_FILE, STEMS, TRACKS
from audiosep.errors import Cancelled, InputError
from audiosep.hearing.description import labels_text
from audiosep.hearing.spans import Span
from audiosep.output.files import Outputs
from audiosep.output.names import TEMPLATE, plan_outputs
from audiosep.output.output_options import rest_name
from audiosep.output.within_spans import remainder
from audiosep.progress import Progress, says_stop
from audiosep.query.query import unique_names
from audiosep.studio.recording import Recording
from audiosep.studio.track import Track

_BLOCK = 65_536
_LOOKING = 0.1  # share of the work that looking for the largest sample is
_LOUDEST = 100.0  # largest factor of a track

Blocks = Mapping[str, Array]
"""Output -> its next samples."""

MIXED = "mix"
"""The name of the output that is the mix as it is set."""


def weights_of(rest: float, gains: Mapping[str, float], tracks: Sequence[Track]) -> dict[str, float]:
    """What the recording and its tracks are multiplied by in a mix.

    Args:
        rest: gain of what the tracks leave of the recording.
        gains: track id -> gain.
        tracks: all of the page.

    Returns:
        Track id -> factor of its samples; "" -> that of the recording.

    Raises:
        InputError: a track that is not there, or an impossible gain.
    """
    unknown = set(gains) - {track.id for track in tracks}
    values = [rest, *gains.values()]
    if unknown or not all(isinstance(value, int | float) and 0 <= value <= _LOUDEST for value in values):
        raise InputError(f"a mix has gains from 0 to {_LOUDEST:g} for the tracks of the page: reload the page")
    return {"": float(rest), **{track.id: gains.get(track.id, 0.0) - rest for track in tracks}}


def write_track(path: Path, recording: Recording, track: Track, format: str, progress: Progress) -> float:
    """Write a track in another format than that of its file.

    Args:
        path: of the file.
        recording: of the page.
        track: which is complete.
        format: one of `audio.FORMATS`.
        progress: called with the fraction that is done; returning False cancels.

    Returns:
        What the sound was multiplied by so that it does not clip.

    Raises:
        AudioError: it cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
        Cancelled: by `progress`.
    """

    def blocks() -> Iterator[Blocks]:
        return ({track.name: block} for (block,) in _together([track.path]))

    return track.gain * _write({track.name: path}, recording, blocks, progress, format=format)


def write_mix(
    path: Path,
    recording: Recording,
    tracks: Sequence[Track],
    weights: Mapping[str, float],
    progress: Progress,
    *,
    format: str = "wav",
    video: bool = False,
) -> float:
    """Write a mix of the recording and its tracks.

    Args:
        path: of the file.
        recording: of the page.
        tracks: which are complete.
        weights: as of `weights_of`.
        progress: as for `write_track`.
        format: one of `audio.FORMATS`; of a video that of the recording.
        video: whether to write the recording's picture with it.

    Returns:
        What the mix was multiplied by so that it does not clip.

    Raises:
        InputError: a track is not complete.
        AudioError: it cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
        Cancelled: by `progress`.
    """

    def blocks() -> Iterator[Blocks]:
        return ({MIXED: block} for block in mixed(recording, tracks, weights))

    return _write({MIXED: path}, recording, blocks, progress, format=format, video=recording.info if video else None)


def write_stem_file(path: Path, recording: Recording, tracks: Sequence[Track], progress: Progress) -> None:
    """Write the recording and its stems as one file for DJ programs.

    Args:
        path: of the file.
        recording: of the page.
        tracks: of the page.
        progress: as for `write_track`.

    Raises:
        InputError: not all stems are there and complete.
        AudioError: it cannot be written.
        DependencyError: the encoder is not installed.
        Cancelled: by `progress`.
    """
    stems = {track.name: track for track in tracks if track.origin == "stems" and track.complete}
    if missing := [name for name in STEMS if name not in stems]:
        raise InputError(f"a stem file needs the stem {missing[0]}: press Four stems first")
    paths = [recording.mix, *(stems[name].path for name in STEMS)]
    gains = [1.0, *(stems[name].gain for name in STEMS)]

    def blocks() -> Iterator[Blocks]:
        for together in _together(paths):
            scaled = (block / np.float32(gain) for block, gain in zip(together, gains, strict=True))
            yield dict(zip(TRACKS, scaled, strict=True))

    _write({STEM_FILE: path}, recording, blocks, progress, format="m4a", tracks=TRACKS)


def write_all(path: Path, recording: Recording, tracks: Sequence[Track], format: str, progress: Progress) -> float:
    """Write all tracks, what they leave, and when they sound, into one zip file.

    All have one gain, so that they sum to the recording and are as loud beside each other as they are heard.

    Args:
        path: of the file.
        recording: of the page.
        tracks: which are complete.
        format: one of `audio.FORMATS`.
        progress: as for `write_track`.

    Returns:
        What all were multiplied by so that none clips.

    Raises:
        InputError: no track, or one is not complete.
        AudioError: they cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
        Cancelled: by `progress`.
    """
    if not tracks:
        raise InputError("there is no track yet: separate a sound first")
    _check_complete(tracks)
    unique = list(unique_names([track.name for track in tracks]))
    rest = rest_name(unique)
    names = {
        name: one.name
        for name, one in plan_outputs(".", [*unique, rest], file=Path(recording.name).stem, format=format).items()
    }

    def blocks() -> Iterator[Blocks]:
        for mix, *together in _together([recording.mix, *(track.path for track in tracks)]):
            scaled = [block / np.float32(track.gain) for track, block in zip(tracks, together, strict=True)]
            yield {**dict(zip(unique, scaled, strict=True)), rest: remainder(mix, scaled)}

    peak = _peak(blocks(), recording, _part(progress, 0.0, _LOOKING))
    clips = peak > 1 and can_clip(format, recording.info.depth)
    # The files of the tracks say also what was asked for.
    ready = format == "wav" and not clips and all(track.gain == 1 for track in tracks)
    made = [rest] if ready else [*unique, rest]
    folder = path.with_suffix("")
    try:
        gain = _write(
            {name: folder / names[name] for name in made},
            recording,
            lambda: ({name: one[name] for name in made} for one in blocks()),
            _part(progress, _LOOKING, 1 - _LOOKING),
            format=format,
            peak=peak,
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in made:
                archive.write(folder / names[name], names[name])
                (folder / names[name]).unlink()  # the disk need not hold all twice
            for track, name in zip(tracks, unique, strict=True):
                if name not in made:
                    archive.write(track.path, names[name])
            labels = labels_text((span, track.name) for track in tracks for span in track.spans)
            archive.writestr(f"{Path(names[rest]).stem} labels.txt", labels)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return gain


def _part(progress: Progress, first: float, share: float) -> Progress:
    """The progress of a part of the work."""
    return lambda fraction: progress(first + share * fraction)


def _write(
    paths: Mapping[str, Path],
    recording: Recording,
    blocks: Callable[[], Iterator[Blocks]],
    progress: Progress,
    *,
    peak: float | None = None,
    **options: Any,
) -> float:
    """Write files as the command line does: with what files of audio have of the recording beside its sound.

    Their samples are read twice: for the largest, so that none clips, and to be written. It needs no temporary files,
    and the encoder, which takes most of the time, is what the progress tells of.

    Args:
        paths: output -> file.
        recording: of the page.
        blocks: gives the samples of all outputs.
        progress: as for `write_track`.
        peak: the largest sample, where it is known.
        options: of `Outputs`.

    Returns:
        What all samples were multiplied by.
    """
    info = recording.info
    if peak is None:
        peak = _peak(blocks(), recording, _part(progress, 0.0, _LOOKING))
        progress = _part(progress, _LOOKING, 1 - _LOOKING)
    with Outputs(
        paths,
        info.sample_rate,
        info.channels,
        depth=info.depth,
        tags=info.tags,
        speakers=info.speakers,
        cover=read_cover(recording.path),
        chapters=within(read_chapters(recording.path), 0.0, recording.seconds),
        broadcast=read_broadcast(recording.path, info.sample_rate),
        overwrite=True,
        recording=fingerprint(recording.path),
        peak=peak,
        **options,
    ) as outputs:
        for one in _told(blocks(), recording, progress):
            outputs.write(one)
    return outputs.gain


def _peak(blocks: Iterator[Blocks], recording: Recording, progress: Progress) -> float:
    """The largest absolute sample."""
    loudest = (
        float(np.abs(block).max(initial=0)) for one in _told(blocks, recording, progress) for block in one.values()
    )
    return max(loudest, default=0.0)


def _told(blocks: Iterator[Blocks], recording: Recording, progress: Progress) -> Iterator[Blocks]:
    """The same blocks, of which the progress is told.

    Raises:
        Cancelled: by `progress`.
    """
    samples = 0
    for one in blocks:
        samples += next(iter(one.values())).shape[1]
        if says_stop(progress(min(1.0, samples / recording.samples))):
            raise Cancelled("writing the file was cancelled")
        yield one


def mixed(
    recording: Recording,
    tracks: Sequence[Track],
    weights: Mapping[str, float],
    size: int = _BLOCK,
    span: Span | None = None,
) -> Iterator[Array]:
    """A mix of the recording and its tracks, block by block.

    Args:
        recording: of the page.
        tracks: which are complete where they have a weight.
        weights: as of `weights_of`.
        size: samples of a block.
        span: of the recording, in seconds; None for all of it.

    Raises:
        InputError: a track is not complete.
    """
    used = [track for track in tracks if weights[track.id]]
    _check_complete(used)
    factors = [weights[""], *(weights[track.id] / track.gain for track in used)]
    return _sums([recording.mix, *(track.path for track in used)], factors, size, span)


def _check_complete(tracks: Sequence[Track]) -> None:
    if early := [track.name for track in tracks if not track.complete]:
        raise InputError(f"{early[0]!r} is a preview as yet: wait until it is complete")


def _sums(paths: Sequence[Path], factors: Sequence[float], size: int, span: Span | None) -> Iterator[Array]:
    """The weighted sum of several files of one length."""
    for blocks in _together(paths, size, span):
        total = np.zeros_like(blocks[0])
        for factor, block in zip(factors, blocks, strict=True):
            total += np.float32(factor) * block
        yield total


def _together(paths: Sequence[Path], size: int = _BLOCK, span: Span | None = None) -> Iterator[tuple[Array, ...]]:
    """The blocks of several files of one length."""
    start, seconds = (0.0, None) if span is None else (span.start, span.end - span.start)
    with ExitStack() as stack:
        readers = [stack.enter_context(AudioReader(path, size, start=start, seconds=seconds)) for path in paths]
        yield from zip(*readers, strict=True)


def download_name(recording: Recording, name: str, ending: str, template: str = TEMPLATE) -> str:
    """The name of a file, as the command line would name it.

    Args:
        recording: of the page.
        name: of the output.
        ending: of the file's name, a format or another one.
        template: as of `plan_outputs`.
    """
    return plan_outputs(".", [name], file=Path(recording.name).stem, format=ending, template=template)[name].name
