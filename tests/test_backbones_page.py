"""The comparison of the networks: what is not repeated, what is refused, and what its page says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from corpora import make_clips
from test_tasks import HashedText, divided

from audiosep.cli import main as audiosep
from audiosep.data.manifest import write_manifest
from audiosep.data.queries import query_texts
from audiosep.errors import ConfigError, TrainingError
from audiosep.training.caption_table import CaptionTable
from research.backbones import comparison, page
from research.backbones.__main__ import main
from research.backbones.comparison import FullSize, OneWindow, Source
from research.backbones.entries import ENTRIES, Entry

TINY = Entry("unet", "U-Net", 9.8, "the paper", {"n_fft": 256, "hop": 128, "widths": [4, 6], "dimension": 16})


@pytest.fixture
def source(tmp_path: Path) -> Source:
    clips = divided(make_clips(tmp_path / "sounds"))
    write_manifest(tmp_path / "manifest.jsonl", clips)
    CaptionTable.build(query_texts(clips), HashedText()).save(tmp_path / "captions.safetensors")
    return Source(tmp_path / "manifest.jsonl", tmp_path / "captions.safetensors", minutes=0.0005)


def test_a_network_is_trained_once_and_a_stopped_training_is_told(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[list[str]] = []

    def here(command: list[str], check: bool, env: dict[str, str]) -> SimpleNamespace:
        runs.append(command)
        assert env["OMP_NUM_THREADS"] == "1"
        return SimpleNamespace(returncode=audiosep([*command[3:], "--quiet"]) if len(runs) > 1 else -15)

    monkeypatch.setattr(comparison, "subprocess", SimpleNamespace(run=here))
    monkeypatch.setattr(comparison, "VALIDATION", 40)
    folder = tmp_path / "out"
    with pytest.raises(TrainingError, match="exit code -15"):
        comparison.compare([TINY], source, folder, full=False)
    comparison.compare([TINY], source, folder, full=False)
    comparison.compare([TINY], source, folder, full=False)
    assert len(runs) == 2
    values = comparison.trained(TINY, folder)
    assert values is not None
    assert {
        "steps",
        "items",
        "parameters",
        "val/e/si_sdri_median",
        "val/e/drums/si_sdri_median",
        "val/a/si_sdri_median",
    } <= set(values)
    assert {json.loads(line)["family"] for line in (folder / "manifest.jsonl").read_text().splitlines()} == {
        "music", "instrument"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="another comparison"):
        comparison.compare([TINY], Source(source.manifest, source.captions, minutes=1.0), folder, full=False)
    with pytest.raises(ConfigError, match="no clips of nothing"):
        comparison.prepare(Source(source.manifest, source.captions, ("nothing",)), tmp_path / "other")


def test_every_reduced_network_can_be_built() -> None:
    for entry in ENTRIES:
        model = comparison.build(entry.compared)
        assert model.capabilities == {"text", "audio", "negative", "stems"}
        assert comparison.parameters(model) < 3


def test_one_window_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "build", lambda model: build_tiny())
    size, rate, seconds, taken = OneWindow("unet").run()
    assert (rate, round(seconds)) == (16000, 6)
    assert size > 0
    assert taken > 0


def build_tiny() -> Any:
    from research.backbones.entries import build

    return build(TINY.compared)


def row(family: str, stems: float, words: float, factor: float) -> page.Row:
    entry = next(entry for entry in ENTRIES if entry.family == family)
    values = {f"val/e/{stem}/si_sdri_median": stems + number for number, stem in enumerate(page.STEMS)}
    values |= {
        "val/e/si_sdri_median": stems,
        "val/a/si_sdri_median": words,
        "parameters": 1.25,
        "steps": 100,
        "minutes": 20.0,
    }
    return page.Row(entry, values, FullSize(9.8, 44100, 10.0, 10 * factor, 1000 * factor))


def test_the_page_says_what_its_tables_say() -> None:
    rows = [
        row("unet", 3.0, 1.0, 0.1),
        row("scnet", 5.0, 0.5, 0.4),
        row("dprnn", 4.0, 0.7, 0.2),
        row("svoice", 1.0, 0.1, 0.3),
    ]
    text = page.comparison(rows)
    assert "| U-Net (Jansson 2017) | 1.25 | 100 | 3.00 | 4.00 | 5.00 | 6.00 | 3.00 | 1.00 |" in text
    assert "| SCNet (Tong 2024) | 9.80 | 44100 | 0.400 | 400 |" in text
    assert (
        "**U-Net (Jansson 2017)**: first in words, speed at the published size and memory at the published size."
        in text
    )
    assert page.remark(rows[1], rows) == "first in the stems together, vocals, drums, bass and other"
    assert page.remark(rows[3], rows).startswith("number 3 of 4 in speed at the published size")


def test_what_makes_every_sound_worse_is_first_in_nothing() -> None:
    rows = [row("unet", 3.0, -0.6, 0.1), row("scnet", 5.0, -0.7, 0.4)]
    assert "words" not in page.comparison(rows).split("**U-Net", 1)[1]
    alone = page.Row(rows[0].entry, row("unet", -9.0, -1.0, 0.1).values, None)
    assert page.remark(alone, [alone]) == "nothing yet: every sound is worse than in the mixture"


def test_the_command_prints_sizes_and_refuses_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Source
) -> None:
    target = tmp_path / "page.md"
    target.write_text("<!-- sizes -->\n<!-- end of sizes -->\n")
    main(["sizes", "--into", str(target)])
    assert capsys.readouterr().out in target.read_text()
    assert "| BS-RoFormer (Lu 2023) | `bs_roformer` | 93.40 | 93.40 | stated in the paper |" in target.read_text()
    options = ["compare", str(source.manifest), "--captions", str(source.captions), "-o", str(tmp_path / "none")]
    for wrong, words in ((["--only", "nonsense"], "'nonsense' is not one of"), (["--table"], "no finished training")):
        with pytest.raises(SystemExit):
            main([*options, *wrong])
        assert words in capsys.readouterr().err
