"""The mixtures of a training: rendered where the corpus is, or in worker processes beside the accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler

_AHEAD = 2  # batches that each worker renders in advance


class MixtureLoader:
    """The batches of `Mixer.render(sampler.plan(step, rank))`.

    Worker processes are for corpora that do not fit into the accelerator's memory; they render on the CPU, in advance.
    Their plans are the same, their samples differ by a thousandth at most: they travel as float16, because copying what
    many workers have made takes longest. Steps come in order; any other step (after a resume) restarts the workers from
    there.

    Args:
        sampler: draws the plans; for workers its corpus must be on the CPU, where it is a memory map that they share.
        workers: number of processes; 0 renders in this one, where the corpus is.
    """

    def __init__(self, sampler: Sampler, workers: int = 0) -> None:
        self._sampler, self._workers = sampler, workers
        self._mixer = Mixer(sampler.corpus)
        self._device = torch.device("cpu")  # where batches of workers go
        self._next = (-1, 0)  # step and rank
        self._batches: Iterator[MixtureBatch] = iter(())

    def hold(self, device: torch.device) -> None:
        """Render on the device of the training if the corpus fits there; batches of workers are moved there.

        Args:
            device: of the training.
        """
        self._device = device
        if not self._workers:
            self._sampler.corpus.hold(device)

    def batch(self, step: int, rank: int = 0) -> MixtureBatch:
        """The batch of a step.

        Args:
            step: of the training.
            rank: of this process.
        """
        if not self._workers:
            return self._mixer.render(self._sampler.plan(step, rank))
        if (step, rank) != self._next:
            loader: DataLoader[MixtureBatch] = DataLoader(
                _Steps(self._sampler, rank),
                batch_size=None,
                sampler=_StepsFrom(step),
                num_workers=self._workers,
                prefetch_factor=_AHEAD,
                pin_memory=torch.cuda.is_available(),
            )
            self._batches = iter(loader)
        self._next = (step + 1, rank)
        return _waveforms_as(next(self._batches).to(self._device), torch.float32)

    def close(self) -> None:
        """Stop the workers."""
        self._batches, self._next = iter(()), (-1, 0)


class _Steps(Dataset[MixtureBatch]):
    def __init__(self, sampler: Sampler, rank: int) -> None:
        self.sampler, self.rank = sampler, rank
        self.mixer = Mixer(sampler.corpus)

    def __getitem__(self, step: int) -> MixtureBatch:
        torch.set_num_threads(1)
        return _waveforms_as(self.mixer.render(self.sampler.plan(step, self.rank)), torch.float16)


def _waveforms_as(batch: MixtureBatch, dtype: torch.dtype) -> MixtureBatch:
    examples = None if batch.examples is None else batch.examples.to(dtype)
    return replace(batch, sources=batch.sources.to(dtype), examples=examples)


class _StepsFrom(TorchSampler[int]):
    """All steps from `start` on, without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1
