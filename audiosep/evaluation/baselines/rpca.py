"""Robust PCA: the accompaniment is of low rank, because it repeats; the voice is sparse."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import FixedBaseline, magnitude, masked, spectrum, window_length

Matrix = NDArray[np.float64]

_ITERATIONS = 100  # at most


def robust_pca(D: Matrix, tolerance: float = 1e-6) -> tuple[Matrix, Matrix]:
    """D = A + E with A of low rank and E sparse: min ||A||_* + weight ||E||_1, by the inexact ALM method.

    The weight is 1 / sqrt(max(rows, columns)).

    Z. Lin, M. Chen, Y. Ma, "The augmented Lagrange multiplier method for exact recovery of corrupted low-rank
    matrices", arXiv:1009.5055, algorithm 5 (mu_0 = 1.25 / ||D||_2, rho = 1.5).

    Args:
        D: (rows, columns).
        tolerance: stop at ||D - A - E||_F <= tolerance ||D||_F.

    Returns:
        A and E, both (rows, columns).
    """
    size = float(np.linalg.norm(D))
    if size == 0:
        return np.zeros_like(D), np.zeros_like(D)
    weight = 1 / np.sqrt(max(D.shape))
    spectral = float(np.sqrt(np.linalg.eigvalsh(D @ D.T if D.shape[0] <= D.shape[1] else D.T @ D)[-1]))
    Y = D / max(spectral, float(np.abs(D).max()) / weight)
    mu, limit = 1.25 / spectral, 1.25e7 / spectral
    A, E = np.zeros_like(D), np.zeros_like(D)
    for _ in range(_ITERATIONS):
        E = _shrink(D - A + Y / mu, weight / mu)
        A = _shrink_singular(D - E + Y / mu, 1 / mu)
        gap = D - A - E
        Y += mu * gap
        mu = min(1.5 * mu, limit)
        if np.linalg.norm(gap) <= tolerance * size:
            break
    return A, E


def _shrink(M: Matrix, threshold: float) -> Matrix:
    """Move every entry towards zero by `threshold`."""
    return M - np.clip(M, -threshold, threshold)


def _shrink_singular(M: Matrix, threshold: float) -> Matrix:
    """Move every singular value towards zero by `threshold`.

    U f(S) V^T = (U (f(S) / S) U^T) M needs only the eigenvectors of M M^T, which is several times cheaper than the
    decomposition of M.
    """
    if M.shape[0] > M.shape[1]:
        return _shrink_singular(M.T, threshold).T
    values, U = np.linalg.eigh(M @ M.T)
    kept = values > threshold**2
    U = U[:, kept]
    result: Matrix = (U * (1 - threshold / np.sqrt(values[kept]))) @ (U.T @ M)
    return result


class Rpca(FixedBaseline):
    """Voice where the sparse part of |X| is stronger than the low-rank part, else accompaniment.

    P.-S. Huang, S. D. Chen, P. Smaragdis, M. Hasegawa-Johnson, "Singing-voice separation from monaural recordings using
    robust principal component analysis", ICASSP 2012 (weight 1 / sqrt(max(bins, frames)), binary mask with gain 1).
    """

    name: ClassVar[str] = "rpca"
    targets = frozenset({"vocals", "accompaniment"})
    about: ClassVar[str] = "robust PCA by inexact ALM, binary mask (Huang et al. 2012)"

    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        window = window_length(0.064, sample_rate)
        X = spectrum(mix, window, window // 4)
        low_rank, sparse = robust_pca(magnitude(X).astype(np.float64))
        mask = (np.abs(sparse) > np.abs(low_rank)).astype(np.float32)
        voice, rest = masked(mix, mask, X, window, window // 4)
        return {"vocals": voice, "accompaniment": rest}
