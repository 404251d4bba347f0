"""The configuration of separation training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.hybrid_config import HybridConfig
from audiosep.training.data_config import DataConfig


@dataclass(frozen=True)
class SeparationOptions:
    """The parts of the loss and the kinds of queries.

    Attributes:
        losses: terms on the masks of queries and stems, see `losses`.
        presence: weight of the presence head; 0 does not train it.
        stems: weight of the fixed stems on mixtures that are songs; 0 does not train them.
        audio: share of queries given by a recording of the target.
        mixed: share of queries given by the mean of a text and a recording.
        prototypes: file of prototypes made with the encoder of the captions; "" for words alone.
        recalled: share of texts whose embedding is what the prototypes recall of them, as in separation at "fast".
        query_dropout: share of queries without an embedding, so that the decoder also learns from the listener alone.
        listener_dropout: share of the listener's feature channels that are dropped for a whole mixture: the listener
            was trained on the same clips, and the separator would learn to rely on it too much.
        noise: standard deviation of noise on text embeddings, so that a similar text tower can replace the table's.
        lowpass: share of band-limited mixtures whose input is cut off there; the loss always is.
        reuse: steps for which rendered mixtures are used, where rendering is slower than training: from the second on
            with other levels of their sources and other kinds of queries.
        reuse_db: largest change of these levels, dB, up or down.
        multiple: queries are cut to a multiple of this; recordings of queries, and songs, are repeated up to a multiple
            of a quarter of it. A GPU chooses its kernels for each size of a batch, which takes seconds, so it should
            meet few sizes: the best is a little below the number of queries of a batch, or half of it.
        listener: trained listener: its file, the `model/` of a run, or a whole model. It embeds the audio queries and
            is frozen. The separator's own listener starts as a copy, or as that of `trainer.init`.
        train_listener: train the separator's own listener too.
        labels: JSON list of the names of the listener's tags, which `model.tags` needs; "" takes them from `listener`,
            if that is a whole model.
        text: text tower that embedded the captions: the `model/` of a run, or a whole model. With it the export is a
            whole model that takes text queries; "" exports the network alone.
        validation: path of the validation recipe; "" does not validate.
        validation_items: number of its mixtures in each validation.
    """

    losses: tuple[dict[str, Any], ...] = (
        {"name": "band_snr", "weight": 0.1},
        {"name": "band_magnitude", "weight": 1.0},
    )
    presence: float = 0.1
    stems: float = 0.3
    audio: float = 0.2
    mixed: float = 0.15
    prototypes: str = ""
    recalled: float = 0.5
    query_dropout: float = 0.2
    listener_dropout: float = 0.0
    noise: float = 0.02
    lowpass: float = 0.5
    reuse: int = 1
    reuse_db: float = 4.0
    multiple: int = 1
    listener: str = ""
    train_listener: bool = False
    labels: str = ""
    text: str = ""
    validation: str = ""
    validation_items: int = 120

    def __post_init__(self) -> None:
        for name in ("presence", "stems", "noise", "reuse_db"):
            if getattr(self, name) < 0:
                raise ConfigError(f"options.{name} must not be negative, got {getattr(self, name)}")
        for name in ("reuse", "multiple"):
            if getattr(self, name) < 1:
                raise ConfigError(f"options.{name} must be 1 or more, got {getattr(self, name)}")
        shares = {
            "query_dropout": self.query_dropout,
            "listener_dropout": self.listener_dropout,
            "lowpass": self.lowpass,
            "audio": self.audio,
            "mixed": self.mixed,
            "recalled": self.recalled,
            "audio + mixed": self.audio + self.mixed,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"options.{name} is a share and must lie in 0..1, got {share}")


@dataclass(frozen=True)
class SeparationConfig:
    """Configuration of the task: `{"task": "separation", "model": {...}, "data": {...}, "options": {...}}`."""

    data: DataConfig
    model: HybridConfig = field(default_factory=HybridConfig)
    options: SeparationOptions = field(default_factory=SeparationOptions)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


def check_combination(config: SeparationConfig) -> None:
    """Refuse options that contradict the model's.

    Args:
        config: of the task.

    Raises:
        ConfigError: two options exclude each other, or one is missing that another needs.
    """
    model, options = config.model, config.options
    if model.listener is None and (options.listener or options.train_listener):
        raise ConfigError("options.listener and options.train_listener: the model has no listener; set model.listener")
    if options.train_listener and not options.listener:
        raise ConfigError("options.train_listener: audio queries need a frozen listener; set options.listener")
    if options.train_listener and model.relisten:
        raise ConfigError(
            "options.train_listener: not with model.relisten, which compares queries with the embeddings of the frozen "
            "listener"
        )
    if model.refinements and not options.presence:
        raise ConfigError(
            "options.presence: model.refinements weight an estimate by its presence, which is not trained"
        )
    if options.text and model.listener is None:
        raise ConfigError("options.text: the query encoder needs the audio tower too; set model.listener")
    if model.tags and not (options.labels or options.listener):
        raise ConfigError(
            "options.labels: model.tags needs the names of the listener's tags: give their JSON list, or a whole model "
            "such as mini as options.listener, or set model.tags to false"
        )
