"""Shape of the hybrid separator, and what of it cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiosep.errors import ConfigError
from audiosep.models.mobilenet import MobileNetConfig
from audiosep.models.towers import TowerConfig


@dataclass(frozen=True)
class HybridConfig:
    """Shape of a hybrid separator; the defaults are those of the model that is shipped, `mini`, as it is trained.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT length, samples.
        hop: samples between STFT frames.
        bands: frequency bands of the network, see `models.bands`.
        patch: frames x bands that become the channels of one position.
        widths: channels of each level.
        dimension: size of a query embedding.
        features: size of the query vector that modulates the decoder.
        tracks: channels of the part of the modulation that varies in time.
        listener: shape of the listener; None for a decoder that is modulated by the query vector alone.
        tags: the decoder also sees how well the listener's tags match the query, at every position (see `Attention`).
        stems: names of the fixed stems; empty for none.
        relisten: the presence also depends on the listener's embedding of the estimate, which must lie in the joint
            space of the queries.
        refinements: how often the decoder runs again with the listener's embeddings of its estimate and residual
            (see `models.refinement`). Training takes turns with 0 to so many.
        mix_temperature: at inference, the mask is a mean over all runs of the decoder, weighted by a softmax with this
            temperature over how similar to the query each estimate is; None: the mask of the last run.
        presence_exponent: at inference, masks are multiplied by this power of the presence: 1 makes them expectations,
            0 leaves them as they are.
        presence_calibration: scale and shift of the logits of the presence that users get, so that what is said agrees
            with what holds (`python -m research.presence_calibration`). Masks and refinements take it as it is.
        mask_floor: at inference, masks of queries are at least this amplitude times how undecided they are
            (`models.masks.undecided`). As in spectral subtraction (Berouti et al., 1979) a floor covers musical
            noise; where a mask took the wrong sound, it keeps a little of the right one. A sure mask needs none.
        window: samples of an inference window.
        context: samples at each side of a window that are computed for context only.
    """

    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 512
    bands: int = 192
    patch: tuple[int, int] = (4, 4)
    widths: tuple[int, ...] = (64, 128, 160, 224)
    dimension: int = 512
    features: int = 256
    tracks: int = 96
    listener: TowerConfig | None = field(default_factory=MobileNetConfig)
    tags: bool = True
    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    relisten: bool = True
    refinements: int = 1
    mix_temperature: float | None = 1 / 6
    presence_exponent: float = 2.0
    presence_calibration: tuple[float, float] = (1.0, 0.0)
    mask_floor: float = 0.1
    window: int = 639 * 512
    context: int = 32 * 512

    def __post_init__(self) -> None:
        listener = self.listener
        if listener is not None:
            mine = (self.sample_rate, self.n_fft, self.hop, self.bands, self.dimension)
            its = (listener.sample_rate, listener.n_fft, listener.hop, listener.bands, listener.dimension)
            if mine != its:
                raise ConfigError(
                    "the listener takes the separator's own band energies: sample_rate, n_fft, hop, bands and "
                    f"dimension must be the same, got {mine} and {its}"
                )
        if listener is not None and self.grid[0] % listener.step:
            raise ConfigError(
                f"one position of the deepest level covers {self.grid[0]} frames, which must be a multiple of the "
                f"{listener.step} frames of a step of the listener: use more widths or a longer patch"
            )
        if listener is None and (self.tags or self.relisten):
            raise ConfigError("tags and relisten need a listener")
        if self.refinements < 0:
            raise ConfigError(f"refinements must not be negative, got {self.refinements}")
        if self.refinements and not self.relisten:
            raise ConfigError("refinements need relisten")
        if self.mix_temperature is not None and not self.mix_temperature > 0:
            raise ConfigError(f"mix_temperature must be greater than 0, or null, got {self.mix_temperature}")
        if self.mix_temperature is not None and not self.refinements:
            raise ConfigError("mix_temperature needs refinements: there is nothing else to mix")
        if self.presence_exponent < 0:
            raise ConfigError(f"presence_exponent must not be negative, got {self.presence_exponent}")
        if not self.presence_calibration[0] > 0:
            raise ConfigError(f"presence_calibration has a scale above 0, got {self.presence_calibration[0]}")
        if not 0 <= self.mask_floor < 1:
            raise ConfigError(f"mask_floor is an amplitude from 0 to below 1, got {self.mask_floor}")
        if self.window % self.hop or self.context % self.hop or self.window <= 2 * self.context:
            raise ConfigError("window and context must be multiples of hop, and the window longer than both contexts")

    @property
    def grid(self) -> tuple[int, int]:
        """Frames and bands that one position of the deepest level covers."""
        levels = 2 ** len(self.widths)
        return levels * self.patch[0], levels * self.patch[1]
