"""Small stand-ins for models and encoders, with the interfaces of the real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.separation_model import Estimate, SeparationModel
from audiosep.models.stft import istft, power, stft

STEMS = ("vocals", "drums", "bass", "other")
# A hybrid network without what the shipped one has beyond the U-Net: one decoder run, its mask applied as it is.
PLAIN: dict[str, Any] = {
    "patch": (2, 2),
    "tags": False,
    "relisten": False,
    "refinements": 0,
    "mix_temperature": None,
    "presence_exponent": 0.0,
    "mask_floor": 0.0,
}


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of TinyModel."""

    sample_rate: int = 16000
    n_fft: int = 256
    hop: int = 64
    dimension: int = 16
    channels: int = 4
    window: int = 8000 // 64 * 64
    context: int = 16 * 64


class TinyModel(SeparationModel):
    """Random masks that depend on query, negative and spectrogram, a few frames around each frame."""

    Config = TinyConfig

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TinyConfig()
        self.sample_rate, self.hop, self.dimension = config.sample_rate, config.hop, config.dimension
        self.window, self.context, self.past = config.window, config.context, config.context // 2
        self.stem_names = STEMS
        self.capabilities = frozenset({"text", "audio", "negative", "stems", "presence"})
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.first = nn.Conv2d(1, config.channels, 3, padding=1)
            self.film = nn.Linear(2 * config.dimension, 2 * config.channels)
            self.second = nn.Conv2d(config.channels, 1, 3, padding=1)
            self.heads = nn.Conv2d(config.channels, len(STEMS), 3, padding=1)
        self.eval()

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        spectrum, features = self._features(mix)
        negatives = torch.zeros_like(embeddings) if negatives is None else negatives
        scale, shift = self.film(torch.cat([embeddings, negatives], 1) * 4).chunk(2, 1)
        x = features[:, None] * (1 + scale[None, :, :, None, None]) + shift[None, :, :, None, None]
        mask = torch.sigmoid(4 * self.second(F.relu(x).flatten(0, 1)).float()).unflatten(0, x.shape[:2])[:, :, 0]
        return self._estimate(spectrum, mask, mix.shape[-1], presence=mask.mean((2, 3)))

    def stems(self, mix: Tensor) -> Estimate:
        spectrum, features = self._features(mix)
        return self._estimate(spectrum, self.heads(features).float().softmax(1), mix.shape[-1], presence=None)

    def _features(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = stft(mix.float(), self.config.n_fft, self.hop)
        energy = power(spectrum).mean(1)
        return spectrum, self.first(torch.log(energy + 1e-6)[:, None])

    def _estimate(self, spectrum: Tensor, mask: Tensor, samples: int, presence: Tensor | None) -> Estimate:
        targets = istft(spectrum[:, None] * mask[:, :, None], self.config.n_fft, self.hop, samples)
        return Estimate(targets, mask[:, :, -16:].mean(2), presence)


class IdentityModel(TinyModel):
    """Every target is the mixture; every stem but the first is silent."""

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        return self._copies(mix, torch.ones(len(embeddings)))

    def stems(self, mix: Tensor) -> Estimate:
        return self._copies(mix, torch.eye(len(STEMS))[0])

    def _copies(self, mix: Tensor, gains: Tensor) -> Estimate:
        shape = (mix.shape[0], len(gains), mix.shape[-1] // self.hop + 1)
        waveforms = mix[:, None] * gains[:, None, None]
        return Estimate(waveforms, gains[None, :, None].expand(shape), torch.ones(shape[:2]))


class FakeEncoder:
    """Embeddings from a hash of the text, and from a hash of coarse levels of the audio."""

    name = "fake"

    def __init__(self, dimension: int = 16) -> None:
        self.dimension = dimension
        self.texts: list[str] = []  # everything that was embedded, in order

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], folder: Path, network: torch.nn.Module | None = None
    ) -> FakeEncoder:
        return cls(config.get("dimension", 16))

    def text(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        return torch.stack([self._vector(text.encode()) for text in texts])

    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        return torch.stack([self._vector(f"{x.abs().mean():.3f} {sample_rate}".encode()) for x in waveforms])

    def to(self, device: torch.device | str) -> FakeEncoder:
        return self

    def _vector(self, data: bytes) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> 1
        return F.normalize(torch.randn(self.dimension, generator=torch.Generator().manual_seed(seed)), dim=0)
