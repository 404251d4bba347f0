"""The configuration of training on waveforms, for every family of networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audiosep.data.manifest import STEMS
from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.families import family_class
from audiosep.models.separation_model import SeparationModel
from audiosep.training.data_config import CorpusConfig
from audiosep.training.separation.discriminator import AdversaryConfig
from audiosep.weights import configs


@dataclass(frozen=True)
class WaveformData(CorpusConfig):
    """Where the recordings are, and the embeddings of their captions.

    Attributes:
        captions: caption embeddings made by `audiosep data captions`; "" for a network that takes no queries.
        workers: processes that render the mixtures; 0 renders them in a thread.
    """

    captions: str = ""
    workers: int = 0


@dataclass(frozen=True)
class WaveformOptions:
    """The parts of the loss.

    Attributes:
        losses: terms on the waveforms of queries and stems, see `waveform_losses`.
        words: weight of the queries.
        stems: weight of the fixed stems, on mixtures that are songs.
        noise: standard deviation of noise on text embeddings.
        adversary: a discriminator that the network is also trained against; None for none.
        text: whole model, by folder or name, whose query encoder embedded the captions; the export gets a copy and
            takes text queries. "" exports the network alone.
        validation: path of the validation recipe; "" does not validate.
        validation_items: number of its mixtures in each validation.
    """

    losses: tuple[dict[str, Any], ...] = (
        {"name": "snr", "weight": 0.1},
        {"name": "multi_resolution_stft", "sizes": (512, 2048)},
    )
    words: float = 1.0
    stems: float = 1.0
    noise: float = 0.02
    adversary: AdversaryConfig | None = None
    text: str = ""
    validation: str = ""
    validation_items: int = 120

    def __post_init__(self) -> None:
        for name in ("words", "stems", "noise"):
            if getattr(self, name) < 0:
                raise ConfigError(f"options.{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class WaveformConfig:
    """Configuration of the task: `{"task": "waveform", "model": {"family": "scnet", ...}, "data": {...}, ...}`."""

    data: WaveformData
    model: dict[str, Any]
    options: WaveformOptions = field(default_factory=WaveformOptions)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


def build_network(model: dict[str, Any]) -> SeparationModel:
    """Build a network of any family.

    Args:
        model: "family", and the values of its configuration that are not the default.

    Raises:
        ConfigError: no or an unknown family, or an unknown or impossible size.
    """
    sizes = dict(model)
    name = sizes.pop("family", None)
    if not isinstance(name, str):
        raise ConfigError('model.family: name the family of the network, such as "scnet"')
    family = family_class(name, "model.family")
    return family(configs.from_dict(family.Config, sizes, "model"))


def check_network(model: SeparationModel, config: WaveformConfig) -> None:
    """Refuse a network that the configuration trains nothing of.

    Args:
        model: the network.
        config: of the task.

    Raises:
        ConfigError: stems that the corpus does not know, queries without captions, or nothing to train.
    """
    options = config.options
    takes_words = "text" in model.capabilities and options.words > 0
    has_stems = bool(model.stem_names) and options.stems > 0
    if not takes_words and not has_stems:
        raise ConfigError("nothing to train: the network has stems or takes words, but options.stems or words is 0")
    unknown = [name for name in model.stem_names[:-1] if name not in STEMS]
    if has_stems and unknown:
        raise ConfigError(
            f"model.stems: {unknown[0]!r} is no stem of a corpus; all but the last are of {', '.join(STEMS)}"
        )
    if takes_words and not config.data.captions:
        raise ConfigError("data.captions: a network that takes words needs them; make them by `audiosep data captions`")
    if options.text and not takes_words:
        raise ConfigError("options.text: the network takes no words; set model.words")
