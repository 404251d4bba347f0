"""Shape of the hybrid separator, and what of it cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audiosep.errors import ConfigError
from audiosep.models.listener import ListenerConfig


@dataclass(frozen=True)
class HybridConfig:
    """Shape of a hybrid separator.

    Attributes:
        sample_rate: Hz. n_fft, hop: STFT, samples. axis: frequency axis of the network; bands: how many bands.
        patch: frames x bands that become the channels of one position. widths: channels of each level.
        skips: how the decoder takes up the encoder's features. mask: kind of mask.
        dimension: size of a query embedding. features: size of the query vector that modulates the decoder.
        tracks: channels of the part of the modulation that varies in time. listener: its shape, None for none.
        tags: the decoder also sees how well the listener's tags answer the query, everywhere (see `Attention`).
        stems: names of the fixed heads. candidates: query-free masks; refine: the query decoder sees the selected one.
        presence: a head that says whether the queried sound is there. relisten: it also hears what the mask lets
            through, with the listener, which has to be the one that placed the queries.
        passes: how often the decoder is asked; from the second time on for what sounds like its answer before and not
            like the rest of the mixture. Training takes turns with 1 to so many.
        decide: at inference, mix the answers of all passes and one to the first answer's rest, by a softmax over how
            much more they sound like the question than their rests do; this is its scale. 0: the last answer alone.
        weigh: outputs are multiplied by this power of what it says: a sound that may not be there comes out more
            quietly. 1 makes them expectations, 0 leaves them as they are.
        floor: amplitude of the mixture that every query lets through at inference, as spectral subtraction leaves one
            against musical noise (Berouti et al., 1979); a mask that took the wrong sound still holds the right one.
        window, context: samples of an inference window, and of each side that is computed only for context.
    """

    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 512
    axis: Literal["bands", "bins"] = "bands"
    bands: int = 192
    patch: tuple[int, int] = (2, 2)
    widths: tuple[int, ...] = (48, 96, 160, 224)
    skips: Literal["add", "concat"] = "add"
    mask: Literal["real"] = "real"
    dimension: int = 512
    features: int = 256
    tracks: int = 96
    listener: ListenerConfig | None = field(default_factory=ListenerConfig)
    tags: bool = False
    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    candidates: int = 4
    refine: bool = False
    presence: bool = True
    relisten: bool = False
    passes: int = 1
    decide: float = 0.0
    weigh: float = 0.0
    floor: float = 0.0
    window: int = 639 * 512
    context: int = 32 * 512

    @property
    def grid(self) -> tuple[int, int]:
        """Frames and bands that one position of the deepest level covers."""
        levels = 2 ** len(self.widths)
        return levels * self.patch[0], levels * self.patch[1]


def check(config: HybridConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: says what does not fit together.
    """
    listener = config.listener
    if listener is not None:
        mine = (config.sample_rate, config.n_fft, config.hop, config.bands, config.dimension)
        its = (listener.sample_rate, listener.n_fft, listener.hop, listener.bands, listener.dimension)
        if config.axis != "bands" or mine != its:
            raise ConfigError(
                "the listener hears the separator's own band energies: sample_rate, n_fft, hop, bands and dimension "
                f"must be the same, got {mine} and {its}, and axis must be 'bands', got {config.axis!r}"
            )
        if config.grid[0] % listener.step:
            raise ConfigError(
                f"one position of the deepest level covers {config.grid[0]} frames, which must be a multiple of the "
                f"{listener.step} frames of a step of the listener: use more widths or a longer patch"
            )
    if config.tags and listener is None:
        raise ConfigError("tags needs a listener")
    if config.refine and (listener is None or not config.candidates):
        raise ConfigError("refine needs a listener and candidates")
    if config.relisten and (listener is None or not config.presence):
        raise ConfigError("relisten needs a listener and the presence head")
    if config.passes < 1:
        raise ConfigError(f"passes must be at least 1, got {config.passes}")
    if config.passes > 1 and not config.relisten:
        raise ConfigError("passes > 1 needs relisten")
    if config.decide < 0:
        raise ConfigError(f"decide is a scale, 0 or more, got {config.decide}")
    if config.decide and config.passes == 1:
        raise ConfigError("decide needs passes > 1")
    if config.weigh < 0:
        raise ConfigError(f"weigh is a power of the presence, 0 or more, got {config.weigh}")
    if config.weigh and not config.presence:
        raise ConfigError("weigh needs the presence head")
    if not 0 <= config.floor < 1:
        raise ConfigError(f"floor is an amplitude from 0 to below 1, got {config.floor}")
    if config.window % config.hop or config.context % config.hop or config.window <= 2 * config.context:
        raise ConfigError("window and context must be multiples of hop, and the window longer than both its contexts")
