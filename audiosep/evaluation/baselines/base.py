"""What baselines share: checks of arguments, fixed names or true sources, and masks on spectrograms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from audiosep.audio.arrays import as_array
from audiosep.audio.samples import Array
from audiosep.errors import InputError, QueryError
from audiosep.models.stft import istft, stft
from audiosep.query.query import Query, as_queries

Spectrum = NDArray[np.complex64]
Magnitude = NDArray[np.float32]


class Baseline(ABC):
    """A separation system that is not one of our models; the same Protocol.

    Attributes:
        name: key in `BASELINES`.
        targets: the only names it can separate; None for any query.
        capabilities: kinds of query it takes, from {"text", "audio"}.
        needs_references: it is given the true sources, so that its score is a bound and not a result.
        about: one line for reports: the method and its paper.
    """

    name: ClassVar[str]
    targets: frozenset[str] | None = None
    capabilities: frozenset[str] = frozenset({"text", "audio"})
    needs_references: ClassVar[bool] = False
    about: ClassVar[str]

    def separate(
        self,
        mix: Any,
        queries: str | Query | Sequence[str | Query],
        *,
        sample_rate: int | None = None,
        references: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Estimate each query's sound.

        Args:
            mix: (samples,) or (channels, samples), numpy or torch.
            queries: one or several; the outputs are named by their labels.
            sample_rate: Hz.
            references: label -> true source, shaped like `mix`; only oracles use it.

        Returns:
            label -> estimate, the same kind of array and shape as `mix`.

        Raises:
            QueryError: a query that this system does not take.
            InputError: a mix that is empty or not finite; no sample rate; missing references.
        """
        if sample_rate is None or sample_rate < 1:
            raise InputError(f"{self.name}: pass the sample_rate of the mix in Hz, got {sample_rate}")
        x, restore = as_array(mix)
        parsed = as_queries(queries)
        self._check(parsed)
        truth = self._truth(parsed, references, x) if self.needs_references else {}
        if not x.any():
            return {query.label: restore(np.zeros_like(x)) for query in parsed}
        estimates = self._estimate(x, parsed, sample_rate, truth)
        return {label: restore(y.astype(np.float32)) for label, y in estimates.items()}

    def _check(self, queries: Sequence[Query]) -> None:
        for query in queries:
            if self.targets is not None and fixed_name(query) not in self.targets:
                raise QueryError(
                    f"{self.name} separates only {', '.join(sorted(self.targets))}, not {query.label!r}; "
                    "a text-queried model such as 'mini' takes any words"
                )

    def _truth(self, queries: Sequence[Query], references: Mapping[str, Any] | None, mix: Array) -> dict[str, Array]:
        missing = [q.label for q in queries if references is None or q.label not in references]
        if references is None or missing:
            raise InputError(
                f"{self.name} needs the true sources: pass references={{{missing[0]!r}: array, ...}}; "
                "it is an upper bound for its kind of mask and cannot be used on recordings without stems"
            )
        truth = {query.label: as_array(references[query.label])[0] for query in queries}
        for label, y in truth.items():
            if y.shape != mix.shape:
                raise InputError(f"reference {label!r} has shape {y.shape}, the mix {mix.shape}; they must be equal")
        return truth

    @abstractmethod
    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Estimate the queries.

        Args:
            mix: (channels, samples), not silent.
            queries: checked.
            sample_rate: Hz.
            truth: label -> true source, (channels, samples); empty unless `needs_references`.

        Returns:
            label -> (channels, samples).
        """


class FixedBaseline(Baseline):
    """A system with fixed targets, all estimated in one pass."""

    capabilities = frozenset({"text"})

    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        parts = self.parts(mix, sample_rate)
        return {query.label: parts[fixed_name(query)] for query in queries}

    @abstractmethod
    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        """Every target of `targets`: name -> (channels, samples)."""


class Oracle(Baseline):
    """A system that is given the true source, and estimates it as well as its kind of mask allows."""

    needs_references = True

    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        return {query.label: self.estimate(mix, truth[query.label], sample_rate) for query in queries}

    @abstractmethod
    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        """The best estimate of `target` (channels, samples) that this oracle's mask allows."""


def fixed_name(query: Query) -> str:
    """The name of the fixed target that a query selects: its text, in lower case."""
    return (query.text or query.label).strip().lower()


def spectrum(x: Array, window: int, hop: int) -> Spectrum:
    """Hann-windowed STFT of (channels, samples): (channels, window // 2 + 1, samples // hop + 1)."""
    transformed: Spectrum = stft(torch.from_numpy(np.ascontiguousarray(x)), window, hop).numpy()
    return transformed


def waveform(X: Spectrum, window: int, hop: int, samples: int) -> Array:
    """The inverse of `spectrum`: (channels, samples)."""
    x: Array = istft(torch.from_numpy(np.ascontiguousarray(X, dtype=np.complex64)), window, hop, samples).numpy()
    return x


def magnitude(X: Spectrum) -> Magnitude:
    """Root of the channels' mean power, (bins, frames): one mask for all channels keeps the stereo image."""
    root: Magnitude = np.sqrt(np.mean(X.real**2 + X.imag**2, axis=0))
    return root


def masked(mix: Array, mask: Magnitude, X: Spectrum, window: int, hop: int) -> tuple[Array, Array]:
    """Apply a mask (bins, frames) to the mix.

    Returns:
        The masked part and the rest, (channels, samples) each; they sum to the mix.
    """
    part = waveform(X * mask, window, hop, mix.shape[-1])
    return part, mix - part


def window_length(seconds: float, sample_rate: int) -> int:
    """The power of two nearest to `seconds`, in samples."""
    return int(2 ** round(np.log2(max(2.0, seconds * sample_rate))))
