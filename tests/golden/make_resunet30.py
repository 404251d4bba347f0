"""Regenerate resunet30.json by running the published network itself.

    git clone https://github.com/Audio-AGI/AudioSep
    pip install torchlibrosa librosa
    python tests/golden/make_resunet30.py AudioSep

Nothing of the published code is copied: only the shapes of its weights and its outputs, as numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import seeded
import torch

SEED, SAMPLES, QUERIES, DIMENSION = 3000, 40017, 2, 512
POSITIONS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="a checkout of Audio-AGI/AudioSep")
    parser.add_argument("--commit", help="its commit, if it is not a git checkout")
    arguments = parser.parse_args()
    commit = arguments.commit or _commit(arguments.repository)
    sys.path.insert(0, str(arguments.repository))
    from models.resunet import ResUNet30  # the published class

    network = ResUNet30(input_channels=1, output_channels=1, condition_size=DIMENSION).eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    learnt = {key: shape for key, shape in shapes.items() if not key.startswith(("base.stft.", "base.istft."))}
    weights = seeded.state(learnt, SEED)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    sound = seeded.sound(SAMPLES, SEED)
    conditions = seeded.embeddings(QUERIES, DIMENSION, SEED)
    single = _run(network, sound, conditions)
    out = _run(network.double(), sound.astype(np.float64), conditions.astype(np.float64))
    positions = np.linspace(0, SAMPLES - 1, POSITIONS).astype(int)
    figures = {
        "source": "Audio-AGI/AudioSep models/resunet.py ResUNet30(1, 1, 512), eval mode, run in float64",
        "commit": commit,
        "weights": "seeded.state(shapes without base.stft. and base.istft., seed)",
        "seed": SEED,
        "samples": SAMPLES,
        "queries": QUERIES,
        "sound": sound[positions].tolist(),
        "float32_error": float(np.linalg.norm(single - out) / np.linalg.norm(out)),
        "rms": np.sqrt((out**2).mean(-1)).tolist(),
        "values": [row[positions].tolist() for row in out],
        "projections": [seeded.projections(row) for row in out],
        "shapes": {key: list(shape) for key, shape in sorted(shapes.items())},
    }
    path = Path(__file__).with_name("resunet30.json")
    path.write_text(seeded.dumps(figures))
    sys.stdout.write(f"{path}: rms {figures['rms']} of a mixture of {np.sqrt((sound**2).mean()):.4f}\n")


def _run(network: torch.nn.Module, sound: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    mixtures = torch.from_numpy(sound)[None, None].expand(len(conditions), 1, -1)
    with torch.no_grad():
        return network({"mixture": mixtures, "condition": torch.from_numpy(conditions)})["waveform"][:, 0].numpy()


def _commit(repository: Path) -> str:
    done = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
