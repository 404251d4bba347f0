"""Windows through a model where memory is short, and while the next ones are cut."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from doubles import FakeEncoder, TinyModel
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.inference import devices
from audiosep.inference.devices import is_out_of_memory, windows_at_once
from audiosep.inference.options import Options
from audiosep.inference.overlap_add import OverlapAdd
from audiosep.inference.stream import Stream
from audiosep.inference.window_runner import WindowRunner, gains_of
from audiosep.inference.windows import Windows
from audiosep.models.separation_model import Estimate
from audiosep.separator import Separator

Mixture = Callable[..., np.ndarray]
RATE = 16000


class Cramped(TinyModel):
    """A model on a device that holds `room` windows, and keeps count of what it was given."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        super().__init__()
        self.room = room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.given: list[int] = []

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        self.given.append(len(mix))
        if len(mix) > self.room:
            raise self.error
        return super().forward(mix, embeddings, negatives)


def cramped(room: int, error: Exception | None = None) -> Separator:
    return Separator(Cramped(room, error), FakeEncoder(), device="cpu", precision="fp32", name="cramped")


@pytest.mark.parametrize("room", [1, 3, 5])
def test_when_memory_runs_out_the_batch_is_halved_and_nothing_is_lost(
    mixture: Mixture, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    mix = mixture(6.0, RATE)
    roomy, tight = cramped(100), cramped(room)
    options: dict[str, Any] = {"sample_rate": RATE, "options": Options(batch=7)}
    expected = roomy.separate(mix, ["piano", "voice"], **options)
    with caplog.at_level(logging.WARNING, "audiosep"):
        out = tight.separate(mix, ["piano", "voice"], **options)
    for name in expected:
        np.testing.assert_allclose(out[name], expected[name], rtol=0, atol=1e-6)
    assert out.presence == pytest.approx(expected.presence)
    given = tight.model.given
    refused = [count for count in given if count > room]
    assert refused == [7, 3][: len(refused)]  # what fitted once is not exceeded again
    assert max(roomy.model.given) == 7
    assert "do not fit into memory" in caplog.text
    assert sum(given) - sum(refused) == sum(roomy.model.given)


def test_a_window_that_does_not_fit_names_the_remedy(mixture: Mixture) -> None:
    with pytest.raises(ModelError, match=r"does not fit into the memory of cpu: .* device='cpu'"):
        cramped(0).separate(mixture(1.0, RATE), "piano", sample_rate=RATE)


def test_other_errors_are_not_taken_for_a_lack_of_memory(mixture: Mixture) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        cramped(0, RuntimeError("shapes do not match")).separate(mixture(1.0, RATE), "piano", sample_rate=RATE)


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_a_lack_of_memory_looks_like(error: RuntimeError, lack: bool) -> None:
    assert is_out_of_memory(error) == lack


@pytest.mark.parametrize(("free", "cached", "takes", "fit"), [(10, 0, 1, 7), (10, 4, 1, 8), (3, 0, 1, 2), (1, 0, 4, 1)])
def test_a_gpu_gets_as_many_windows_as_fit(
    monkeypatch: pytest.MonkeyPatch, free: int, cached: int, takes: int, fit: int
) -> None:
    gigabyte, peak = 10**9, [0]
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: gigabyte)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: (1 + cached) * gigabyte)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free * gigabyte, 80 * gigabyte))

    def run() -> None:
        peak[0] = (1 + takes) * gigabyte

    assert windows_at_once(torch.device("cuda"), run, 8) == fit


def test_a_cpu_computes_one_window_at_a_time() -> None:
    def run() -> None:
        raise AssertionError("nothing to try out")

    assert windows_at_once(torch.device("cpu"), run, 8) == 1


class Followed(TinyModel):
    """Targets are the mixture; the gain above the model's band follows the mixture's samples."""

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        frames = mix[:, :1, :: self.hop]
        missing = mix.shape[-1] // self.hop + 1 - frames.shape[-1]
        top = torch.nn.functional.pad(frames, (0, missing), mode="replicate")
        return Estimate(mix[:, None], top, None)


class Scored(TinyModel):
    """Presence is the level of the mixture; counts the calls with negatives."""

    negatives = 0

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        self.negatives += negatives is not None
        estimate = super().forward(mix, embeddings, negatives)
        return Estimate(estimate.waveforms, estimate.top, mix.mean((1, 2))[:, None].expand(-1, len(embeddings)))


def test_presence_is_the_highest_of_all_windows() -> None:
    runner = WindowRunner(Scored(), torch.ones(2, 16), None, device=torch.device("cpu"), precision="fp32", top=False)
    for level in (0.25, 0.75, 0.5):
        runner(torch.full((1, 1, 640), level))
    assert runner.presence is not None
    assert runner.presence.tolist() == pytest.approx([0.75, 0.75])


@pytest.mark.parametrize("used", [False, True])
def test_a_model_gets_negatives_only_if_there_are_some(used: bool) -> None:
    # Without them some models compute less.
    model, negatives = Scored(), torch.zeros(2, 16)
    negatives[1, 3] = float(used)
    runner = WindowRunner(model, torch.ones(2, 16), negatives, device=torch.device("cpu"), precision="fp32", top=False)
    runner(torch.ones(1, 1, 640))
    assert model.negatives == used


@pytest.mark.parametrize("samples", [640, 647, 655])
def test_gains_lie_at_the_centres_of_their_frames(samples: int) -> None:
    model = Followed()
    runner = WindowRunner(model, torch.ones(1, 16), None, device=torch.device("cpu"), precision="fp32", top=True)
    ramp = torch.linspace(0.1, 1, samples)[None, None]
    rows = runner(ramp)[0]
    assert torch.equal(rows[0], ramp[0, 0])
    known = samples - 1 - (samples - 1) % model.hop  # the centre of the last frame; its gain goes on to the end
    torch.testing.assert_close(rows[1, : known + 1], ramp[0, 0, : known + 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(rows[1, known:], rows[1, known].expand(samples - known))


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("live", [False, True])
def test_what_is_above_the_band_is_multiplied_by_the_gain_of_its_own_time(rate: int, live: bool) -> None:
    model, time = Followed(), np.arange(2 * rate) / rate
    level = (0.5 + 0.4 * np.sin(2 * np.pi * 10 * time)).astype(np.float32)
    high = (0.1 * np.sin(2 * np.pi * 15_000 * time)).astype(np.float32)
    plan = Windows.plan(model.window, model.context, hop=model.hop)
    short = Windows.live(2000, model.past, size=model.window, context=model.context, hop=model.hop)
    runner = WindowRunner(model, torch.ones(1, 16), None, device=torch.device("cpu"), precision="fp32", top=True)
    stream = Stream(
        runner, ["a"], sample_rate=rate, channels=1, model_rate=RATE, hop=model.hop, windows=short if live else plan
    )
    mix = (level + high)[None]
    out = np.concatenate([stream.push(mix[:, : rate // 2]), stream.push(mix[:, rate // 2 :]), stream.finish()], -1)
    inner = slice(rate // 10, -rate // 10)  # the filters of the resampler see the ends
    error = out[0, 0, inner] - (level + level * high)[inner]
    # A shift of the gain by 10 samples of the model would give 0.1 * 0.4 * 2 pi 10 * 10 / 16000 = 1.6e-3.
    assert np.abs(error).max() < 1e-3


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_stream_that_computes_ahead_gives_the_same_a_batch_later(mixture: Mixture, rate: int) -> None:
    model, mix = TinyModel(), mixture(4.0, rate)
    windows = Windows.plan(model.window, model.context, hop=model.hop)

    def through(ahead: int) -> np.ndarray:
        inference = WindowRunner(
            model, torch.eye(2, 16), None, device=torch.device("cpu"), precision="fp32", top=rate > RATE
        )
        stream = Stream(
            inference, ["a", "b"], sample_rate=rate, channels=2, model_rate=RATE, hop=model.hop, windows=windows,
            batch=2, ahead=ahead,
        )  # fmt: skip
        parts = []
        for start in range(0, mix.shape[1], 1000):
            parts.append(stream.push(mix[:, start : start + 1000]))
            assert sum(part.shape[-1] for part in parts) >= min(start + 1000, mix.shape[1]) - stream.latency
        return np.concatenate([*parts, stream.finish()], -1)

    assert np.array_equal(through(0), through(1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("samples", [1, 60, 64, 500, 641])
def test_rows_that_are_waited_for_later_are_the_same(batch: int, ahead: int, samples: int) -> None:
    windows = Windows(64, 8, 8, 16, 16)
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    under_way = 0

    def begin(cut: Tensor) -> Callable[[], Tensor]:
        nonlocal under_way
        under_way += 1
        assert under_way <= ahead + 1

        def wait() -> Tensor:
            nonlocal under_way
            under_way -= 1
            return cut

        return wait

    stream = OverlapAdd(begin, windows, batch=batch, ahead=ahead)
    latency = windows.latency + ((1 + ahead) * batch - 1) * windows.stride
    parts: list[Tensor] = []
    for i in range(samples):
        parts += stream.push(x[:, i : i + 1])
        assert sum(part.shape[-1] for part in parts) >= i + 1 - latency
    assert torch.equal(torch.cat([*parts, *stream.finish()], -1), x)
    assert under_way == 0


@pytest.mark.parametrize("hop", [320, 512])
def test_gains_are_linear_between_frames_and_do_not_depend_on_the_stretch(hop: int) -> None:
    top = torch.rand(3, 7, generator=torch.Generator().manual_seed(0))
    samples = 6 * hop + hop // 2
    whole = gains_of(top, hop, 0, samples)
    assert torch.equal(whole[:, ::hop], top)
    torch.testing.assert_close(whole[:, hop // 2 :: hop][:, :6], (top[:, :-1] + top[:, 1:]) / 2)
    assert torch.equal(whole[:, 6 * hop :], top[:, -1:].expand(-1, hop // 2))
    parts = [gains_of(top, hop, start, min(start + 77, samples)) for start in range(0, samples, 77)]
    assert torch.equal(torch.cat(parts, -1), whole)


def test_freed_memory_is_given_back_by_what_all_threads_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(devices, "free_cache", given.append)
    freed = devices.FreedMemory(every=10.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: freed.after(2.5, torch.device("cpu")), range(12)))
    assert given == [torch.device("cpu")] * 3
    freed.after(9.9, torch.device("cpu"))
    assert len(given) == 3
