"""Files of public repositories, by commit and path, out of a folder of clones, bare mirrors or unpacked files."""

from __future__ import annotations

import hashlib
import subprocess
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from audiosep.errors import DataError, DependencyError
from research.corpus.sources import Source

DIGITS = 16  # of a sha256 that the table has
_OPEN = 8  # git processes that are kept


class Clones:
    """Finds the bytes of recordings and checks their hashes.

    A repository owner/name is looked for as `owner/name`, `owner+name`, `owner+name/repo` and `name`, each also with
    `.git`, bare or with a work tree; a file also by its hash, as `<sha256>.*` or `audio/<sha256>.*`.

    Args:
        folders: where clones are.

    Raises:
        DataError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._unpacked: dict[str, Path] = {}
        self._git: OrderedDict[str, _Objects | None] = OrderedDict()
        for folder in folders:
            if not folder.is_dir():
                raise DataError(f"{folder} is no folder: give the folder that the clones are in")
            for place in (folder, folder / "audio"):
                for path in place.glob("*.*"):
                    if len(path.stem) == DIGITS:
                        self._unpacked.setdefault(path.stem, path)

    def __enter__(self) -> Clones:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for objects in self._git.values():
            if objects is not None:
                objects.close()

    def read(self, source: Source) -> bytes:
        """The bytes of a recording's file.

        Args:
            source: the recording.

        Raises:
            DataError: the repository or the file is missing, or it has other bytes; says which.
        """
        unpacked = self._unpacked.get(source.sha256)
        if unpacked is not None:
            content = unpacked.read_bytes()
            if digest(content) != source.sha256:
                raise DataError(f"{source.place}: {unpacked} has other bytes than the table says")
            return content
        objects = self._objects(source.repo)
        if objects is None:
            raise DataError(f"{source.place}: no clone of {source.repo}")
        changed = False
        for commit in (source.commit, "HEAD"):  # a shallow clone may lack the commit and still have the file
            found = objects.read(f"{commit}:{source.path}")
            if found is not None and digest(found) == source.sha256:
                return found
            changed = changed or found is not None
        raise DataError(f"{source.place}: {'the file has changed' if changed else 'the clone has no such file'}")

    def newest(self, repo: str, path: str) -> bytes:
        """The bytes of a file at the clone's newest commit, whatever they are.

        Args:
            repo: owner/name.
            path: within the repository.

        Raises:
            DataError: no such clone, or it has no such file.
        """
        objects = self._objects(repo)
        if objects is None:
            raise DataError(f"no clone of {repo}: clone it into the folder of clones")
        found = objects.read(f"HEAD:{path}")
        if found is None:
            raise DataError(f"the clone of {repo} has no {path}")
        return found

    def _objects(self, repo: str) -> _Objects | None:
        if repo in self._git:
            self._git.move_to_end(repo)
            return self._git[repo]
        folder = self._folder_of(repo)
        self._git[repo] = _Objects(folder) if folder else None
        if len(self._git) > _OPEN:
            _, oldest = self._git.popitem(last=False)
            if oldest is not None:
                oldest.close()
        return self._git[repo]

    def _folder_of(self, repo: str) -> Path | None:
        joined, name = repo.replace("/", "+"), repo.partition("/")[2]
        for folder in self._folders:
            for place in (repo, f"{repo}.git", joined, f"{joined}.git", f"{joined}/repo", name, f"{name}.git"):
                for found in (folder / place / ".git", folder / place):
                    if (found / "HEAD").is_file() and (found / "objects").is_dir():
                        return found
        return None


class _Objects:
    """Blobs of one repository, through one `git cat-file` process."""

    def __init__(self, git: Path) -> None:
        # Nothing that the repository itself configures takes part in reading blobs.
        command = ["git", f"--git-dir={git}", "cat-file", "--batch"]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except FileNotFoundError as error:
            raise DependencyError("reading clones needs git: install it") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout

    def read(self, name: str) -> bytes | None:
        if "\n" in name:
            return None
        self._in.write(name.encode() + b"\n")
        self._in.flush()
        header = self._out.readline().split()
        if len(header) != 3 or not header[2].isdigit():
            return None  # "<name> missing"
        content = self._out.read(int(header[2]))
        self._out.read(1)
        return content if header[1] == b"blob" else None

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._process.wait()


def digest(content: bytes) -> str:
    """The digits of a sha256 that the table has.

    Args:
        content: of a file.
    """
    return hashlib.sha256(content).hexdigest()[:DIGITS]
