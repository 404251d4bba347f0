"""What is around every mask network: transforms, one mask for all channels, the top band, the last stem."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.inference.window_runner import MaskedRows, gains_of
from audiosep.models import mask_model
from audiosep.models.bands import Bands
from audiosep.models.mask_graph import MaskGraph, WaveformGraph
from audiosep.models.mask_model import MaskModel, Masks, query_groups
from audiosep.models.stft import frames_of, istft, istft_stretch, mean_power, stft, stft_stretch

N_FFT, HOP, RATE = 256, 64, 16000
BINS = N_FFT // 2 + 1


class FixedMasks(MaskModel):
    """Masks that are given, whatever the mixture; remembers the power that it was shown."""

    def __init__(self, magnitudes: list[Tensor], rotation: Tensor | None = None, presence: bool = False) -> None:
        super().__init__()
        self.n_fft, self.hop, self.sample_rate, self.dimension = N_FFT, HOP, RATE, 4
        self.stem_names = tuple(f"stem {k}" for k in range(len(magnitudes)))
        self.magnitudes, self.rotation, self.presence = magnitudes, rotation, presence
        self.rotates = rotation is not None
        self.capabilities = frozenset({"presence"} if presence else ())
        self.powers: list[Tensor] = []

    def masks(self, power: Tensor, embeddings: Tensor, negatives: Tensor) -> Iterator[Masks]:
        self.powers.append(power)
        for k in range(len(embeddings)):  # one at a time
            magnitude = self.magnitudes[k][None, None, :, None].expand(len(power), 1, -1, power.shape[-1])
            rotation = None
            if self.rotation is not None:
                rotation = self.rotation[None, None, :, None, None].expand(len(power), 1, 2, *power.shape[1:])
            yield Masks(magnitude, rotation, torch.full((len(power), 1), 0.1 * k) if self.presence else None)

    def stem_masks(self, power: Tensor) -> Masks:
        stacked = torch.stack(self.magnitudes)[None, :, :, None]
        return Masks(stacked.expand(len(power), -1, -1, power.shape[-1]))


def mixture(channels: int = 2, samples: int = 3000) -> Tensor:
    return torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(0))


QUERIES = torch.eye(4)[:2]


def test_a_mask_of_ones_gives_the_mixture_and_a_scale_scales_it() -> None:
    mix = mixture()
    out = FixedMasks([torch.ones(BINS), torch.full((BINS,), 0.25)])(mix, QUERIES)
    torch.testing.assert_close(out.waveforms[:, 0], mix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.waveforms[:, 1], 0.25 * mix, atol=1e-5, rtol=1e-5)
    assert out.presence is None


def test_networks_see_the_mean_power_of_the_channels_and_not_a_downmix() -> None:
    left, right = mixture(2).split(1, 1)
    model = FixedMasks([torch.ones(BINS)])
    model(torch.cat([left, -left, right], 1), QUERIES[:1])
    energies = [mean_power(stft(x, N_FFT, HOP)) for x in (left, left, right)]
    torch.testing.assert_close(model.powers[0], torch.stack(energies).mean(0))


@pytest.mark.parametrize("rotates", [True, False])  # networks in other engines do not say it beforehand
def test_a_rotation_turns_phases(rotates: bool) -> None:
    mix, model = mixture(), FixedMasks([torch.ones(BINS)], rotation=torch.tensor([-1.0, 0.0]))
    model.rotates = rotates
    opposite = model(mix, QUERIES[:1])
    torch.testing.assert_close(opposite.waveforms[:, 0], -mix, atol=1e-5, rtol=1e-5)


def test_presence_comes_in_the_order_of_the_queries() -> None:
    out = FixedMasks([torch.ones(BINS)] * 2, presence=True)(mixture(), QUERIES)
    torch.testing.assert_close(out.presence, torch.tensor([[0.0, 0.1]]).expand(2, 2))


@pytest.mark.parametrize("unseen", [0, 1])
def test_the_top_band_is_the_highest_kilohertz_that_the_network_sees(unseen: int) -> None:
    bins = round(1000 * N_FFT / RATE)
    rising = torch.zeros(BINS)
    rising[BINS - unseen - bins : BINS - unseen] = torch.arange(1.0, bins + 1) / bins
    model = FixedMasks([rising])
    model.unseen_bins = unseen
    out = model(mixture(samples=1000), QUERIES[:1])
    assert out.top.shape == (2, 1, 1000 // HOP + 1)
    torch.testing.assert_close(out.top, torch.full_like(out.top, (bins + 1) / (2 * bins)))


def test_the_last_stem_is_what_the_others_leave() -> None:
    mix = mixture()
    model = FixedMasks([torch.full((BINS,), 0.2), torch.full((BINS,), 0.3), torch.full((BINS,), 0.1)])
    out = model.stems(mix)
    torch.testing.assert_close(out.waveforms[:, 2], 0.5 * mix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.waveforms.sum(1), mix, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out.top[:, 2], torch.full_like(out.top[:, 2], 0.5))
    model.stem_names = ()
    with pytest.raises(ModelError, match="mini"):
        model.stems(mix)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("samples", [1, 40, 128, 129, 1000])
def test_any_length_comes_back_whole(pad_mode: str, samples: int) -> None:
    model, mix = FixedMasks([torch.ones(BINS)]), mixture(3, samples)
    model.pad_mode = pad_mode  # type: ignore[assignment]
    out = model(mix, QUERIES[:1])
    assert out.top.shape[-1] == samples // HOP + 1
    torch.testing.assert_close(out.waveforms[:, 0], mix, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("samples", "frames"), [(1, 3), (N_FFT // 2, 3), (N_FFT // 2 + 1, 3), (N_FFT // 2 + 2, 3)])
def test_reflection_begins_at_the_shortest_mixture_that_has_one(samples: int, frames: int) -> None:
    model, mix = FixedMasks([torch.ones(BINS)]), mixture(1, samples)
    model.pad_mode = "reflect"
    model(mix, QUERIES[:1])
    shortest = N_FFT // 2 + 1
    padded = torch.nn.functional.pad(mix, (0, max(0, shortest - samples)))
    assert model.powers[0].shape[-1] == frames
    torch.testing.assert_close(model.powers[0], mean_power(stft(padded, N_FFT, HOP, pad_mode="reflect")))


def test_graphs_give_what_the_model_gives() -> None:
    mix = mixture()[0]
    model = FixedMasks([torch.linspace(0, 1, BINS)], rotation=torch.tensor([0.6, 0.8]), presence=True)
    model.queries_at_once = False
    want = model(mix[None], QUERIES[:1])
    graph = MaskGraph(model)
    assert graph.outputs == ("mask", "top", "rotation", "presence")
    found = dict(
        zip(graph.outputs, graph(mean_power(stft(mix, N_FFT, HOP)), QUERIES[:1], 0 * QUERIES[:1]), strict=True)
    )
    torch.testing.assert_close(found["top"], want.top[0])
    torch.testing.assert_close(found["presence"], want.presence[0])
    whole = WaveformGraph(graph)
    targets = dict(zip(whole.outputs, whole(mix, QUERIES[:1], 0 * QUERIES[:1]), strict=True))["targets"]
    torch.testing.assert_close(targets, want.waveforms[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("together", "sizes"), [(None, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_queries_are_decoded_some_at_a_time(together: int | None, sizes: list[int]) -> None:
    embeddings, negatives = torch.rand(5, 4), torch.rand(5, 4)
    groups = list(query_groups(embeddings, negatives, together))
    assert [len(some) for some, _ in groups] == sizes
    assert torch.equal(torch.cat([some for some, _ in groups]), embeddings)
    assert torch.equal(torch.cat([kept_out for _, kept_out in groups]), negatives)


def test_a_description_is_taken_whole() -> None:
    other, model = FixedMasks([torch.ones(BINS)] * 3, presence=True), FixedMasks([torch.ones(BINS)])
    other.window, other.context, other.past, other.alignment, other.unseen_bins = 8000, 64, 128, 4, 1
    other.config = {"any": "thing"}
    model.window = model.context = model.past = 1
    model.take_description(other)
    for name in (
        "config",
        "window",
        "context",
        "past",
        "alignment",
        "unseen_bins",
        "stem_names",
        "capabilities",
        "hop",
    ):
        assert getattr(model, name) == getattr(other, name)


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("stems", [False, True])
@pytest.mark.parametrize("rotates", [False, True])
def test_stretches_are_those_of_the_whole_bit_for_bit(stems: bool, rotates: bool, channels: int) -> None:
    rng = torch.Generator().manual_seed(0)
    model = FixedMasks([torch.rand(BINS, generator=rng) for _ in range(3)])
    mix = torch.randn(2, channels, 40 * HOP + 7, generator=rng)
    masked = model.masked_stems(mix) if stems else model.masked(mix, QUERIES)
    if rotates:
        angle = torch.rand(masked.masks.magnitude.shape, generator=rng)
        masked.masks.rotation = torch.stack([angle.cos(), angle.sin()], 2)
    samples = mix.shape[-1]
    whole = masked.waveforms(0, samples)
    edges = [0, 1, HOP, 5 * HOP + 3, 6 * HOP, samples - 1, samples]
    parts = [masked.waveforms(a, b) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(parts, -1), whole)
    assert torch.equal(masked.waveforms(HOP, samples, slice(1, 2)), whole[1:, ..., HOP:])


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("start", [0, 1, N_FFT, 9 * HOP, 20 * HOP + 5, 40 * HOP + 6])
def test_the_tail_of_a_window_needs_nothing_before_it(start: int, channels: int, pad_mode: str) -> None:
    rng = torch.Generator().manual_seed(0)
    model = FixedMasks([torch.rand(BINS, generator=rng) for _ in range(3)], rotation=torch.tensor([0.6, 0.8]))
    model.pad_mode = pad_mode  # type: ignore[assignment]
    mix = torch.randn(2, channels, 40 * HOP + 7, generator=rng)
    whole = MaskedRows(model.masked(mix, QUERIES), 1, top=True, check=lambda rows: None)
    tail = whole.tail(start)
    again = tail.tail(3)
    assert tail.count == again.count == whole.count
    samples = mix.shape[-1]
    edges = sorted({start, min(start + 4, samples), min(start + 9 * HOP, samples), samples})
    for a, b in pairwise(edges):
        assert torch.equal(tail.stretch(a - start, b - start), whole.stretch(a, b))
        if a > start + 3:
            assert torch.equal(again.stretch(a - start - 3, b - start - 3), whole.stretch(a, b))


@pytest.mark.parametrize("bands", [None, Bands(BINS, BINS)])
def test_the_tail_of_a_window_keeps_none_of_its_memory(bands: Bands | None) -> None:
    masked = FixedMasks([torch.ones(BINS)] * 2)
    whole = masked.masked(mixture(2, 40 * HOP), QUERIES)
    whole.masks.bands = bands
    rest, first = whole.tail(30 * HOP, slice(0, 1))
    assert first > 20 * HOP
    for part in (rest.mix, rest.masks.magnitude, rest.top):
        assert part.untyped_storage().nbytes() == part.nbytes


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_a_mixture_is_analysed_some_frames_at_a_time(pad_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, mix = FixedMasks([torch.ones(BINS)]), mixture(3, 20 * HOP + 1)
    model.pad_mode = pad_mode  # type: ignore[assignment]
    for frames in (1, 7, 100):
        monkeypatch.setattr(mask_model, "_FRAMES", frames)
        model(mix, QUERIES[:1])
    first, *others = model.powers
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_frames_of_a_stretch_are_those_of_the_whole_bit_for_bit(pad_mode: str) -> None:
    for samples in (N_FFT // 2 + 1, 6 * HOP, 40 * HOP + 7):
        x = mixture(2, samples)
        whole = stft(x, N_FFT, HOP, pad_mode)
        last = whole.shape[-1]
        for frames in (slice(0, 1), slice(0, last), slice(1, 2), slice(last - 1, last), slice(last - 2, last + 9)):
            assert torch.equal(stft_stretch(x, N_FFT, HOP, frames, pad_mode), whole[..., frames])


@pytest.mark.parametrize("hop", [HOP, 100])
def test_the_inverse_is_that_of_torch(hop: int) -> None:
    window = torch.hann_window(N_FFT)
    for samples in (1, hop, N_FFT, 40 * hop + 7):
        x = mixture(2, samples)[0]
        spectrum = stft(x, N_FFT, hop)
        spectrum = spectrum * torch.linspace(0, 1, N_FFT // 2 + 1)[:, None]  # no longer the transform of a signal
        expected = torch.istft(spectrum, N_FFT, hop, window=window, length=samples)
        torch.testing.assert_close(istft(spectrum, N_FFT, hop, samples), expected, atol=1e-5, rtol=1e-5)


def test_samples_of_a_stretch_are_those_of_the_whole_bit_for_bit() -> None:
    samples = 40 * HOP + 7
    spectrum = stft(mixture(2, samples)[0], N_FFT, HOP)
    whole = istft(spectrum, N_FFT, HOP, samples)
    for start, stop in ((0, 1), (0, samples), (5, 9 * HOP + 3), (HOP, 2 * HOP), (samples - 1, samples)):
        frames = spectrum[..., frames_of(N_FFT, HOP, start, stop)]
        assert torch.equal(istft_stretch(frames, N_FFT, HOP, start, stop), whole[..., start:stop])


def test_gains_are_linear_between_frames_and_last() -> None:
    top = torch.rand(1, 3, 7)
    whole = gains_of(top, HOP, 0, 9 * HOP)
    for row, gains in zip(whole[0], top[0], strict=True):
        expected = np.interp(np.arange(9 * HOP), np.arange(7) * HOP, gains.numpy())
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-6)
    for start, stop in ((0, 1), (HOP - 1, HOP + 1), (HOP, 2 * HOP), (5 * HOP + 3, 8 * HOP)):
        assert torch.equal(gains_of(top, HOP, start, stop), whole[..., start:stop])
