"""The log of a run: means of its numbers, log.jsonl and log lines."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiosep.atomic import write_text, writing
from audiosep.training.engine import distributed

logger = logging.getLogger(__name__)


class MetricMeans:
    """Means of the task's numbers over the steps since the last log line, without values that are not finite.

    Sums stay on the device, so that the host does not wait for it at each step.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add the numbers of one batch; a tensor of several values counts with its mean."""
        for name, value in metrics.items():
            tensor = torch.as_tensor(value).detach().float().mean()
            finite = torch.isfinite(tensor)
            total = torch.where(finite, tensor, torch.zeros_like(tensor))
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._counts[name] = self._counts.get(name, 0) + finite

    def collect(self) -> dict[str, float]:
        """Return the means over all processes and start again; every process must call it."""
        mine = {name: (float(total), int(self._counts[name])) for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        totals: dict[str, tuple[float, int]] = {}
        for part in distributed.gather([mine]):
            for name, (total, count) in part.items():
                before = totals.get(name, (0.0, 0))
                totals[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in totals.items() if count}


class RunLog:
    """`log.jsonl`: one JSON object a line.

    Args:
        path: the file. A resumed run drops the lines after its checkpoint, because these steps are repeated.
        step: steps of the checkpoint that the run starts from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.is_file():
            kept = [line for line in read_log(path) if line.get("step", 0) <= step]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a line."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "step": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a `log.jsonl`; a damaged line, such as one cut off by a crash, is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            logger.warning("%s: skipped a damaged line", path)
    return lines


def last_validation(path: Path) -> dict[str, float]:
    """Read the numbers of the last validation in a `log.jsonl`; empty if there is none."""
    found = [line for line in read_log(path) if line["event"] == "validation"] if path.is_file() else []
    return {name: value for name, value in found[-1].items() if "/" in name} if found else {}


def without_labels(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out the validation numbers of single labels, of which there may be hundreds."""
    return {name: value for name, value in values.items() if "/label/" not in name}


def format_values(values: Mapping[str, float]) -> str:
    """Format numbers for a log line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items() if math.isfinite(value))
