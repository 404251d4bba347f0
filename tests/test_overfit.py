"""The whole training path on real recordings: a tiny hybrid overfits eight clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
import torch.nn.functional as F
from doubles import PLAIN

from audiosep import metrics
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.stft import power, stft
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.separation.losses import BAND_LOSSES, WeightedLosses

AUDIO = Path(__file__).parents[1] / "examples/audio"
SAMPLES = 48000  # 1.5 s at 32 kHz
# Target, interferer 6 dB below it, and where in the recordings (seconds) the clips are cut. The best mask that is
# constant within a band gives 16.5 dB here.
PAIRS = [
    ("vocals", "speech", 1.0), ("vocals", "lead_guitar", 4.0), ("lead_guitar", "vocals", 1.0),
    ("lead_guitar", "speech", 5.0), ("speech", "vocals", 1.0), ("speech", "lead_guitar", 3.0),
    ("guitar", "vocals", 2.0), ("rhythm", "vocals", 5.0),
]  # fmt: skip
LEVEL_DB = 6.0


def clip(name: str, start: float) -> torch.Tensor:
    """A piece of a recording, mono, 32 kHz, at one loudness."""
    audio, rate = soundfile.read(AUDIO / f"{name}.flac", dtype="float32", always_2d=True)
    mono = torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.mean(1), rate, 32000), dtype=np.float32))
    piece = mono[round(start * 32000) :][:SAMPLES]
    return piece * (0.1 / piece.square().mean().sqrt())


class EightClips:
    """Eight mixtures, each with one query (a random embedding) for its louder half."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Hybrid(
            HybridConfig(widths=(24, 32, 48), features=64, listener=None, stems=(), **PLAIN | {"patch": (4, 4)})
        )
        self.targets = torch.stack([clip(target, start) for target, _, start in PAIRS])
        others = torch.stack([clip(other, start) for _, other, start in PAIRS])
        self.mixes = self.targets + 10 ** (-LEVEL_DB / 20) * others
        self.queries = F.normalize(torch.randn(len(PAIRS), 512), dim=-1)
        self.losses = WeightedLosses([{"name": "band_snr", "weight": 0.1}, {"name": "band_magnitude"}], BAND_LOSSES)
        X, T = (stft(signal, 2048, 512) for signal in (self.mixes, self.targets))
        cross = X.real * T.real + X.imag * T.imag
        self.energies = [self.model.bands.energy(e) for e in (power(X), cross, power(T))]
        self.inputs = self.model.energies(power(X))

    def batch(self, step, rank, world):
        return torch.arange(len(PAIRS))

    def loss(self, model, rows):
        decoded = model.decode(model.encode(self.inputs), self.queries, torch.zeros_like(self.queries), rows)
        total, parts = self.losses(decoded.mask, *self.energies)
        return total.mean(), parts | {"items": torch.tensor(len(rows))}

    def validate(self, model):
        pairs = zip(self.mixes, self.queries, strict=True)
        outputs = [model(mix[None, None], query[None]).waveforms[0, 0, 0] for mix, query in pairs]
        estimates = torch.stack(outputs).float()
        return {
            "val/si_sdr": float(metrics.si_sdr(estimates, self.targets).mean()),
            "val/worst": float(metrics.si_sdr(estimates, self.targets).min()),
            "val/si_sdri": float(metrics.si_sdri(estimates, self.targets, self.mixes).mean()),
        }

    def export(self, model, folder):
        (folder / "done").touch()


@pytest.mark.slow
def test_a_tiny_hybrid_overfits_eight_real_clips(tmp_path):
    config = TrainerConfig(
        steps=250, warmup=20, learning_rate=4e-3, ema=0.98, precision="fp32", device="cpu", checkpoint_minutes=None,
        validate_steps=125,
    )  # fmt: skip
    scores = Trainer(EightClips(), config, tmp_path).fit().metrics
    assert scores["val/si_sdr"] > 15
    assert scores["val/si_sdri"] > 9
