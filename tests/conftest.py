"""Fixtures that every test may use: tiny models, an encoder without weights, audio that sounds like something."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import PLAIN, FakeEncoder, IdentityModel, TinyModel
from numpy.typing import NDArray
from torch import nn

from audiosep import query
from audiosep.api import load
from audiosep.cli import main
from audiosep.models.families import FAMILIES
from audiosep.separator import Separator
from audiosep.weights.checkpoint import save_model

Mixture = Callable[..., NDArray[np.float32]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mixture() -> Mixture:
    """mixture(seconds, sample_rate, channels): modulated harmonics, clicks, noise bursts; a mix for each channel."""

    def make(
        seconds: float = 1.5, sample_rate: int = 16000, channels: int = 2, seed: int = 0, level: float = 0.3
    ) -> NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        n = max(1, round(seconds * sample_rate))
        t = np.arange(n) / sample_rate
        tone = sum(np.sin(2 * np.pi * 220 * k * t + 3 * np.sin(2 * np.pi * 5 * t)) / k for k in range(1, 9))
        bursts = rng.standard_normal(n) * (np.sin(2 * np.pi * 3 * t) > 0.6)
        clicks = rng.standard_normal(n) * (rng.random(n) < 0.002) * 4
        sources = np.stack([tone, bursts, clicks])
        mix = rng.uniform(-1, 1, (channels, 3)) @ sources
        return (level * mix / np.abs(mix).max()).astype(np.float32)

    return make


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell lets its background jobs ignore Ctrl-C, and what they start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch computes with two threads; tests run with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command line in one test (`--quiet`) must not silence the log of the next."""
    logger = logging.getLogger("audiosep")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run("separate", ...) -> (exit code, standard output, standard error)"""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    command = shutil.which("chromium")
    if command is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=command, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def separator(encoder: FakeEncoder) -> Separator:
    """A tiny model with random weights and all capabilities, 16 kHz, half-second windows."""
    return Separator(TinyModel(), encoder, device="cpu", precision="fp32", name="tiny")


@pytest.fixture
def identity(encoder: FakeEncoder) -> Separator:
    """A model whose targets are the mixture."""
    return Separator(IdentityModel(), encoder, device="cpu", precision="fp32", name="identity")


@pytest.fixture
def doubles_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checkpoints name the doubles."""
    monkeypatch.setitem(FAMILIES, "tiny", "doubles:TinyModel")
    monkeypatch.setitem(query.ENCODERS, "fake", "doubles:FakeEncoder")


@pytest.fixture
def tiny_folder(doubles_registered: None, tmp_path: Path) -> Path:
    """A checkpoint of the tiny model."""
    return save_model(tmp_path / "tiny", TinyModel(), query={"encoder": "fake"}, extra={"name": "tiny"})


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the bundled model's kind: hybrid network and embedded CLAP, small, with random weights."""
    from audiosep.models.hybrid import Hybrid
    from audiosep.models.hybrid_config import HybridConfig
    from audiosep.models.listener import Listener, ListenerConfig
    from audiosep.models.text import TextTower, TextTowerConfig
    from audiosep.query.mini import MiniEncoder
    from audiosep.query.tokenizer import WordPieces, train_word_pieces

    folder = tmp_path_factory.mktemp("models") / "mini"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        listener = ListenerConfig(n_fft=1024, bands=64, widths=(8, 8, 8, 8, 8), hidden=16, tags=4)
        shape = HybridConfig(
            n_fft=1024, bands=64, widths=(8, 8, 8), features=16, tracks=8, listener=listener,
            window=63 * 512, context=16 * 512, **PLAIN,
        )  # fmt: skip
        network = Hybrid(shape).eval()
        nn.init.normal_(network.out.weight, std=0.5)
        nn.init.normal_(network.stem_out.weight, std=0.5)
        words = train_word_pieces(["a dog barking", "an electric guitar solo", "piano voice drums"], [], 400, 300)
        tower = TextTower(
            TextTowerConfig(words.get_vocab_size(), width=16, layers=1, heads=2, feedforward=16, hidden=16)
        )
        encoder = MiniEncoder(tower, WordPieces(words, words.get_vocab_size()), Listener(listener), "small")
    folder.mkdir()
    return save_model(folder, network, query=encoder.save(folder), extra={"name": "mini", "licence": "MIT"})


@pytest.fixture
def mini(mini_folder: Path) -> Separator:
    """`mini_folder`, loaded."""
    return load(mini_folder, device="cpu", precision="fp32")
