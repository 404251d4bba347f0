"""OpenVINO as an engine: the same targets as torch, for any length and number of queries."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Mixture
from doubles import FakeEncoder
from test_hybrid import SMALL

import audiosep
from audiosep import Sounds
from audiosep.errors import InputError, ModelError
from audiosep.inference import openvino
from audiosep.inference.openvino import OpenVinoModel
from audiosep.models.hybrid import Hybrid
from audiosep.models.mask_graph import MaskGraph
from audiosep.models.resunet import ResUNet30, ResUNet30Config

pytest.importorskip("openvino")


def queries(count: int, dimension: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dimension), dim=-1)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize(
    ("samples", "count", "changes"),
    [(3000, 1, {}), (20123, 3, {}), (20000, 3, {"refinements": 1, "mix_temperature": 0.25})],
)
def test_hybrid_gives_the_same_targets(samples: int, count: int, changes: dict[str, float]) -> None:
    torch.manual_seed(0)
    model = Hybrid(replace(SMALL, relisten=True, **changes)).eval()
    torch.nn.init.normal_(model.out.weight, std=0.5)
    other = OpenVinoModel(model, "fp32")
    mix, embeddings, negatives = torch.randn(2, 2, samples), queries(count, 16), 0.5 * queries(count, 16)
    with torch.inference_mode():
        found = [
            (other(mix, embeddings, negatives), model(mix, embeddings, negatives)),
            (other(mix, embeddings), model(mix, embeddings)),
        ]
        for ours, theirs in found:
            assert close(ours.presence, theirs.presence)
        for ours, theirs in [*found, (other.stems(mix), model.stems(mix))]:
            assert close(ours.waveforms, theirs.waveforms)
            assert close(ours.top, theirs.top)


@pytest.mark.parametrize("samples", [300, 20123])
def test_resunet_gives_the_same_targets(samples: int) -> None:
    torch.manual_seed(0)
    config = ResUNet30Config(n_fft=256, hop=40, widths=(4, 4, 6), dimension=8)
    model = ResUNet30(config).eval()
    other = OpenVinoModel(model, "fp32")
    mix, embeddings = torch.randn(2, 2, samples), queries(2, 8)
    with torch.inference_mode():
        ours, theirs = other(mix, embeddings), model(mix, embeddings)
        assert close(ours.waveforms, theirs.waveforms)
        assert close(ours.top, theirs.top)
    with pytest.raises(ModelError, match="no fixed stems"):
        other.stems(mix)


def test_users_choose_the_engine(mini_folder: Path, mixture: Mixture) -> None:
    ours = audiosep.load(mini_folder, engine="openvino", precision="fp32")
    theirs = audiosep.load(mini_folder, device="cpu", precision="fp32")
    assert (ours.engine, ours.device.type) == ("openvino", "cpu")
    assert (theirs.engine, theirs.device.type) == ("torch", "cpu")
    mix = mixture(3.0)
    for a, b in (
        (
            ours.separate(mix, ["piano", "dog"], sample_rate=16000),
            theirs.separate(mix, ["piano", "dog"], sample_rate=16000),
        ),
        (ours.stems(mix, sample_rate=16000), theirs.stems(mix, sample_rate=16000)),
    ):
        for name in b:
            assert np.abs(a[name] - b[name]).max() < 1e-4


def test_streams_of_short_latency_compile_once(monkeypatch: pytest.MonkeyPatch, mixture: Mixture) -> None:
    compiled: list[MaskGraph] = []
    compile_graph = openvino.compile_graph
    monkeypatch.setattr(
        openvino, "compile_graph", lambda graph, *rest: (compiled.append(graph), compile_graph(graph, *rest))[1]
    )
    network = Hybrid(replace(SMALL, relisten=True, refinements=1)).eval()
    separator = audiosep.Separator(network, FakeEncoder(16), "cpu", "fp32", engine="openvino")
    for _ in range(2):
        stream = separator.stream("piano", sample_rate=separator.sample_rate, channels=1, latency=0.2)
        stream.push(mixture(1.0, separator.sample_rate, 1))
    assert len(compiled) == 1
    assert compiled[0].model.config.refinements == 0


def test_own_names_are_heard_as_by_torch(tmp_path: Path, mixture: Mixture) -> None:
    network, sounds = Hybrid(replace(SMALL, tags=True)).eval(), Sounds(tmp_path / "sounds")
    ours, theirs = (
        audiosep.Separator(network, FakeEncoder(16), "cpu", "fp32", engine=engine, sounds=sounds)
        for engine in ("openvino", "torch")
    )
    example = (mixture(1.0, ours.sample_rate, 1), ours.sample_rate)
    (there,) = sounds.remember("kettle", example, theirs).examples
    (here,) = sounds.remember("bell", example, ours).examples
    assert len(here.tags) == network.config.listener.tags
    assert torch.equal(here.tags, there.tags)
    assert ours.own_names("kettle")["kettle"].examples[0].tags.any()


def test_half_precision_is_refused_as_on_the_cpu(mini_folder: Path) -> None:
    with pytest.raises(InputError, match="fp16"):
        audiosep.load(mini_folder, engine="openvino", precision="fp16")


def test_what_openvino_cannot_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def compile_model(self, *_: object) -> None:
            raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(openvino, "_core", Core)
    model = OpenVinoModel(Hybrid(SMALL).eval(), "fp32")
    with torch.inference_mode(), pytest.raises(ModelError, match=r"\(no such instruction\); use engine='torch'"):
        model.stems(torch.randn(1, 1, 3000))


def test_threads_have_requests_of_their_own() -> None:
    """One request refuses a second thread while it works: "Infer Request is busy"."""
    model = OpenVinoModel(Hybrid(SMALL).eval(), "fp32")
    mixes = [torch.randn(1, 1, 20000) for _ in range(4)]

    def several(mix: torch.Tensor) -> list[torch.Tensor]:
        with torch.inference_mode():
            return [model.stems(mix).waveforms for _ in range(5)]

    alone = [several(mix)[0] for mix in mixes]
    with ThreadPoolExecutor(len(mixes)) as pool:
        for expected, found in zip(alone, pool.map(several, mixes), strict=True):
            assert all(torch.equal(one, expected) for one in found)


SIGNALLED = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
import torch
from test_openvino import SMALL, Hybrid, OpenVinoModel, replace
models = [OpenVinoModel(Hybrid(SMALL).eval(), "fp32") for _ in range(2)]
with torch.inference_mode():
    for model in models:
        model.stems(torch.randn(1, 1, 3000))
del model
models.pop(0)
models.pop(0)
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_signals_are_handled_when_networks_are_gone() -> None:
    command = [sys.executable, "-c", SIGNALLED]
    assert subprocess.run(command, cwd=Path(__file__).parent, timeout=300).returncode == 7
