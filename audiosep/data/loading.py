"""Batches rendered by worker processes, for corpora that do not fit in the accelerator's memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler


class MixtureLoader:
    """The batches of `Mixer.render(sampler.plan(step, rank))`, rendered ahead on the CPU by other processes.

    The plan is the same as on the accelerator, the waveforms agree within 1e-4. Steps are expected in order; another
    one (after a resume) starts the workers afresh there.

    Args:
        sampler: its corpus must be on the CPU, where it is a memory map that the workers share.
        rank: of this process.
        workers: processes. ahead: batches that each prepares in advance.
        pin: page-locked memory, for fast copies to an accelerator.
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
        """The batch of a step on a device."""
        if step != self._next:
            loader: DataLoader[MixtureBatch] = DataLoader(
                self._steps,
                batch_size=None,
                sampler=_From(step),
                num_workers=self._workers,
                prefetch_factor=self._ahead if self._workers else None,
                pin_memory=self._pin,
            )
            self._batches = iter(loader)
        self._next = step + 1
        return next(self._batches).to(device)

    def close(self) -> None:
        """End the workers."""
        self._batches, self._next = iter(()), -1


class _Steps(Dataset[MixtureBatch]):
    def __init__(self, sampler: Sampler, rank: int) -> None:
        self.sampler, self.rank = sampler, rank
        self.mixer = Mixer(sampler.corpus)

    def __getitem__(self, step: int) -> MixtureBatch:
        torch.set_num_threads(1)
        return self.mixer.render(self.sampler.plan(step, self.rank))


class _From(TorchSampler[int]):
    """All steps from `start` on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1
