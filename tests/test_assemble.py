"""Assembling the shipped folder: towers, separator, and the training data in the model card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from test_hybrid import SMALL, SMALL_LISTENER

from audiosep.data.manifest import Clip, write_manifest
from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.models.listener import Listener
from audiosep.query.mini import MiniEncoder
from audiosep.training.tower_files import export_listener
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import load_model, load_state, save_model
from audiosep.weights.model_config import read_config
from research import average
from research.assemble import assemble, card_of, trained_on

CLIP = Clip(
    id="a", path="a.wav", seconds=3600.0, captions=("a dog",), label="dog", family="event", split="train",
    licence="CC-BY-4.0", credit="Ann",
)  # fmt: skip


def clip(**changes: object) -> Clip:
    return dataclasses.replace(CLIP, **changes)


def test_hours_credits_and_licences() -> None:
    clips = [
        CLIP,
        clip(id="b", family="speech", seconds=1800.0, licence="CC0-1.0", credit="Bea; Ann"),
        clip(id="c", seconds=7.2, licence="PD", credit="Cy"),
        clip(id="d", seconds=3.6, licence="PD", credit="Al"),
        clip(id="e", split="val", credit="nobody"),
    ]
    assert trained_on(clips).splitlines() == [
        "1.5 hours of clips: event 1.0, speech 0.5.",
        "",
        "| hours | credit | licence of the clips |",
        "|---|---|---|",
        "| 1.50 | Ann | CC-BY-4.0 / CC0-1.0 |",
        "| 0.50 | Bea | CC0-1.0 |",
        "",
        "Less than 0.01 hours each:",
        "",
        "- PD: Al; Cy",
    ]


def test_a_credit_with_many_licences_refers_to_the_sounds_of_the_songs() -> None:
    rooms = [clip(id=str(i), credit="a room", licence=f"licence {i}") for i in range(3)]
    assert "| 3.00 | a room | part of songs, see their sounds |" in trained_on(rooms)


def test_a_new_card_has_the_credits_of_the_one_before(tmp_path: Path) -> None:
    template, before = tmp_path / "card.md", tmp_path / "MODEL_CARD.md"
    template.write_text("<!-- trained on -->\n\n## More\n\n- Not a credit: Eve\n")
    old = [CLIP, clip(id="b", credit="Bea", seconds=3.6), clip(id="c", credit="Cy", seconds=3.6)]
    before.write_text(card_of(template, old, before))
    with pytest.raises(ConfigError, match=r"add 2 credits of .*MODEL_CARD.md to .*card.md: Bea; Cy$"):
        card_of(template, [CLIP], before)
    template.write_text("<!-- trained on -->\n\n## Before\n\n- CC-BY-4.0: Bea; Cy\n")
    assert "| 1.00 | Ann | CC-BY-4.0 |" in card_of(template, [CLIP], before)
    template.write_text("nothing")
    with pytest.raises(ConfigError, match="has no line <!-- trained on -->"):
        card_of(template, [CLIP], before)


def test_audio_queries_are_embedded_by_the_frozen_listener(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = dataclasses.replace(SMALL_LISTENER, dimension=512)
    separator = Hybrid(dataclasses.replace(SMALL, dimension=512, listener=shape))
    save_model(tmp_path / "separator", separator, query=None, extra={})
    frozen = Listener(shape)
    (tmp_path / "listener").mkdir()
    export_listener(frozen, tmp_path / "listener")
    for listener, expected in ((None, separator.listener), (tmp_path / "listener", frozen)):
        folder = assemble(
            tmp_path / "separator", locate("mini"), tmp_path / "out", listener=listener, name="small", licence="MIT"
        )
        encoder = MiniEncoder.from_config(read_config(folder)["query"] or {}, folder)
        assert torch.allclose(encoder.listener.joint.weight, expected.joint.weight, atol=1e-3)
        stored = {key.split(".")[0] for key in load_state(folder / "clap.safetensors")}
        assert stored == ({"text"} if listener is None else {"text", "listener"})
        model, described = load_model(folder)
        assert torch.allclose(model.listener.joint.weight, separator.listener.joint.weight, atol=1e-3)
        assert described["name"] == "small"


def test_a_model_is_averaged_with_a_run_that_lacks_a_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(tmp_path / "model", Hybrid(SMALL), query=None, extra={"name": "tiny"})
    save_model(tmp_path / "run", Hybrid(dataclasses.replace(SMALL, stems=())), query=None)
    before, run = (load_state(tmp_path / folder / "model.safetensors") for folder in ("model", "run"))
    card, recipes = (tmp_path / "model" / name for name in ("MODEL_CARD.md", "train.json"))
    template = tmp_path / "card.md"
    template.write_text("# Card\n\n<!-- trained on -->\n\n## More\n")
    recipes.write_text('{"first": {"seed": 1}}')
    (tmp_path / "second.json").write_text('{"seed": 2}')
    write_manifest(tmp_path / "manifest.jsonl", [CLIP])
    folders = [str(tmp_path / "model"), str(tmp_path / "run"), "--share", "0.25"]
    files = ["--runs", str(tmp_path / "second.json"), "--manifest", str(tmp_path / "manifest.jsonl")]
    assert average.main([*folders, *files, "--card", str(template)]) == 0
    assert "| 1.00 | Ann | CC-BY-4.0 |" in card.read_text()
    assert card.read_text().endswith("\n## More\n")
    assert json.loads(recipes.read_text()) == {"first": {"seed": 1}, "second": {"seed": 2}}
    assert read_config(tmp_path / "model")["name"] == "tiny"
    after = load_state(tmp_path / "model" / "model.safetensors")
    assert after.keys() == before.keys() > run.keys()
    for name, value in after.items():
        expected = 0.75 * before[name] + 0.25 * run[name] if name in run and value.is_floating_point() else before[name]
        torch.testing.assert_close(value.float(), expected.to(value).float(), atol=2e-3, rtol=2e-3)


def test_another_networks_parts_and_shares_that_are_none_are_refused() -> None:
    wide = Hybrid(dataclasses.replace(SMALL, features=2 * SMALL.features))
    with pytest.raises(ConfigError, match="is not the same part of both models"):
        average.average(Hybrid(SMALL), wide, 0.5)
    with pytest.raises(ConfigError, match=r"must lie in 0\.\.1, got 1\.5"):
        average.average(Hybrid(SMALL), Hybrid(SMALL), 1.5)
