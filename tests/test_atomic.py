"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from audiosep.atomic import OldFiles, PendingFile, fill_folder, remove_leftovers, write_bytes, write_text
from audiosep.errors import AudioError, AudioSepError

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and permissions")


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_writing_makes_the_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_text(path, "äö")
    assert path.read_text(encoding="utf-8") == "äö"
    write_bytes(path, b"second")
    assert content(path.parent) == {"file": "second"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, ValueError])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    write_text(tmp_path / "file", "old")

    def interrupted(descriptor: int) -> None:
        raise stop

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(AudioSepError if stop is OSError else stop):
        write_text(tmp_path / "file", "new")
    assert content(tmp_path) == {"file": "old"}


@posix
@pytest.mark.parametrize("folder", [False, True])
def test_permissions_are_those_of_the_user(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "new"
    before = os.umask(0o027)
    try:
        if folder:
            with fill_folder(path):
                pass
        else:
            write_text(path, "")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == (0o750 if folder else 0o640)


@posix
@pytest.mark.parametrize(
    "write",
    [
        "write_bytes('new', bytes(30_000))",
        "with fill_folder('new') as folder: (folder / 'a').write_bytes(bytes(30_000))",
    ],
)
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, write: str) -> None:
    # The limit on file sizes fails like a full disk.
    code = f"""
import resource
from audiosep.atomic import fill_folder, write_bytes
from audiosep.errors import AudioSepError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    {write}
except AudioSepError as error:
    print(error)
"""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == "new cannot be written: File too large: free space or choose another folder\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_files_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(AudioSepError, match=r"new cannot be written: Permission denied: .* another folder"):
        write_text(tmp_path / "new", "text")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(AudioSepError, match="cannot be made"), fill_folder(tmp_path / "new"):
        pass


def test_the_place_of_a_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(AudioSepError, match="is a folder or a device"):
        write_text(tmp_path, "text")
    with pytest.raises(AudioSepError, match="is a file"), fill_folder(tmp_path / "file"):
        pass
    with pytest.raises(AudioSepError, match="cannot be made"):
        write_text(tmp_path / "file" / "below", "text")
    with pytest.raises(AudioError, match="exists already"):
        PendingFile(tmp_path / "file", overwrite=False, durable=False, error=AudioError)
    assert content(tmp_path) == {"file": "theirs"}


def test_a_file_without_commit_is_deleted(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "file", overwrite=False, durable=False)
    pending.file.write(b"half")
    assert len(list(tmp_path.iterdir())) == 1
    del pending
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("durable", [False, True])
def test_only_durable_files_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    pending = PendingFile(tmp_path / "file", overwrite=False, durable=durable)
    pending.commit()
    assert len(flushed) == durable


def test_a_filled_folder_replaces_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    for name in ("first", "second"):
        with fill_folder(tmp_path / "model") as folder:
            (folder / name).write_text(name)
    assert content(tmp_path / "model") == {"second": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert len(flushed) == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, FileNotFoundError])
def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, stop: type[BaseException]) -> None:
    with fill_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(stop), fill_folder(tmp_path / "model") as folder:  # noqa: PT012
        (folder / "a").write_text("new")
        raise stop
    assert content(tmp_path / "model") == {"a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("old")
    rename, count = Path.rename, iter(range(3))

    def stuck(self: Path, target: Path) -> Path:
        if next(count) == 1:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stuck)
    with pytest.raises(AudioSepError, match="Input/output error"), fill_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("new")
    assert content(tmp_path / "model") == {"a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from audiosep.atomic import OldFiles, PendingFile, fill_folder
pending = PendingFile(Path("file"), overwrite=False, durable=False)
with fill_folder("folder") as folder:
    (folder / "a").write_text("a")
    os._exit(0)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "kept", "")
    remove_leftovers(tmp_path)
    (left,) = tmp_path.glob(".audiosep-*")
    assert left.is_dir()
    remove_leftovers(tmp_path, folders=True)
    assert content(tmp_path) == {"kept": ""}


@posix
@pytest.mark.parametrize("locks", ["of files open for writing", "none"])
def test_files_in_use_are_no_leftovers_on_network_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: str
) -> None:
    import fcntl

    flock = fcntl.flock

    def refusing(descriptor: int, operation: int) -> None:
        if locks == "none":
            raise OSError(errno.ENOLCK, "No locks available")
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:  # as NFS does
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refusing)
    write_text(tmp_path / "file", "old")
    kept, pending = OldFiles(), PendingFile(tmp_path / "file", overwrite=True, durable=False)
    kept.keep(tmp_path / "file")
    remove_leftovers(tmp_path)
    pending.commit()
    kept.settle(back=True)
    assert content(tmp_path) == {"file": "old"}


@posix
@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_points_to_is_written(tmp_path: Path, there: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    links = {kind: tmp_path / kind for kind in ("file", "folder")}
    for kind, link in links.items():
        link.symlink_to(disk / kind)
    if there:
        write_text(disk / "file", "old")
        (disk / "folder").mkdir()
        with pytest.raises(AudioSepError, match="exists already"):
            PendingFile(links["file"], overwrite=False, durable=False)
    write_text(links["file"], "new")
    with fill_folder(links["folder"]) as folder:
        (folder / "a").write_text("new")
    assert all(link.is_symlink() for link in links.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "file", "folder"]
    assert sorted(path.name for path in disk.iterdir()) == ["file", "folder"]
    assert (disk / "file").read_text() == "new"
    assert content(disk / "folder") == {"a": "new"}


@posix
def test_links_that_lead_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(AudioSepError, match="choose another name"):
        write_text(tmp_path / "circle", "text")


@posix
def test_links_that_are_left_over_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / ".audiosep-0.part").symlink_to("folder")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@posix
def test_leftovers_that_are_only_for_reading_are_deleted(tmp_path: Path) -> None:
    write_text(tmp_path / ".audiosep-0.old", "")
    (tmp_path / ".audiosep-0.old").chmod(0o444)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
