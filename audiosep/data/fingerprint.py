"""Does one recording hold a piece of another? Fingerprints that survive gain, coding and cutting.

After Haitsma and Kalker (2002, "A highly robust audio fingerprinting system"): the sign of how the difference between
neighbouring bands changes from frame to frame. Two pieces are the same sound when their signs go together. What stays
the same over a piece, as the bands of a sustained note do, says nothing and is taken out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.data.decode import Samples

RATE = 8000  # Hz, of the samples that a fingerprint is taken of
PIECE = 64  # frames of 32 ms that are compared at a time: 2 s
SAME = 0.35  # correlation of the signs, at least; see docs/data.md for what unrelated recordings reach
_WINDOW, _HOP = 2048, 256
_BANDS = 33
_RANGE = (150.0, 3600.0)  # Hz
_QUIET_DB = 50.0  # below the loudest frame: no signs
_LEAST = 0.25  # share of all signs of a piece that have to be heard and to change, on both sides
_ROWS = 4096  # compared at a time, so that memory does not grow with the corpus


def fingerprint(x: Samples) -> Tensor:
    """Signs (bands - 1, frames) in -1, 0, 1 of x (samples,) at RATE, a frame every 32 ms; 0 where it is quiet."""
    wave = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    wave = F.pad(wave, (0, max(0, _WINDOW + _HOP - len(wave))))
    spectrum = torch.stft(wave, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), center=False, return_complex=True)
    edges = np.geomspace(*_RANGE, _BANDS + 1) * _WINDOW / RATE
    bins = np.round(edges).astype(int)
    power = spectrum.abs().square()
    energy = torch.stack([power[a : max(b, a + 1)].sum(0) for a, b in pairwise(bins)])
    level = energy.sum(0)
    loud = level > 10 ** (-_QUIET_DB / 10) * level.amax().clamp_min(1e-12)
    difference = (energy[1:] - energy[:-1]).diff(dim=1)
    return difference.sign() * (loud[1:] & loud[:-1])


@dataclass
class _Pieces:
    """Pieces of a fingerprint as rows.

    Attributes:
        signs: (pieces, bands * frames) without what is constant in a band. heard: (pieces, frames) 0 or 1.
        weight: (pieces, frames) sum of the squared signs.
    """

    signs: Tensor
    heard: Tensor
    weight: Tensor


class Fingerprints:
    """Recordings to look others up in; `add` them first."""

    def __init__(self) -> None:
        self._table: list[Tensor] = []  # int8 signs: 2 kB a second of audio
        self._owners: list[int] = []
        self._count = 0

    def add(self, x: Samples) -> None:
        """Know the next recording, x (samples,) at RATE."""
        signs = fingerprint(x)
        signs = F.pad(signs, (0, max(0, PIECE - signs.shape[1])))
        found = signs.unfold(1, PIECE, PIECE // 2).transpose(0, 1)
        if (signs.shape[1] - PIECE) % (PIECE // 2):
            found = torch.cat([found, signs[None, :, -PIECE:]])  # up to the very end
        self._table.append(found.to(torch.int8))
        self._owners += [self._count] * len(found)
        self._count += 1

    def match(self, x: Samples) -> tuple[int, float] | None:
        """The recording that x (samples,) at RATE shares a piece with, and the correlation; None = none."""
        if not self._owners:
            return None
        if len(self._table) > 1:
            self._table = [torch.cat(self._table)]
        # What begins or ends within a piece shares only part of it.
        signs = F.pad(fingerprint(x), (PIECE // 2, PIECE // 2))
        mine = signs.unfold(1, PIECE, 1).transpose(0, 1)
        best, where = -1.0, 0
        for start in range(0, len(self._owners), _ROWS):
            known = _pieces(self._table[0][start : start + _ROWS].float())
            for part in mine.split(_ROWS // 8):
                scores = _correlation(_pieces(part), known).amax(0)
                if float(scores.max()) > best:
                    best, where = float(scores.max()), start + int(scores.argmax())
        return (self._owners[where], best) if best >= SAME else None


def _pieces(signs: Tensor) -> _Pieces:
    """Of signs (pieces, bands, frames)."""
    heard = signs.abs().amax(1)
    centred = (signs - signs.sum(2, keepdim=True) / heard.sum(1)[:, None, None].clamp_min(1)) * heard[:, None]
    return _Pieces(centred.flatten(1), heard, centred.square().sum(1))


def _correlation(a: _Pieces, b: _Pieces) -> Tensor:
    """(pieces of a, pieces of b), over the frames that are heard in both; -1 where these say too little."""
    first, second = a.weight @ b.heard.T, a.heard @ b.weight.T
    enough = torch.minimum(first, second) >= _LEAST * a.signs.shape[1]
    found = (a.signs @ b.signs.T) / (first * second).clamp_min(1e-6).sqrt()
    return torch.where(enough, found, -1.0)
