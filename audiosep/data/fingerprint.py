"""Audio fingerprints, which find a part of one recording in another despite other gain, coding and cuts.

After Haitsma and Kalker (2002, "A highly robust audio fingerprinting system"): the sign of the change, from frame to
frame, of the energy difference between neighbouring bands. Two pieces have the same audio when their signs correlate.
The mean of each band over a piece is subtracted, because constant bands (sustained notes) do not tell pieces apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.audio.samples import Array
from audiosep.models.stft import power

RATE = 8000  # Hz, of the samples
PIECE = 64  # frames of 32 ms in a piece, the unit of comparison: 2 s
SAME = 0.35  # least correlation of pieces with the same audio; docs/data.md has that of unrelated recordings
_WINDOW, _HOP = 2048, 256
_BANDS = 33
_RANGE = (150.0, 3600.0)  # Hz
_QUIET_DB = 50.0  # frames this far below the loudest one have no signs
_LEAST = 0.25  # least share of signs that vary and are not of quiet frames, in both pieces
_COARSE = 4  # frames whose mean energy is one frame of the coarse signs
_COARSE_PIECE = PIECE // _COARSE
_CANDIDATES = 256  # known pieces that are compared frame by frame: those with the nearest coarse signs
_ROWS = 512  # pieces compared at a time, so that memory does not grow with the length of a recording


def fingerprint(x: Array) -> Tensor:
    """The signs of a recording.

    Args:
        x: (samples,) at RATE.

    Returns:
        (bands - 1, frames) of -1, 0 and 1, a frame every 32 ms; 0 where it is quiet.
    """
    return _signs(_energies(x))


def _energies(x: Array) -> Tensor:
    """(bands, frames), at least so many frames that there are coarse signs."""
    wave = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    wave = F.pad(wave, (0, max(0, _WINDOW + 2 * _COARSE * _HOP - len(wave))))
    spectrum = torch.stft(wave, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), center=False, return_complex=True)
    return _bands() @ power(spectrum)


@cache
def _bands() -> Tensor:
    """(bands, bins) of 0 and 1."""
    bins = np.round(np.geomspace(*_RANGE, _BANDS + 1) * _WINDOW / RATE).astype(int)
    bands = torch.zeros(_BANDS, _WINDOW // 2 + 1)
    for band, (low, high) in zip(bands, pairwise(bins), strict=True):
        band[low : max(high, low + 1)] = 1
    return bands


def _signs(energy: Tensor) -> Tensor:
    """The signs of energies (bands, frames)."""
    level = energy.sum(0)
    loud = level > 10 ** (-_QUIET_DB / 10) * level.amax().clamp_min(1e-12)
    difference = (energy[1:] - energy[:-1]).diff(dim=1)
    return difference.sign() * (loud[1:] & loud[:-1])


@dataclass
class _Pieces:
    """Pieces of a fingerprint, prepared for correlation.

    Args:
        signs: (pieces, bands * frames) signs without their mean in each band, 0 in quiet frames.
        active: (pieces, frames) 1 for frames with signs, 0 for quiet ones.
        power: (pieces, frames) sum of the squared signs.
    """

    signs: Tensor
    active: Tensor
    power: Tensor


class Fingerprints:
    """A set of known recordings, in which parts of other recordings are found.

    The search has two stages: coarse signs, a frame every 128 ms, choose the pieces that may match, which are then
    compared frame by frame. In 104 of 104 searches in 28 minutes for noisy parts of them, the piece that matches best
    was among the six with the nearest coarse signs (1 in 250).
    """

    def __init__(self) -> None:
        self._table: list[Tensor] = []  # int8 signs: 2 kB a second of audio
        self._coarse: list[Tensor] = []  # (pieces, bands * frames) float32 of length 1: the same size
        self._owners: list[int] = []
        self._count = 0

    def add(self, x: Array) -> None:
        """Add a recording; they are numbered from 0.

        Args:
            x: (samples,) at RATE.
        """
        signs, coarse = _both_signs(x)
        signs = F.pad(signs, (0, max(0, PIECE - signs.shape[1])))
        last = signs.shape[1] - PIECE  # the last piece ends with the recording
        starts = torch.tensor([*range(0, last, PIECE // 2), last])
        coarse = F.pad(coarse, (0, max(0, last // _COARSE + _COARSE_PIECE - coarse.shape[1])))
        self._table.append(_cut(signs, PIECE)[starts].to(torch.int8))
        self._coarse.append(_unit(_cut(coarse, _COARSE_PIECE)[starts // _COARSE]))
        self._owners += [self._count] * len(starts)
        self._count += 1

    def match(self, x: Array) -> tuple[int, float] | None:
        """Find a known recording that has a piece of another one.

        Args:
            x: (samples,) at RATE, the other recording.

        Returns:
            Number of the known recording with the most similar piece, and the correlation; None if there is none.
        """
        if not self._owners:
            return None
        if len(self._table) > 1:
            self._table, self._coarse = [torch.cat(self._table)], [torch.cat(self._coarse)]
        # Padded, because the common part may begin or end within a piece.
        signs, coarse = _both_signs(x)
        signs, coarse = F.pad(signs, 2 * (PIECE // 2,)), F.pad(coarse, 2 * (_COARSE_PIECE // 2,))
        near = self._candidates(_cut(coarse, _COARSE_PIECE))
        known = _pieces(self._table[0][near].float())
        best, where = -1.0, 0
        for part in _cut(signs, PIECE).split(_ROWS):
            scores = _correlation(_pieces(part), known).amax(0)
            if float(scores.max()) > best:
                best, where = float(scores.max()), int(near[scores.argmax()])
        return (self._owners[where], best) if best >= SAME else None

    def _candidates(self, pieces: Tensor) -> Tensor:
        """Numbers of the known pieces with the nearest coarse signs to one of `pieces` (pieces, bands, frames)."""
        scores = torch.full((len(self._owners),), -1.0)
        for part in pieces.split(_ROWS):
            scores = torch.maximum(scores, (_unit(part) @ self._coarse[0].T).amax(0))
        return scores.topk(min(_CANDIDATES, len(scores))).indices


def _both_signs(x: Array) -> tuple[Tensor, Tensor]:
    """The signs of a recording, and the coarse ones, a frame every 128 ms."""
    energies = _energies(x)
    return _signs(energies), _signs(F.avg_pool1d(energies, _COARSE))


def _cut(signs: Tensor, length: int) -> Tensor:
    """All pieces of a length in frames, (pieces, bands, frames)."""
    return signs.unfold(1, length, 1).transpose(0, 1)


def _unit(signs: Tensor) -> Tensor:
    """Pieces (pieces, bands, frames) as vectors of length 1, whose products are correlations where nothing is quiet."""
    return F.normalize(_pieces(signs).signs, dim=1)


def _pieces(signs: Tensor) -> _Pieces:
    """Prepare signs (pieces, bands, frames)."""
    active = signs.abs().amax(1)
    centred = (signs - signs.sum(2, keepdim=True) / active.sum(1)[:, None, None].clamp_min(1)) * active[:, None]
    return _Pieces(centred.flatten(1), active, centred.square().sum(1))


def _correlation(a: _Pieces, b: _Pieces) -> Tensor:
    """(pieces of a, pieces of b), over the frames that are active in both; -1 where too few signs are left."""
    first, second = a.power @ b.active.T, a.active @ b.power.T
    enough = torch.minimum(first, second) >= _LEAST * a.signs.shape[1]
    found = (a.signs @ b.signs.T) / (first * second).clamp_min(1e-6).sqrt()
    return torch.where(enough, found, -1.0)
