"""Text files of one recording, which appear together, after what they go with, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from audiosep.atomic import PendingFile, make_folder, writing
from audiosep.errors import AudioError


@contextlib.contextmanager
def text_files(paths: Mapping[str, Path], *, overwrite: bool) -> Iterator[Callable[[str, str], None]]:
    """Files that take their places when the block has ended well; if it has not, the old ones stay.

    Each is written to the disk within the block, where a place or a disk that takes nothing still spares all of them,
    and what the block writes beside them.

    Args:
        paths: name -> file, all of which are to be written; missing folders above them are made.
        overwrite: whether existing files may be replaced.

    Yields:
        Writes the text of a name.

    Raises:
        AudioError: a file exists, or its place cannot be written to.
        AudioSepError: the disk is full.
    """
    pending: dict[str, PendingFile] = {}

    def write(name: str, text: str) -> None:
        with writing(paths[name]):
            # Names of files that are no Unicode stand in the text as the bytes that they are.
            pending[name].file.write(text.encode(errors="surrogateescape"))
            pending[name].file.flush()

    try:
        for name, path in paths.items():
            make_folder(path.parent, AudioError)
            pending[name] = PendingFile(path, overwrite=overwrite, durable=True, error=AudioError)
        yield write
        for file in pending.values():
            file.commit()
    finally:
        for file in pending.values():
            file.discard()
