"""Non-negative matrix factorisation: a spectrogram as a few spectra, each with a gain over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from audiosep.audio import resample
from audiosep.audio.samples import Array
from audiosep.errors import InputError, QueryError
from audiosep.evaluation.baselines.base import (
    Baseline,
    Magnitude,
    Oracle,
    magnitude,
    masked,
    spectrum,
    window_length,
)
from audiosep.query.example import example_samples
from audiosep.query.query import Query

_TINY = 1e-9


def factorise(
    V: Magnitude, rank: int, *, iterations: int = 100, seed: int = 0, known: Magnitude | None = None
) -> tuple[Magnitude, Magnitude]:
    """V ~ W H by the multiplicative updates for the Kullback-Leibler divergence.

    D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000 (theorem 2):
    H <- H * (W^T (V / WH)) / (W^T 1), and the same for W.

    Args:
        V: (bins, frames) magnitudes.
        rank: number of spectra to estimate.
        iterations: updates of each factor.
        seed: of the random initialisation.
        known: (bins, k) fixed spectra, placed before the estimated ones.

    Returns:
        W (bins, k + rank) with columns that sum to 1, H (k + rank, frames).
    """
    random = np.random.default_rng(seed)
    fixed = 0 if known is None else known.shape[1]
    W = random.random((V.shape[0], fixed + rank), dtype=np.float32) + 0.1
    if known is not None:
        W[:, :fixed] = known
    W /= W.sum(0)
    H = random.random((W.shape[1], V.shape[1]), dtype=np.float32) * V.mean() * V.shape[0] + _TINY
    for _ in range(iterations):
        H *= W.T @ (V / (W @ H + _TINY))
        learnt = W[:, fixed:] * ((V / (W @ H + _TINY)) @ H[fixed:].T) / (H[fixed:].sum(1) + _TINY) + _TINY
        scale = learnt.sum(0)
        W[:, fixed:] = learnt / scale
        H[fixed:] *= scale[:, None]
    return W, H


class OracleNmf(Oracle):
    """Blind factorisation of the mix; the true sources decide which components are the target.

    A component belongs to the target when more than half of its magnitude is the target's; the best one always does.
    Components are grouped by the true sources as in T. Virtanen, "Monaural sound source separation by nonnegative
    matrix factorization with temporal continuity and sparseness criteria", TASLP 2007.
    """

    name: ClassVar[str] = "oracle-nmf"
    about: ClassVar[str] = "KL-NMF of the mix, 40 components grouped by the true sources (Virtanen 2007)"

    def __init__(self, rank: int = 40, iterations: int = 100) -> None:
        self.rank, self.iterations = rank, iterations

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        window = window_length(0.064, sample_rate)
        X, S = spectrum(mix, window, window // 4), spectrum(target, window, window // 4)
        V = magnitude(X)
        W, H = factorise(V, self.rank, iterations=self.iterations)
        wanted, rest = magnitude(S), magnitude(X - S)
        share = wanted / (wanted + rest + _TINY)
        part = np.einsum("fk,kt,ft->k", W, H, share, optimize=True) / (W.sum(0) * H.sum(1) + _TINY)
        mine = part >= min(0.5, part.max())
        mask = (W[:, mine] @ H[mine]) / (W @ H + _TINY)
        return masked(mix, mask.astype(np.float32), X, window, window // 4)[0]


class ExampleNmf(Baseline):
    """Spectra of an example of the sound, and further spectra for everything else in the mix.

    P. Smaragdis, B. Raj, M. Shashanka, "Supervised and semi-supervised separation of sounds from single-channel
    mixtures", ICA 2007.
    """

    name: ClassVar[str] = "nmf"
    capabilities = frozenset({"audio"})
    about: ClassVar[str] = "semi-supervised KL-NMF, 40 spectra from an example, 20 for the rest (Smaragdis et al. 2007)"

    def __init__(self, rank: int = 40, rest: int = 20, iterations: int = 100) -> None:
        self.rank, self.rest, self.iterations = rank, rest, iterations

    def _check(self, queries: Sequence[Query]) -> None:
        for query in queries:
            if query.audio is None:
                raise QueryError(f"nmf needs an example: use Query(audio=...) instead of {query.label!r}")

    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        window = window_length(0.064, sample_rate)
        X = spectrum(mix, window, window // 4)
        V = magnitude(X)
        estimates = {}
        for query in queries:
            example = magnitude(spectrum(_example(query.audio, sample_rate), window, window // 4))
            known, _ = factorise(example, self.rank, iterations=self.iterations)
            W, H = factorise(V, self.rest, iterations=self.iterations, known=known)
            mask = (W[:, : self.rank] @ H[: self.rank]) / (W @ H + _TINY)
            estimates[query.label] = masked(mix, mask.astype(np.float32), X, window, window // 4)[0]
        return estimates


def _example(audio: Any, sample_rate: int) -> Array:
    """(channels, samples) at `sample_rate` of the example of a query."""
    x, rate = example_samples(audio, sample_rate)
    if not x.any():
        raise InputError("the example is silent; give a recording of the sound")
    return resample(x, rate, sample_rate)
