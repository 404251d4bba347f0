"""Feature-wise linear modulation (Perez et al., 2018) behind a batch normalisation, constant or varying in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiosep.models.interpolation import interpolated
from audiosep.models.kept import Kept


class Condition:
    """What modulates a decoder: one vector a query, and optionally tracks over time.

    Args:
        vector: (queries, features).
        tracks: (queries, track features, steps) at any rate; each block interpolates to its own frames.
    """

    def __init__(self, vector: Tensor, tracks: Tensor | None = None) -> None:
        self.vector = vector
        self.tracks = tracks


class Film(nn.Module):
    """Scales and shifts for several normalisations of one block, computed together.

    Args:
        features: size of the query vector.
        tracks: channels of the time-varying part; 0 for none.
        channels: channels of each normalisation.
    """

    def __init__(self, features: int, tracks: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels
        self.vector = nn.Linear(features, 2 * sum(channels))
        self.tracks = nn.Conv1d(tracks, 2 * sum(channels), 1) if tracks else None
        for layer in (self.vector, self.tracks):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, condition: Condition, frames: int) -> list[tuple[Tensor, Tensor]]:
        """[(scale - 1, shift)] for each normalisation, each (queries, channels, 1 or frames, 1)."""
        film = self.vector(condition.vector)[:, :, None]
        if self.tracks is not None and condition.tracks is not None:
            film = film + interpolated(self.tracks(condition.tracks), frames)
        elif self.tracks is not None:
            film = film + self.tracks.bias[:, None]  # type: ignore[index]  # no tracks are tracks of zeros
        # In the layout of the maps: with frames side by side, applying them takes nine times as long.
        film = film[..., None].contiguous(memory_format=torch.channels_last)
        parts = film.split([c for c in self.channels for _ in range(2)], dim=1)
        return list(zip(parts[::2], parts[1::2], strict=True))


class FilmNorm(nn.BatchNorm2d):
    """Batch normalisation, then `x * (1 + scale) + shift`, as one affine step at inference."""

    def __init__(self, channels: int, *, momentum: float = 0.1) -> None:
        super().__init__(channels, momentum=momentum)
        self._kept: Kept[tuple[Tensor, Tensor]] = Kept()

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if self.training:
            h = super().forward(x)
            return h if film is None else torch.addcmul(film[1], h, 1 + film[0])
        scale, shift = self._kept((self,), self._affine)
        if film is not None:
            gain = 1 + film[0]
            scale, shift = scale * gain, torch.addcmul(film[1], shift, gain)
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))

    def _affine(self) -> tuple[Tensor, Tensor]:
        """(1, channels, 1, 1) scale and shift of the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return scale[None, :, None, None], shift[None, :, None, None]
