"""Processor time of the audio towers on one core: local features, and both heads on every position.

`python -m research.tower_speed [--seconds 10] [--precision fp32]`
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiosep.inference.devices import running
from audiosep.models.audio_tower import AudioTower
from audiosep.models.listener import ListenerConfig
from audiosep.models.mobilenet import MobileNetConfig
from audiosep.models.towers import TowerConfig, build_tower

TOWERS: dict[str, TowerConfig] = {"residual": ListenerConfig(), "mobilenet": MobileNetConfig()}


def milliseconds(tower: AudioTower, seconds: float, precision: str, repeats: int = 10) -> dict[str, float]:
    """Measure a tower.

    Args:
        tower: in evaluation mode.
        seconds: length of the sound.
        precision: "fp32" or "bf16".
        repeats: the shortest of so many counts.

    Returns:
        Milliseconds a second of sound for "energies", "local", and "heads": embedding and tags of all positions.
    """
    waveform = torch.randn(1, round(seconds * tower.config.sample_rate)) * 0.1
    energies = tower.energies(waveform)
    with running(torch.device("cpu"), precision):
        positions = tower.local(energies).permute(0, 2, 3, 1)
        parts: dict[str, Callable[[], Tensor | tuple[Tensor, Tensor]]] = {
            "energies": lambda: tower.energies(waveform),
            "local": lambda: tower.local(energies),
            "heads": lambda: (tower.embed_pooled(positions), tower.tags(positions)),
        }
        return {name: _shortest(part, repeats) * 1000 / seconds for name, part in parts.items()}


def _shortest(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.tower_speed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name, config in TOWERS.items():
        tower = build_tower(config).eval()
        weights = sum(p.numel() for p in tower.parameters()) / 1e6
        times = milliseconds(tower, options.seconds, options.precision)
        shown = ", ".join(f"{part} {value:.2f}" for part, value in times.items())
        print(f"{name}: {weights:.2f} M parameters; ms a second of sound: {shown}")


if __name__ == "__main__":
    main()
