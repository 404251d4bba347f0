"""The report of a GPU's check, as far as a CPU can rehearse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from research import gpu_check


def test_a_part_that_fails_costs_its_own_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_part(name: str, device: str) -> gpu_check.Report:
        return {"failed": "RuntimeError: no kernel"} if name == "compiled" else gpu_check.PARTS[name][0](device)

    monkeypatch.setattr(gpu_check, "run_part", run_part)
    report = tmp_path / "gpu.md"
    assert gpu_check.main([str(report), "--device", "cpu", "--only", "machine", "compiled", "out of memory"]) == 1
    text = report.read_text(encoding="utf-8")
    assert "- failed: RuntimeError: no kernel" in text
    assert "- threads: " in text
    assert "- skipped: needs a CUDA device" in text


@pytest.mark.slow
def test_results_are_compared_in_a_process_of_their_own() -> None:
    assert gpu_check.run_part("same results", "cpu")["fp32"]["queries"] > 100  # type: ignore[index]
