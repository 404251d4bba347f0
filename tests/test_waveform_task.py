"""Training networks of the literature through `audiosep train`: for stems, for words, for both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import RATE, make_clips
from test_tasks import HashedText, divided

from audiosep.api import load
from audiosep.audio import write_audio
from audiosep.cli import main
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import write_manifest
from audiosep.data.queries import query_texts
from audiosep.data.recipe_drawing import draw_recipe
from audiosep.errors import ConfigError, ModelError
from audiosep.models.separation_model import SeparationModel
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.run_log import read_log
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.run_config import build_task, read_run_config
from audiosep.training.separation.waveform_task import WaveformTask
from audiosep.weights.checkpoint import load_model

UNET = {
    "family": "unet", "sample_rate": RATE, "n_fft": 256, "hop": 128, "widths": [8, 12], "dimension": 16, "features": 8,
    "stems": ["vocals", "drums", "bass", "other"], "words": True, "window": 2.0, "context": 0.25,
}  # fmt: skip
SVOICE = {
    "family": "svoice", "sample_rate": RATE, "filters": 8, "length": 32, "chunk": 20, "hidden": 8, "blocks": 2,
    "stems": ["drums", "rest"], "window": 2.0, "context": 0.25,
}  # fmt: skip
HYBRID = {
    "family": "hybrid", "sample_rate": RATE, "n_fft": 256, "hop": 128, "bands": 32, "patch": [2, 2], "widths": [8, 8],
    "dimension": 16, "features": 8, "listener": None, "tags": False, "relisten": False, "refinements": 0,
    "mix_temperature": None, "window": 64 * 128, "context": 8 * 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("waveform")
    clips = divided(make_clips(folder))
    write_manifest(folder / "manifest.jsonl", clips)
    CaptionTable.build(query_texts(clips), HashedText()).save(folder / "captions.safetensors")
    draw_recipe(Corpus(folder / "manifest.jsonl", folder / "cache", RATE)).save(folder / "recipe.json")
    names = {"manifest": "manifest.jsonl", "cache": "cache", "captions": "captions.safetensors"}
    return {key: str(folder / name) for key, name in names.items()}


def configuration(data: dict[str, str], model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "task": "waveform",
        "data": data,
        "model": model,
        "sampling": {"mixtures": 2, "seconds": 0.5, "songs": 0.5, "absent": 0.3, "negatives": 0.5},
        "options": {"losses": [{"name": "snr", "weight": 0.1}]},
        "trainer": {
            "steps": 3,
            "warmup": 1,
            "precision": "fp32",
            "device": "cpu",
            "checkpoint_steps": 100,
            "log_every": 1,
        },
    } | changes


def task(data: dict[str, str], model: dict[str, Any], **changes: Any) -> WaveformTask:
    torch.manual_seed(0)
    config = configuration(data, model, **changes)
    return WaveformTask.from_config({key: config[key] for key in ("data", "model", "sampling", "options")})


def test_a_network_is_trained_for_words_and_stems_and_loaded(
    data: dict[str, str], mixture: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"validation": str(Path(data["manifest"]).with_name("recipe.json")), "validation_items": 10}
    (tmp_path / "unet.json").write_text(json.dumps(configuration(data, UNET, options=options)))
    assert main(["train", str(tmp_path / "unet.json"), "-o", str(tmp_path / "run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"val/a/si_sdri", "val/e/si_sdri", "val/si_sdri"} <= set(result["metrics"])
    lines = [line for line in read_log(tmp_path / "run/log.jsonl") if line["event"] == "train"]
    assert {"query", "query_sdri", "items"} <= set(lines[0])
    assert any("stems_sdri" in line for line in lines)
    write_audio(tmp_path / "mix.wav", mixture(0.5, RATE), RATE)
    command = ["stems", str(tmp_path / "mix.wav"), "--model", str(tmp_path / "run/model"), "-o", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu", "--quiet"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize("model", [UNET, SVOICE, HYBRID], ids=lambda model: model["family"])
def test_every_kind_of_network_gets_a_gradient(data: dict[str, str], model: dict[str, Any]) -> None:
    mine = task(data, model, sampling={"mixtures": 3, "seconds": 0.4, "songs": 1.0, "channels": 2})
    mine.network.train()
    batch = mine.batch(0, 0, 1).to(torch.device("cpu"))
    found = {name: compared for name, _, compared in mine.compare(mine.network, batch)}
    assert set(found) == ({"stems"} if model is SVOICE else {"query", "stems"})
    assert len(found["stems"].stages) == (2 if model is SVOICE else 1)
    stems = len(mine.network.stem_names)
    target = found["stems"].target.unflatten(0, (-1, stems))
    torch.testing.assert_close(target.sum(1), batch.mixtures.sources.sum(1))
    loss, parts = mine.loss(mine.network, batch)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in mine.network.parameters())
    assert float(parts["items"]) == len(batch.mixtures.owner)


def test_queries_of_a_batch_are_separated_from_their_own_mixtures(data: dict[str, str]) -> None:
    mine = task(data, UNET)
    mine.network.eval()
    batch = mine.batch(1, 0, 1)
    (found,) = (compared for name, _, compared in mine.compare(mine.network, batch) if name == "query")
    mixes = batch.mixtures.sources.sum(1)
    assert batch.text is not None
    for row, owner in enumerate(batch.mixtures.owner.tolist()):
        assert torch.equal(found.mix[row], mixes[owner])
        alone = mine.network(mixes[owner][None], batch.text[row : row + 1], batch.negative[row : row + 1])
        torch.testing.assert_close(found.stages[-1][row], alone.waveforms[0, 0], atol=1e-4, rtol=1e-3)


def test_a_trained_network_answers_text(data: dict[str, str], mini_folder: Path, mixture: Any, tmp_path: Path) -> None:
    captions = Path(data["manifest"]).with_name("real.safetensors")
    assert main(["data", "captions", data["manifest"], "-o", str(captions), "-m", str(mini_folder), "--quiet"]) == 0
    model = UNET | {"dimension": 512}
    mine = task(data | {"captions": str(captions)}, model, options={"text": str(mini_folder)})
    mine.export(mine.network, tmp_path)
    separator = load(tmp_path, device="cpu", precision="fp32")
    assert separator.capabilities == {"text", "audio", "negative", "stems"}
    mix = mixture(0.5, RATE)
    out = separator.separate(mix, "dog barking", sample_rate=RATE)
    assert out["dog barking"].shape == mix.shape


def test_a_network_for_stems_needs_no_captions(data: dict[str, str], tmp_path: Path) -> None:
    mine = task({key: data[key] for key in ("manifest", "cache")}, SVOICE)
    assert mine.batch(0, 0, 1).text is None
    mine.export(mine.network, tmp_path)
    again, config = load_model(tmp_path)
    assert isinstance(again, SeparationModel)
    assert (again.stem_names, config["query"]) == (("drums", "rest"), None)


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ({"family": "nonsense"}, {}, "unknown family"),
        ({"sample_rate": RATE}, {}, r"model\.family"),
        (UNET | {"depth": 3}, {}, "unknown key 'depth'"),
        (UNET | {"stems": ["piano", "rest"]}, {}, "'piano' is no stem"),
        (UNET, {"options": {"words": 0.0, "stems": 0.0}}, "nothing to train"),
        (UNET, {"options": {"words": -1.0}}, "negative"),
        (SVOICE, {"options": {"text": "mini"}}, "takes no words"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    data: dict[str, str], model: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, ModelError), match=words):
        task(data, model, **changes)
    with pytest.raises(ConfigError, match=r"data\.captions"):
        task({key: data[key] for key in ("manifest", "cache")}, UNET)


GAN = {"adversary": {"after": 2, "weight": 0.1, "widths": [4, 8], "n_fft": 256, "hop": 64}, "words": 0.0}


def gan_run(data: dict[str, str], folder: Path, steps: int, stop_at: int | None = None) -> WaveformTask:
    mine = task(data, UNET | {"dropout": 0.0}, options=GAN, sampling=SONGS)
    config = TrainerConfig(
        steps=steps,
        warmup=1,
        precision="fp32",
        device="cpu",
        log_every=1,
        checkpoint_minutes=None,
        checkpoint_steps=100,
    )
    trainer = Trainer(mine, config, folder)
    if stop_at is not None:
        make = mine.batch

        def batch(step: int, rank: int, world: int) -> Any:
            if step == stop_at:
                trainer._request_stop()
            return make(step, rank, world)

        mine.batch = batch  # type: ignore[method-assign]
    trainer.fit()
    return mine


SONGS = {"mixtures": 2, "seconds": 0.4, "songs": 1.0}


def test_a_network_is_trained_against_a_discriminator_and_resumes_exactly(data: dict[str, str], tmp_path: Path) -> None:
    whole = gan_run(data, tmp_path / "whole", 5)
    gan_run(data, tmp_path / "parts", 5, stop_at=3)
    parts = gan_run(data, tmp_path / "parts", 5)
    lines = {
        run: [line for line in read_log(tmp_path / run / "log.jsonl") if line["event"] == "train"]
        for run in ("whole", "parts")
    }
    assert ["discrimination" in line for line in lines["whole"]] == [False, False, True, True, True]
    values = {run: [(line["loss"], line.get("discrimination")) for line in found] for run, found in lines.items()}
    assert values["whole"] == values["parts"]
    for one, other in ((whole.network, parts.network), (whole.adversary, parts.adversary)):
        assert one is not None
        assert other is not None
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    model, _ = load_model(tmp_path / "whole/model")
    assert not any("last" in name for name in model.state_dict())  # the discriminator is not exported


def test_a_discriminator_learns_to_tell_estimates_from_targets(data: dict[str, str]) -> None:
    mine = task(data, UNET, options=GAN, sampling=SONGS)
    assert mine.adversary is not None
    optimizer = torch.optim.Adam(mine.adversary.parameters(), 0.005)
    batch, losses = mine.batch(2, 0, 1), []
    for _ in range(30):
        total, parts = mine.loss(mine.network, batch)
        before = [p.grad for p in mine.adversary.parameters()]
        total.backward()
        assert [p.grad for p in mine.adversary.parameters()] == before  # the separator's loss does not train it
        loss, _ = mine.adversary_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert float(parts["stems_deception"]) > losses[-1]
    assert mine.batch(1, 0, 1).adversarial is False
    with pytest.raises(ConfigError, match="adversary: weight"):
        task(data, UNET, options={"adversary": {"weight": 0.0}})


def test_a_batch_with_nothing_to_compare_is_no_error(data: dict[str, str], tmp_path: Path) -> None:
    sampling = {"mixtures": 2, "seconds": 0.3, "songs": 0.0, "mixed_songs": 0.0}
    config = configuration(data, SVOICE, sampling=sampling, options={**GAN, "words": 1.0})
    (tmp_path / "svoice.json").write_text(json.dumps(config))
    assert main(["train", str(tmp_path / "svoice.json"), "-o", str(tmp_path / "run"), "--quiet"]) == 0
    lines = [line for line in read_log(tmp_path / "run/log.jsonl") if line["event"] == "train"]
    assert [line["loss"] for line in lines] == [0.0, 0.0, 0.0]
    assert [line["grad_norm"] for line in lines] == [0.0, 0.0, 0.0]


def test_the_seed_decides_the_weights_that_are_drawn(data: dict[str, str], tmp_path: Path) -> None:
    drawn = []
    for number, seed in enumerate((3, 4, 3)):
        (tmp_path / f"{number}.json").write_text(json.dumps(configuration(data, UNET, seed=seed)))
        torch.randn(number + 1)  # what the program drew before does not count
        weights = build_task(read_run_config(tmp_path / f"{number}.json")).model.state_dict()
        drawn.append(torch.cat([w.flatten() for w in weights.values() if w.is_floating_point()]))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
