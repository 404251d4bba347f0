"""Digests of model folders change with any file in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audiosep.weights import digest
from audiosep.weights.digest import content_digest, folder_digest


def test_names_and_contents_count(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"1")
    digests = {folder_digest(tmp_path)}
    (tmp_path / "sub" / "b").write_bytes(b"2")
    digests.add(folder_digest(tmp_path))
    (tmp_path / "sub" / "b").rename(tmp_path / "sub" / "c")
    digests.add(folder_digest(tmp_path))
    (tmp_path / "a").write_bytes(b"3")
    digests.add(folder_digest(tmp_path))
    assert len(digests) == 4
    (tmp_path / "a").write_bytes(b"3")
    assert folder_digest(tmp_path) in digests


def test_of_large_files_size_and_time_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_LARGE_FILE", 3)
    path = tmp_path / "weights"
    path.write_bytes(b"1234")
    os.utime(path, ns=(0, 10))
    before = content_digest(path)
    path.write_bytes(b"5678")
    os.utime(path, ns=(0, 10))
    assert content_digest(path) == before
    os.utime(path, ns=(0, 20))
    assert content_digest(path) != before
