"""Rendering batches in worker processes, for corpora that do not fit into the accelerator's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler


class MixtureLoader:
    """The batches of `Mixer.render(sampler.plan(step, rank))`, rendered in advance by worker processes on the CPU.

    Plans are the same as on an accelerator, samples differ by a thousandth at most: they travel as float16, because
    copying what many workers have made takes longest. Steps come in order; any other step (after a resume) restarts the
    workers from there.

    Args:
        sampler: its corpus must be on the CPU, where it is a memory map that the workers share.
        rank: of this process.
        workers: number of processes; 0 renders in this one.
        ahead: batches that each worker renders in advance.
        pin: use page-locked memory, for asynchronous copies to an accelerator; None: if there is CUDA.
    """

    def __init__(
        self, sampler: Sampler, rank: int = 0, workers: int = 4, ahead: int = 2, pin: bool | None = None
    ) -> None:
        self._steps = _Steps(sampler, rank)
        self._workers, self._ahead = workers, ahead
        self._pin = torch.cuda.is_available() if pin is None else pin
        self._next = -1
        self._batches: Iterator[MixtureBatch] = iter(())

    def batch(self, step: int, device: torch.device | str = "cpu") -> MixtureBatch:
        """The batch of a step.

        Args:
            step: of the training.
            device: where the batch goes.
        """
        if step != self._next:
            loader: DataLoader[MixtureBatch] = DataLoader(
                self._steps,
                batch_size=None,
                sampler=_StepsFrom(step),
                num_workers=self._workers,
                prefetch_factor=self._ahead if self._workers else None,
                pin_memory=self._pin,
            )
            self._batches = iter(loader)
        self._next = step + 1
        return _waveforms_as(next(self._batches).to(device), torch.float32)

    def close(self) -> None:
        """Stop the workers."""
        self._batches, self._next = iter(()), -1


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
