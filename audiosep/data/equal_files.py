"""Files with the same bytes under several names, as collections from the web have them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from audiosep.audio.decode import AudioReader
from audiosep.data.check import is_silent
from audiosep.data.manifest import Clip
from audiosep.errors import AudioSepError
from audiosep.weights.digest import file_sha256


def join_equal_files(sources: Sequence[Sequence[Clip]]) -> list[list[Clip]]:
    """Put the clips of files with the same bytes into one group, whatever their labels are.

    One recording in two splits would be trained on and judged by. Only files of equal size are read; members of tar
    shards are left as they are. Silence, such as that of a stem that a song lacks, joins nothing.

    Args:
        sources: the clips of each source.

    Returns:
        The same clips in the same order, those of equal files with the file's digest as a further name of their group.

    Raises:
        OSError: a file cannot be read.
    """
    sizes: dict[int, set[str]] = defaultdict(set)
    for source in sources:
        for clip in source:
            if clip.member is None:
                sizes[Path(clip.path).stat().st_size].add(clip.path)
    digests: dict[str, list[str]] = defaultdict(list)
    for paths in sizes.values():
        if len(paths) > 1:
            for path in sorted(paths):
                digests[file_sha256(Path(path))].append(path)
    equal = {digest: paths for digest, paths in digests.items() if len(paths) > 1 and not _holds_silence(paths[0])}
    names = {path: f"bytes:{digest[:16]}" for digest, paths in equal.items() for path in paths}

    def joined(clip: Clip) -> Clip:
        if clip.member is not None or clip.path not in names:
            return clip
        return dataclasses.replace(clip, group="+".join(filter(None, (clip.group, names[clip.path]))))

    return [[joined(clip) for clip in source] for source in sources]


def _holds_silence(path: str) -> bool:
    try:
        with AudioReader(path) as reader:
            return all(is_silent(block) for block in reader)
    except AudioSepError:  # whoever reads it for its sound says what is wrong with it
        return False
