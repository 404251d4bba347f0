"""Windows and overlap-add: exact for an identity model, independent of block size and batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audiosep.errors import InputError
from audiosep.inference import overlap_add
from audiosep.inference.overlap_add import ComputedRows, OverlapAdd, Shifts, mirrored
from audiosep.inference.windows import Windows

WINDOWS = {
    "plain": Windows(64, 8, 8, 16, 16),
    "no context": Windows(32, 0, 0, 0, 4),
    "no fade": Windows(48, 8, 8, 0, 4),
    "live": Windows.live(24, 20, size=64, context=24, hop=4),
    "live, off the hop": Windows.live(27, 20, size=128, context=24, hop=4, grid=16),
    "live, stride < context": Windows(48, 32, 4, 4, 4, lead=32),
    "more fade than stride": Windows(64, 8, 8, 40, 4),
    "no grid": Windows(31, 3, 5, 6, 1),
}


def identity(windows: Tensor) -> Tensor:
    return windows


def noise(samples: int, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


def through(stream: OverlapAdd | Shifts, x: Tensor, sizes: list[int]) -> Tensor:
    """Push `x` in blocks of these sizes, the last one repeated."""
    parts, position, turn = [], 0, 0
    while position < x.shape[-1]:
        size = sizes[min(turn, len(sizes) - 1)]
        parts += stream.push(x[..., position : position + size])
        position, turn = position + size, turn + 1
    return torch.cat([*parts, *stream.finish()], -1)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("batch", [1, 3])
def test_identity_is_bit_exact_for_every_length_up_to_ten_windows(name: str, batch: int) -> None:
    windows = WINDOWS[name]
    batch = 1 if windows.lead else batch
    whole = noise(10 * windows.size)
    for samples in range(1, 10 * windows.size, 7):
        x = whole[:, :samples]
        assert torch.equal(through(OverlapAdd(identity, windows, batch=batch), x, [50]), x), samples


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(WINDOWS)),
    samples=st.integers(1, 640),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    batch=st.integers(1, 4),
)
def test_identity_is_bit_exact_for_any_blocks(name: str, samples: int, sizes: list[int], batch: int) -> None:
    x, windows = noise(samples), WINDOWS[name]
    assert torch.equal(through(OverlapAdd(identity, windows, batch=1 if windows.lead else batch), x, sizes), x)


def test_only_trusted_samples_reach_the_output() -> None:
    windows = WINDOWS["plain"]

    def spoilt(batch: Tensor) -> Tensor:
        marked = batch.clone()
        marked[..., : windows.left] = torch.inf
        marked[..., marked.shape[-1] - windows.right :] = torch.inf
        return marked

    x = noise(500)
    out = through(OverlapAdd(spoilt, windows), x, [500])
    inner = slice(windows.left, 500 - windows.right)
    assert torch.equal(out[:, inner], x[:, inner])
    assert torch.isinf(out[:, : windows.left]).all()  # the ends of the file have no neighbour to take over
    assert torch.isinf(out[:, 500 - windows.right :]).all()


def test_neighbours_are_cross_faded_in_a_straight_line() -> None:
    windows = Windows(40, 4, 4, 16, 4)
    counter = iter(range(100))

    def numbered(batch: Tensor) -> Tensor:
        return torch.stack([torch.full_like(one, float(next(counter))) for one in batch])

    out = through(OverlapAdd(numbered, windows), noise(40 + 16, 1), [56])[0]
    fade = slice(windows.stride + windows.left, windows.stride + windows.left + windows.fade)
    assert (out[: fade.start] == 0).all()
    assert (out[fade.stop :] == 1).all()
    assert torch.allclose(out[fade], (torch.arange(16) + 0.5) / 16)


def test_windows_start_on_the_grid_and_the_last_ends_with_the_signal() -> None:
    windows = WINDOWS["plain"]
    seen: list[Tensor] = []

    def spy(batch: Tensor) -> Tensor:
        seen.extend(batch)
        return batch

    ramp = torch.arange(205.0)[None]
    through(OverlapAdd(spy, windows, batch=2), ramp, [64])
    assert all(int(window[0, 0]) % windows.grid == 0 for window in seen)
    assert [window.shape[-1] for window in seen[:-1]] == [windows.size] * (len(seen) - 1)
    assert int(seen[-1][0, -1]) == 204


def test_the_last_window_has_a_third_of_a_window_up_to_the_grid() -> None:
    windows = WINDOWS["no context"]
    for samples in range(1, 4 * windows.size):
        seen: list[int] = []

        def spy(batch: Tensor, seen: list[int] = seen) -> Tensor:
            seen.append(batch.shape[-1])
            return batch

        through(OverlapAdd(spy, windows), noise(samples, 1), [samples])
        assert min(samples, windows.size // 3 - windows.grid + 1) <= seen[-1] <= windows.size


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_are_the_same_for_any_blocks(batch: int) -> None:
    def calls(sizes: list[int]) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []

        def spy(windows: Tensor) -> Tensor:
            shapes.append(tuple(windows.shape))
            return windows

        through(OverlapAdd(spy, WINDOWS["plain"], batch=batch), noise(600), sizes)
        return shapes

    assert calls([600]) == calls([1]) == calls([77, 3])


@pytest.mark.parametrize("name", WINDOWS)
def test_a_sample_is_ready_after_the_stated_latency(name: str) -> None:
    windows = WINDOWS[name]
    stream, ready = OverlapAdd(identity, windows), 0
    for pushed in range(1, 400):
        ready += sum(out.shape[-1] for out in stream.push(noise(1)))
        assert ready >= pushed - windows.latency
    assert windows.latency == windows.size - 1 - windows.lead


def test_memory_is_a_window_whatever_the_length() -> None:
    stream = OverlapAdd(identity, WINDOWS["plain"])
    for _ in range(200):
        list(stream.push(noise(30)))
        assert sum(block.shape[-1] for block in stream._blocks) <= 2 * WINDOWS["plain"].size


@pytest.mark.parametrize("shifts", [0, 1, 2, 4])
@pytest.mark.parametrize("samples", [1, 30, 64, 333])
def test_shifted_passes_agree_for_an_identity_model(shifts: int, samples: int) -> None:
    windows, x = WINDOWS["plain"], noise(samples)
    out = through(Shifts(lambda: OverlapAdd(identity, windows), shifts, windows, hop=4), x, [50])
    assert torch.equal(out, x)


def test_shifts_average_what_depends_on_the_window() -> None:
    windows, x = WINDOWS["plain"], torch.ones(1, 400)

    def rippled(batch: Tensor) -> Tensor:  # an error that repeats with the STFT's hop
        return batch + torch.cos(torch.arange(batch.shape[-1]) * (2 * torch.pi / 4))

    once = through(Shifts(lambda: OverlapAdd(rippled, windows), 0, windows, hop=4), x, [400])
    mean = through(Shifts(lambda: OverlapAdd(rippled, windows), 3, windows, hop=4), x, [400])
    assert (once - 1).abs().max() > 0.9
    assert (mean - 1).abs().max() < 1e-5


def test_more_overlap_means_a_shorter_stride_on_the_grid() -> None:
    strides = [Windows.plan(640, 64, hop=4, grid=32, overlap=overlap).stride for overlap in (0, 0.25, 0.5, 0.9, 0.99)]
    assert strides == [512, 384, 256, 32, 4]
    assert Windows.plan(640, 64, hop=4, grid=32).fade == 640 - 128 - 480


@pytest.mark.parametrize("latency", [12, 13, 59, 100, 300, 511, 10_000])
@pytest.mark.parametrize("past", [0, 3, 48, 200])
@pytest.mark.parametrize("grid", [4, 32])
def test_live_windows_keep_to_the_latency(latency: int, past: int, grid: int) -> None:
    windows = Windows.live(latency, past, size=640, context=64, hop=4, grid=grid)
    assert latency - 4 <= windows.latency < latency or latency > 400
    assert windows.mirror == 16
    assert past - 4 < windows.left == windows.lead
    assert windows.left % 4 == windows.stride % 4 == 0  # frames stay those of the whole signal
    assert windows.size + windows.mirror <= 640
    assert windows.stride >= 0.45 * (windows.latency + 1)  # how often the past is computed again
    assert windows.right > 0
    assert windows.fade <= latency / 12
    x = noise(1500)
    assert torch.equal(through(OverlapAdd(identity, windows), x, [17]), x)


@pytest.mark.parametrize("latency", [12, 50, 333])
def test_live_windows_fill_the_pooling_with_sound(latency: int) -> None:
    windows = Windows.live(latency, 48, size=640, context=64, hop=4, grid=32)
    assert ((windows.size + windows.mirror) // 4 + 1) % (32 // 4) == 0  # frames


def test_live_windows_go_on_mirrored_where_nothing_is_heard() -> None:
    windows, seen = WINDOWS["live"], list[Tensor]()

    def spy(cut: Tensor) -> Tensor:
        seen.append(cut[0, 0])
        return cut

    stream = OverlapAdd(spy, windows)
    ramp = torch.arange(300.0)[None]
    for start in range(0, 300, 10):
        list(stream.push(ramp[:, start : start + 10]))
    assert {len(window) for window in seen} == {windows.size + windows.mirror}
    first, heard = seen[0], windows.latency + 1
    assert first[: windows.left + 1].tolist()[::-1] == mirrored(ramp[:, :heard], 0, 100)[0, : windows.left + 1].tolist()
    assert first[windows.left : windows.size].tolist() == list(range(heard))
    for window in seen:
        newest = int(window[windows.size - 1])
        assert window[windows.size :].tolist() == [newest - i for i in range(1, windows.mirror + 1)]


@pytest.mark.parametrize(
    "expected", [[0] * 6, [1, 0, 1, 0, 1, 0, 1], [1, 2, 1, 0, 1, 2, 1, 0], [3, 2, 1, 0, 1, 2, 3, 2, 1]]
)
def test_mirrored(expected: list[int]) -> None:
    samples = len(expected) - 3 - 2
    assert mirrored(torch.arange(samples)[None], 3, 2)[0].tolist() == expected


def test_of_a_long_latency_little_is_looked_ahead() -> None:
    windows = Windows.live(400, 48, size=640, context=64, hop=4)
    assert windows.right + windows.fade <= 64 + 4
    assert windows.fade == 4


@pytest.mark.parametrize("samples", [343_981, 400_000, 601_004])
def test_the_last_of_whole_windows_is_whole_wherever_that_starts(samples: int) -> None:
    windows = Windows.plan(343_980, 0, hop=1024, overlap=0.25, whole=True)
    assert windows.last_span(1, samples) == (samples - 343_980, samples)
    assert windows.last_span(0, 1000) == (0, 1000)


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(InputError, match="overlap must be"):
        Windows.plan(64, 8, hop=4, overlap=1.0)
    with pytest.raises(InputError, match="advance"):
        Windows.plan(16, 8, hop=4)
    with pytest.raises(InputError, match="grid"):
        Windows(64, 8, 8, 17, 16)
    with pytest.raises(InputError, match="latency of at least 12"):
        Windows.live(11, 8, size=64, context=8, hop=4)
    with pytest.raises(InputError, match="batch"):
        OverlapAdd(identity, WINDOWS["plain"], batch=0)
    with pytest.raises(InputError, match="shifts"):
        Shifts(lambda: OverlapAdd(identity, WINDOWS["plain"]), -1, WINDOWS["plain"], hop=4)


def test_rows_are_asked_for_a_stretch_at_a_time_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_add, "_VALUES", 120)
    asked: list[int] = []

    class Copied:
        """12 times the signal, of which at most 10 samples are wanted at a time."""

        count = 12

        def __init__(self, rows: Tensor) -> None:
            self.rows = rows

        def stretch(self, start: int, stop: int) -> Tensor:
            asked.append(stop - start)
            return self.rows[:, start:stop]

        def tail(self, start: int) -> Copied:
            return Copied(self.rows[:, start:].clone())

    x = noise(500)
    stream = OverlapAdd(lambda batch: [Copied(window.repeat(6, 1)) for window in batch], WINDOWS["plain"])
    assert torch.equal(through(stream, x, [50]), x.repeat(6, 1))
    assert max(asked) == 10


def test_of_a_window_only_the_tail_is_kept() -> None:
    windows, tails = WINDOWS["plain"], []

    class Watched(ComputedRows):
        """Rows that note where the part of them begins that is kept."""

        def tail(self, start: int) -> ComputedRows:
            tails.append(start)
            return super().tail(start)

    x = noise(3 * windows.size)
    stream = OverlapAdd(lambda batch: [Watched(window) for window in batch], windows)
    assert torch.equal(through(stream, x, [7]), x)
    assert set(tails[:-1]) == {windows.size - windows.right - windows.fade}
