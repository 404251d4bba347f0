"""The short-time Fourier transform and its inverse, centred, with a periodic Hann window."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=8)
def hann(n_fft: int, device: torch.device) -> Tensor:
    """(n_fft,) periodic Hann window."""
    # The first call may come from a separation; its window must serve a training in the same process too.
    with torch.inference_mode(False):
        return torch.hann_window(n_fft, device=device)


def stft(x: Tensor, n_fft: int, hop: int, pad_mode: str = "constant") -> Tensor:
    """Spectrogram of `x`.

    Args:
        x: (..., samples), float32.
        n_fft: window length in samples.
        hop: samples between frames.
        pad_mode: how the signal goes on beyond its ends: "constant" (zeros) or "reflect" (needs more than
            n_fft / 2 samples).

    Returns:
        (..., n_fft // 2 + 1, samples // hop + 1) complex64; frame i is centred on sample i * hop.
    """
    flat = x.reshape(-1, x.shape[-1])
    spectrum = torch.stft(
        flat, n_fft, hop, window=hann(n_fft, x.device), center=True, pad_mode=pad_mode, return_complex=True
    )
    return spectrum.reshape(*x.shape[:-1], *spectrum.shape[-2:])


def stft_stretch(x: Tensor, n_fft: int, hop: int, frames: slice, pad_mode: str = "constant") -> Tensor:
    """Some frames of what `stft` gives, bit for bit, from the samples that they need.

    Args:
        x: (..., samples), float32; more than n_fft / 2 samples for "reflect".
        n_fft: window length in samples.
        hop: samples between frames.
        frames: that are wanted; `stop` may be beyond the last one.
        pad_mode: as of `stft`.

    Returns:
        (..., n_fft // 2 + 1, frames) complex64.
    """
    first, last, _ = frames.indices(x.shape[-1] // hop + 1)
    start, stop = first * hop - n_fft // 2, (last - 1) * hop + n_fft // 2
    # A reflection needs one sample more than it gives.
    low, high = max(0, start - 1), min(stop + 1, x.shape[-1])
    padding = max(0, -start), max(0, stop - x.shape[-1])
    padded = F.pad(x[..., low:high].reshape(-1, 1, high - low), padding, mode=pad_mode)[:, 0]
    inside = padded[:, max(0, start) - low :][:, : stop - start]
    spectrum = torch.stft(inside, n_fft, hop, window=hann(n_fft, x.device), center=False, return_complex=True)
    return spectrum.reshape(*x.shape[:-1], *spectrum.shape[-2:])


def istft(spectrum: Tensor, n_fft: int, hop: int, length: int) -> Tensor:
    """The inverse of `stft`.

    Args:
        spectrum: (..., n_fft // 2 + 1, frames) complex.
        n_fft: FFT length, samples.
        hop: samples between frames.
        length: samples to give back.

    Returns:
        (..., length) float32.
    """
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    if n_fft % hop:
        x = torch.istft(flat, n_fft, hop, window=hann(n_fft, spectrum.device), center=True, length=length)
    else:
        # Half the time of torch's, which adds frames sample by sample and sums the squares of the window each time.
        frames = torch.fft.irfft(flat.mT, n_fft).mul_(hann(n_fft, spectrum.device))
        x = _overlapped(frames, hop).div_(_window_sums(n_fft, hop, frames.shape[1], frames.device)).flatten(1)
        x = x[:, n_fft // 2 :][:, :length]
        x = F.pad(x, (0, length - x.shape[1]))
    return x.reshape(*spectrum.shape[:-2], length)


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """(batch, count, n_fft) frames -> (batch, hops, hop): their sum, each a hop behind the one before."""
    batch, count, n_fft = frames.shape
    parts = frames.reshape(batch, count, n_fft // hop, hop)
    total = F.pad(parts[:, :, 0], (0, 0, 0, n_fft // hop - 1))
    for k in range(1, n_fft // hop):
        total[:, k : k + count] += parts[:, :, k]
    return total


def _window_sums(n_fft: int, hop: int, count: int, device: torch.device) -> Tensor:
    """(hops, hop): the sum of the squares of `count` windows; 1 at the ends, where it is next to nothing."""
    few = min(count, n_fft // hop)  # behind as many as overlap, all hops are alike until the last ones
    place = torch.arange(count + n_fft // hop - 1, device=device)
    return _few_window_sums(n_fft, hop, few, device)[place.clamp_max(few - 1) + (place - (count - 1)).clamp_min(0)]


@lru_cache(maxsize=16)
def _few_window_sums(n_fft: int, hop: int, count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        sums = _overlapped(hann(n_fft, device).square().expand(1, count, n_fft), hop)[0]
        return sums.where(sums > 1e-11, 1)


def istft_stretch(spectrum: Tensor, n_fft: int, hop: int, start: int, stop: int) -> Tensor:
    """Samples from `start` to before `stop` of what `istft` gives, bit for bit, from the frames that they need.

    Args:
        spectrum: (..., n_fft // 2 + 1, frames) complex, those of `frames_of` the stretch.
        n_fft: FFT length, samples.
        hop: samples between frames.
        start: first sample.
        stop: the one after the last.

    Returns:
        (..., stop - start) float32.
    """
    first = frames_of(n_fft, hop, start, stop).start * hop
    return istft(spectrum, n_fft, hop, stop - first)[..., start - first :]


def frames_of(n_fft: int, hop: int, start: int, stop: int) -> slice:
    """The frames of a centred transform that reach into the samples from `start` to before `stop`."""
    half = n_fft // 2
    return slice(max(0, (start - half) // hop + 1), (stop - 1 + half) // hop + 1)


def power(spectrum: Tensor) -> Tensor:
    """|spectrum|^2 without the square root that abs() would take."""
    return spectrum.real.square() + spectrum.imag.square()


def mean_power(spectrum: Tensor) -> Tensor:
    """(..., channels, bins, frames) -> (..., bins, frames): the mean of |spectrum|^2 over the channels.

    In the order in which transforms lie in memory, frame by frame; a mean in the other is twice as slow.
    """
    return power(spectrum).mT.mean(-3).mT


def mean_power_of(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """`mean_power` of the STFT, one channel at a time: a transform needs much more memory than its result.

    Args:
        x: (..., channels, samples), float32.
        n_fft: as of `stft`.
        hop: as of `stft`.

    Returns:
        (..., n_fft // 2 + 1, samples // hop + 1).
    """
    first, *others = x.unbind(-2)
    total = power(stft(first, n_fft, hop))
    for channel in others:
        total += power(stft(channel, n_fft, hop))
    return total / x.shape[-2]
