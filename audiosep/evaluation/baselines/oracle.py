"""Upper bounds: ideal masks and filters, computed from the true sources."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import Oracle, magnitude, masked, spectrum, waveform

WINDOW, HOP = 2048, 512
_TINY = 1e-12


class IdealBinaryMask(Oracle):
    """M = 1 where the target is stronger than all the rest, |S|^2 > |X - S|^2.

    D. Wang, "On ideal binary mask as the computational goal of auditory scene analysis", 2005.
    """

    name: ClassVar[str] = "oracle-ibm"
    about: ClassVar[str] = "ideal binary mask (Wang 2005), knows the target"

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        X, S = spectrum(mix, WINDOW, HOP), spectrum(target, WINDOW, HOP)
        mask = (magnitude(S) > magnitude(X - S)).astype(np.float32)
        return masked(mix, mask, X, WINDOW, HOP)[0]


class IdealRatioMask(Oracle):
    """M = |S|^2 / (|S|^2 + |X - S|^2), the Wiener gain.

    Y. Wang, A. Narayanan, D. Wang, "On training targets for supervised speech separation", TASLP 2014 (their
    equation 5 with beta = 1).
    """

    name: ClassVar[str] = "oracle-irm"
    about: ClassVar[str] = "ideal ratio mask, power domain (Wang et al. 2014), knows the target"

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        X, S = spectrum(mix, WINDOW, HOP), spectrum(target, WINDOW, HOP)
        wanted, rest = magnitude(S) ** 2, magnitude(X - S) ** 2
        return masked(mix, wanted / (wanted + rest + _TINY), X, WINDOW, HOP)[0]


class IdealComplexMask(Oracle):
    """M = S / X per channel and bin, its magnitude limited to `limit`.

    Without a limit the result is the target itself; with one it is what a network with a bounded mask could reach.
    D. S. Williamson, Y. Wang, D. Wang, "Complex ratio masking for monaural speech separation", TASLP 2016.
    """

    name: ClassVar[str] = "oracle-complex"
    about: ClassVar[str] = "ideal complex mask of magnitude up to 2 (Williamson et al. 2016), knows the target"

    def __init__(self, limit: float = 2.0) -> None:
        self.limit = limit

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        X, S = spectrum(mix, WINDOW, HOP), spectrum(target, WINDOW, HOP)
        mask = S * X.conj() / np.maximum(np.abs(X) ** 2, _TINY)
        mask *= np.minimum(1.0, self.limit / np.maximum(np.abs(mask), _TINY))
        return waveform(X * mask, WINDOW, HOP, mix.shape[-1])


class MultichannelWiener(Oracle):
    """s = v_s R_s (v_s R_s + v_n R_n)^-1 x with the true power v(f, t) and spatial covariance R(f) of both parts.

    N. Duong, E. Vincent, R. Gribonval, "Under-determined reverberant audio source separation using a full-rank
    spatial covariance model", TASLP 2010 (equations 3 and 5). On mono it is the ideal ratio mask.
    """

    name: ClassVar[str] = "oracle-mwf"
    about: ClassVar[str] = "multichannel Wiener filter (Duong et al. 2010), knows the target"

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        X, S = spectrum(mix, WINDOW, HOP), spectrum(target, WINDOW, HOP)
        wanted, rest = _model(S), _model(X - S)
        ridge = _TINY + 1e-6 * np.trace(wanted + rest, axis1=-2, axis2=-1).real[..., None, None]
        total = wanted + rest + ridge * np.eye(len(X), dtype=np.complex64)
        frames = np.moveaxis(X, 0, -1)[..., None]  # (bins, frames, channels, 1)
        filtered = (wanted @ np.linalg.solve(total, frames))[..., 0]
        return waveform(np.moveaxis(filtered, -1, 0), WINDOW, HOP, mix.shape[-1])


def _model(S: np.ndarray) -> np.ndarray:
    """Power times spatial covariance, v(f, t) R(f), of one source: (bins, frames, channels, channels)."""
    v = magnitude(S) ** 2
    covariance = np.einsum("cft,dft->fcd", S, S.conj()) / np.maximum(v.sum(-1), _TINY)[:, None, None]
    model: np.ndarray = v[..., None, None] * covariance[:, None]
    return model
