"""Cold start: the samples of all outputs count, and an error contains that of the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiosep.errors import InputError, ModelError
from research.coldstart import HEADER, _compiled, _written, cold_start, main


@pytest.mark.slow
def test_samples_are_written_before_the_command_ends(mini_folder: Path) -> None:
    times = cold_start(str(mini_folder), "speech", 30.0)
    assert 0 < times.first_written < times.finished


def test_the_error_of_the_command_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        cold_start(str(tmp_path / "nowhere"), "speech", 1.0)


def test_a_header_does_not_count_as_samples(tmp_path: Path) -> None:
    assert not _written(tmp_path / "missing")
    assert not _written(tmp_path)
    (tmp_path / "a.part").write_bytes(bytes(HEADER + 1))
    assert _written(tmp_path)
    (tmp_path / "b.part").write_bytes(bytes(44))
    assert not _written(tmp_path), "every output"


def test_impossible_options_are_refused() -> None:
    with pytest.raises(InputError, match="greater than 0"):
        main(["--runs", "0"])


def test_commands_are_timed_with_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("SOMETHING", "else")
    environment = _compiled()
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["SOMETHING"] == "else"
