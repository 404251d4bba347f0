"""Speed and memory of the published stem networks at their published sizes, with random weights, on one core.

python -m research.stem_models.speed                # all, each in a process of its own, as a Markdown table
python -m research.stem_models.speed htdemucs       # one, as JSON

The time is that of the processor for one window of stereo sound, so other programs hardly change it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from audiosep.models.published import PublishedConfig, PublishedStems

_MUSIC = ("drums", "bass", "other", "vocals")
_FOUR = ("vocals", "drums", "bass", "other")
_ROFORMER: dict[str, Any] = {
    "depth": 12,
    "heads": 8,
    "dim_head": 64,
    "stereo": True,
    "stft_hop_length": 441,
    "flash_attn": True,
}
_LAYERS: dict[str, Any] = {"time_transformer_depth": 1, "freq_transformer_depth": 1, "mask_estimator_depth": 2}
_UMX: dict[str, Any] = {"nb_bins": 2049, "max_bin": 1487}
_BANDS = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]


def _music(network: str, window: int, settings: dict[str, Any]) -> PublishedConfig:
    return PublishedConfig(network, _MUSIC, _FOUR, (settings,), window=window, context=window // 16)


def _vocals(network: str, settings: dict[str, Any]) -> PublishedConfig:
    settings = _ROFORMER | _LAYERS | settings
    return PublishedConfig(network, ("vocals",), ("vocals", "other"), (settings,), window=352_800, hop=441)


CONFIGS = {
    "htdemucs": _music("htdemucs", 343_980, {"bottom_channels": 512, "dconv_mode": 3}),
    "hdemucs_mmi": _music("hdemucs", 485_100, {}),
    "hdemucs": _music("torchaudio-hdemucs", 485_100, {"nfft": 4096, "depth": 6}),
    "convtasnet": PublishedConfig(
        "torchaudio-convtasnet",
        ("speaker 1", "speaker 2"),
        ("speaker 1", "speaker 2"),
        ({"msk_activate": "relu"},),
        sample_rate=8000,
        window=80_000,
        context=4000,
        hop=8,
        channels=1,
    ),
    "umxhq": _music("openunmix", 882_000, _UMX | {"hidden_size": 512}),
    "umxl": _music("openunmix", 882_000, _UMX | {"hidden_size": 1024}),
    "bs-roformer": _vocals("bs-roformer", {"dim": 512, "freqs_per_bands": _BANDS}),
    "mel-band-roformer": _vocals("mel-band-roformer", {"dim": 384, "depth": 6, "num_bands": 60}),
}


def measure(name: str) -> dict[str, float]:
    """Parameters in millions, real-time factor, and peak memory of this process in GB."""
    torch.set_num_threads(1)
    model = PublishedStems(CONFIGS[name]).eval()
    mix = torch.randn(1, 2, model.window) * 0.1
    with torch.inference_mode():
        began = time.process_time()
        model.stems(mix)
        seconds = time.process_time() - began
    return {
        "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
        "rtf": seconds / (model.window / model.sample_rate),
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=CONFIGS)
    name = parser.parse_args().name
    if name is not None:
        print(json.dumps(measure(name)))
        return
    print("| model | parameters, millions | real-time factor | peak memory, GB |\n|---|---|---|---|")
    for name in CONFIGS:
        command = [sys.executable, "-m", "research.stem_models.speed", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"| `{name}` | {found['parameters']:.1f} | {found['rtf']:.2f} | {found['gigabytes']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
