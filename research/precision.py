"""How long the network of a model takes in bf16 against fp32: stems and one query of one window, in turns.

python -m research.precision --model mini --threads 1 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch

from audiosep.api import load
from audiosep.errors import ModelError
from audiosep.inference.devices import running
from audiosep.models.estimates import MixtureQueries
from audiosep.models.hybrid import Hybrid

_PRECISIONS = ("fp32", "bf16")


def work(model: Hybrid) -> dict[str, Callable[[], object]]:
    """What is timed: stems, and a query with its refinements.

    Args:
        model: on the CPU.
    """
    frames = model.window // model.hop + 1
    draw = torch.Generator().manual_seed(0)
    energies = torch.rand((1, model.bands.count, frames), generator=draw)
    query = torch.randn((1, model.dimension), generator=draw)
    nothing, owner = torch.zeros_like(query), torch.arange(1)
    return {
        "stems": lambda: model.decode_stems(model.encode(energies)),
        "query": lambda: MixtureQueries(model, model.encode(energies), query, nothing, owner).estimate(),
    }


def seconds(compute: Callable[[], object], runs: int) -> dict[str, float]:
    """Median time in each precision, of runs that take turns.

    Args:
        compute: what is timed.
        runs: of each precision, after one that does not count.
    """
    taken: dict[str, list[float]] = {precision: [] for precision in _PRECISIONS}
    for _ in range(runs + 1):
        for precision, times in taken.items():
            with running(torch.device("cpu"), precision):
                began = time.perf_counter()
                compute()
                times.append(time.perf_counter() - began)
    return {precision: statistics.median(times[1:]) for precision, times in taken.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.precision", description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=12)
    options = parser.parse_args(arguments)
    model = load(options.model, device="cpu", precision="fp32").model
    if not isinstance(model, Hybrid):
        raise ModelError(f"{options.model} is not of the family hybrid")
    print("| threads | work | fp32, ms | bf16, ms | bf16 / fp32 |\n|---:|---|---:|---:|---:|")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, compute in work(model).items():
            took = seconds(compute, options.runs)
            high, low = (1000 * took[precision] for precision in _PRECISIONS)
            print(f"| {threads} | {name} | {high:.0f} | {low:.0f} | {low / high:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
