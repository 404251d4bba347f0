"""How the CPUs and GPUs of a cluster are divided among the workers of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audiosep.errors import InputError

_WORKER_BYTES = 2**30
_WORKER_CPUS = 2
_GPU_CPUS = 4  # a worker with a GPU does not become faster with more


@dataclass(frozen=True)
class Allocation:
    """The workers of a job.

    Attributes:
        workers: how many.
        cpus: of each.
        gpus: of each.
    """

    workers: int
    cpus: int
    gpus: int

    @property
    def options(self) -> dict[str, int]:
        """Resources of a worker, as Ray's options."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def allocate(nodes: Sequence[dict[str, float]], device: str, wanted: int | None, files: int) -> Allocation:
    """Choose the number of workers and their resources.

    Args:
        nodes: the resources of each machine: CPU, GPU, and memory in bytes.
        device: auto, cpu, cuda or mps.
        wanted: number of workers; None for one for each GPU or for each two CPUs, as far as the memory allows.
        files: recordings to separate; there are never more workers than that.

    Raises:
        InputError: too few CPUs or GPUs for the wanted workers, or no GPU for device "cuda".
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    total_gpus = sum(gpus)
    if device == "cuda" and not total_gpus:
        raise InputError("no machine of the cluster has a GPU that Ray knows of: use device 'auto' or 'cpu'")
    if device in ("auto", "cuda") and total_gpus:
        if wanted is not None and wanted > total_gpus:
            raise InputError(f"{wanted} workers need as many GPUs, and there are {total_gpus}: ask for fewer")
        share = min(c // g for c, g in zip(cpus, gpus, strict=True) if g)
        return Allocation(max(1, min(wanted or total_gpus, files)), cpus=max(1, min(share, _GPU_CPUS)), gpus=1)
    if wanted is None:
        room = [int(node.get("memory", 0)) // _WORKER_BYTES for node in nodes]
        wanted = sum(min(have // _WORKER_CPUS, fits) for have, fits in zip(cpus, room, strict=True))
    wanted = max(1, min(wanted, files))
    # The most CPUs for each with which all of them fit on the machines.
    share = next((n for n in range(max(cpus, default=0), 0, -1) if sum(have // n for have in cpus) >= wanted), 0)
    if not share:
        raise InputError(f"{wanted} workers need as many CPUs, and there are {sum(cpus)}: ask for fewer")
    return Allocation(wanted, cpus=share, gpus=0)
