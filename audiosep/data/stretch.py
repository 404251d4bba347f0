"""Speed, tempo and pitch: resampling by small ratios, and time-stretching by waveform-similarity overlap-add."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

SPEED_STEP = 20  # speeds are multiples of 1/20: resampling is then a product with one small matrix
_ZEROS = 8  # zero crossings of the resampling kernel on each side
_FRAME = 2048  # of overlap-add, samples
_SEARCH = 512  # largest shift of a frame, samples
_COARSE = 4  # step of the first search, samples


def resample_speed(x: Tensor, speed: int) -> Tensor:
    """Play a sound faster or slower, pitch and tempo together, without aliasing.

    Args:
        x: (samples,).
        speed: in units of 1 / SPEED_STEP.

    Returns:
        (samples * SPEED_STEP // speed,).
    """
    if speed == SPEED_STEP:
        return x
    kernel, margin = _kernel(speed, x.device)
    length = x.shape[-1] * SPEED_STEP // speed
    frames = -(-length // SPEED_STEP)
    need = (frames - 1) * speed + kernel.shape[0]
    padded = F.pad(x, (margin, max(0, need - margin - x.shape[-1])))
    return (padded.unfold(0, kernel.shape[0], speed)[:frames] @ kernel).flatten()[:length]


@functools.cache
def _kernel(speed: int, device: torch.device) -> tuple[Tensor, int]:
    """(taps, SPEED_STEP) windowed sinc for each phase of the output, and the samples before the first output."""
    cut = 0.95 * min(1.0, SPEED_STEP / speed)
    margin = math.ceil(_ZEROS / cut)
    t = torch.arange(speed + 2 * margin, dtype=torch.float64)[:, None] - margin
    t = t - torch.arange(SPEED_STEP, dtype=torch.float64)[None] * speed / SPEED_STEP
    window = torch.cos(math.pi / 2 * (t / margin).clamp(-1, 1)).square()
    return (cut * torch.sinc(cut * t) * window).float().to(device), margin


def stretch(x: Tensor, tempo: int) -> Tensor:
    """Change the tempo and keep the pitch, by WSOLA (Verhelst and Roelands, 1993).

    Frames of the input are added at a fixed hop in the output; each is taken up to _SEARCH samples earlier or later,
    where it is most similar to the continuation of the frame before. The search uses integers in float64, which is
    exact, so that every device finds the same shifts.

    Args:
        x: (samples,) in the range of int16.
        tempo: in units of 1 / SPEED_STEP; larger is faster.

    Returns:
        (samples * SPEED_STEP // tempo,).
    """
    length = x.shape[-1] * SPEED_STEP // tempo
    if tempo == SPEED_STEP or length <= _FRAME:
        return F.interpolate(x[None, None], size=length)[0, 0] if tempo != SPEED_STEP else x
    hop = _FRAME // 2
    frames = -(-length // hop) + 1
    last = (frames - 1) * hop * tempo // SPEED_STEP
    padded = F.pad(x, (_SEARCH + hop, max(0, last + _FRAME + hop + 3 * _SEARCH - x.shape[-1])))
    exact = padded.double().round()
    coarse = exact[::_COARSE].contiguous()
    window = torch.hann_window(_FRAME, device=x.device)
    out = torch.zeros((frames + 1) * hop, device=x.device)
    place = _SEARCH
    for i in range(frames):
        if i:
            nominal = _SEARCH + i * hop * tempo // SPEED_STEP
            near = _best(coarse, (place + hop) // _COARSE, nominal // _COARSE, _SEARCH // _COARSE, hop // _COARSE)
            place = _best(exact, place + hop, near * _COARSE, _COARSE, hop)
        out[i * hop : i * hop + _FRAME] += padded[place : place + _FRAME] * window
    return out[hop : hop + length]


def _best(x: Tensor, continuation: int, centre: int, reach: int, width: int) -> int:
    """The start within `reach` of `centre` whose `width` samples of x correlate most with those at `continuation`."""
    first = max(0, centre - reach)
    span = x[first : centre + reach + width]
    energy = F.pad(span.square().cumsum(0), (1, 0))
    norms = (energy[width:] - energy[:-width]).clamp_min(1.0).sqrt()
    similarity = (span.unfold(0, width, 1) @ x[continuation : continuation + width]) / norms
    return first + int(similarity.argmax())
