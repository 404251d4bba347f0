"""What a page downloads: tracks, what they leave, the mix as it is set, and all of them in one file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio import AudioReader
from audiosep.audio.covers import read_cover
from audiosep.audio.samples import Array
from audiosep.audio.stem_file import STEM_FILE, STEMS, TRACKS
from audiosep.errors import InputError
from audiosep.hearing.description import labels_text
from audiosep.output.files import Outputs
from audiosep.output.names import TEMPLATE, plan_outputs
from audiosep.output.output_options import rest_name
from audiosep.query.query import unique_names
from audiosep.studio.overview import Overview, overview
from audiosep.studio.recording import Recording
from audiosep.studio.session import Track

_BLOCK = 65_536
_LOUDEST = 100.0  # largest factor of a track

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


def write_track(path: Path, recording: Recording, track: Track, format: str) -> None:
    """Write a track in another format than that of its file.

    Args:
        path: of the file.
        recording: of the page.
        track: which is complete.
        format: one of `audio.FORMATS`.

    Raises:
        AudioError: it cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
    """
    outputs = _outputs({track.name: path}, recording, format)
    with outputs, AudioReader(track.path, _BLOCK) as reader:
        for block in reader:
            outputs.write({track.name: block})


def write_mix(
    path: Path,
    recording: Recording,
    tracks: Sequence[Track],
    weights: Mapping[str, float],
    *,
    name: str = MIXED,
    format: str = "wav",
    video: bool = False,
) -> float:
    """Write a mix of the recording and its tracks.

    Args:
        path: of the file.
        recording: of the page.
        tracks: which are complete.
        weights: as of `weights_of`.
        name: of the mix, for the title among its tags.
        format: one of `audio.FORMATS`; of a video that of the recording.
        video: whether to write the recording's picture with it.

    Returns:
        What the mix was multiplied by so that it does not clip.

    Raises:
        InputError: a track is not complete.
        AudioError: it cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
    """
    blocks = mixed(recording, tracks, weights)
    with _outputs({name: path}, recording, format, video=recording.info if video else None) as outputs:
        for block in blocks:
            outputs.write({name: block})
    return outputs.gain


def _outputs(paths: Mapping[str, Path], recording: Recording, format: str, **others: Any) -> Outputs:
    """Files as the command line writes them: with the depth, tags, speakers and cover of the recording."""
    info = recording.info
    return Outputs(
        paths,
        info.sample_rate,
        info.channels,
        format=format,
        depth=info.depth,
        tags=info.tags,
        speakers=info.speakers,
        cover=read_cover(recording.path),
        overwrite=True,
        recording=recording.path,
        **others,
    )


def mixed(
    recording: Recording, tracks: Sequence[Track], weights: Mapping[str, float], size: int = _BLOCK
) -> Iterator[Array]:
    """A mix of the recording and its tracks, block by block.

    Args:
        recording: of the page.
        tracks: which are complete where they have a weight.
        weights: as of `weights_of`.
        size: samples of a block.

    Raises:
        InputError: a track is not complete.
    """
    used = [track for track in tracks if weights[track.id]]
    if early := [track.name for track in used if not track.complete]:
        raise InputError(f"{early[0]!r} is a preview as yet: wait until it is complete")
    factors = [weights[""], *(weights[track.id] / track.gain for track in used)]
    return _sums([recording.mix, *(track.path for track in used)], factors, size)


def write_stem_file(path: Path, recording: Recording, tracks: Sequence[Track]) -> None:
    """Write the recording and its stems as one file for DJ programs.

    Args:
        path: of the file.
        recording: of the page.
        tracks: of the page.

    Raises:
        InputError: not all stems are there and complete.
        AudioError: it cannot be written.
        DependencyError: the encoder is not installed.
    """
    stems = {track.name: track for track in tracks if track.origin == "stems" and track.complete}
    if missing := [name for name in STEMS if name not in stems]:
        raise InputError(f"a stem file needs the stem {missing[0]}: press Four stems first")
    paths = [recording.mix, *(stems[name].path for name in STEMS)]
    gains = [1.0, *(stems[name].gain for name in STEMS)]
    with _outputs({STEM_FILE: path}, recording, "m4a", tracks=TRACKS) as outputs:
        for blocks in _together(paths, _BLOCK):
            scaled = (block / np.float32(gain) for block, gain in zip(blocks, gains, strict=True))
            outputs.write(dict(zip(TRACKS, scaled, strict=True)))


def _together(paths: Sequence[Path], size: int) -> Iterator[tuple[Array, ...]]:
    """The blocks of several files of one length."""
    with ExitStack() as stack:
        readers = [stack.enter_context(AudioReader(path, size)) for path in paths]
        yield from zip(*readers, strict=True)


def _sums(paths: Sequence[Path], factors: Sequence[float], size: int) -> Iterator[Array]:
    """The weighted sum of several files of one length."""
    for blocks in _together(paths, size):
        total = np.zeros_like(blocks[0])
        for factor, block in zip(factors, blocks, strict=True):
            total += np.float32(factor) * block
        yield total


def view_of_rest(recording: Recording, tracks: Sequence[Track]) -> Overview:
    """The picture of what the tracks leave of the recording.

    Args:
        recording: of the page.
        tracks: of the page; those that are not complete are left out.
    """
    complete = [track for track in tracks if track.complete]
    weights = weights_of(1.0, {}, complete)
    return overview(
        lambda size: mixed(recording, complete, weights, size),
        recording.samples,
        recording.info.sample_rate,
        recording.view.highest,
    )


def write_all(path: Path, recording: Recording, tracks: Sequence[Track], format: str) -> None:
    """Write all tracks, what they leave, and when they sound, into one zip file.

    Args:
        path: of the file.
        recording: of the page.
        tracks: which are complete.
        format: one of `audio.FORMATS`.

    Raises:
        InputError: no track, or one is not complete.
        AudioError: they cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
    """
    if not tracks:
        raise InputError("there is no track yet: separate a sound first")
    unique = list(unique_names([track.name for track in tracks]))
    rest = rest_name(unique)
    names = plan_outputs(".", [*unique, rest], file=Path(recording.name).stem, format=format)
    part = path.with_suffix(".part")
    try:
        write_mix(part, recording, tracks, weights_of(1.0, {}, tracks), name=rest, format=format)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.write(part, names[rest].name)
            for track, name in zip(tracks, unique, strict=True):
                if format != "wav":
                    write_track(part, recording, track, format)
                archive.write(track.path if format == "wav" else part, names[name].name)
            labels = sorted((span, track.name) for track in tracks for span in track.spans)
            archive.writestr(f"{names[rest].stem} labels.txt", labels_text(labels))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        part.unlink(missing_ok=True)


def download_name(recording: Recording, name: str, ending: str, template: str = TEMPLATE) -> str:
    """The name of a file, as the command line would name it.

    Args:
        recording: of the page.
        name: of the output.
        ending: of the file's name, a format or another one.
        template: as of `plan_outputs`.
    """
    return plan_outputs(".", [name], file=Path(recording.name).stem, format=ending, template=template)[name].name
