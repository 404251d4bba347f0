"""The text tower and the listener (audio tower) of the embedded CLAP, as files of their own or in a whole model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiosep.atomic import make_folder, write_text
from audiosep.errors import ConfigError
from audiosep.models.audio_tower import AudioTower
from audiosep.models.joint_space import DIMENSION
from audiosep.models.text import TextTower, TextTowerConfig
from audiosep.query.mini import MiniEncoder
from audiosep.query.tokenizer import WordPieces
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import WEIGHTS, load_into, load_state, save_state
from audiosep.weights.model_config import read_config

LISTENER_WEIGHTS, LISTENER_CONFIG = "listener.safetensors", "config.json"
TEXT_WEIGHTS, TEXT_CONFIG, TOKENIZER = "text.safetensors", "text.json", "tokenizer.json"


def load_listener(listener: AudioTower, source: str | Path) -> None:
    """Load trained weights into a listener.

    Args:
        listener: changed in place.
        source: `listener.safetensors`, a folder that holds it (a run's `model/`), or a whole model by folder or name.

    Raises:
        ConfigError: the weights are of another configuration than the listener.
        ModelError: there are no weights, or they are damaged.
    """
    path = Path(source) if Path(source).is_file() else locate(source)
    if path.is_file() or (path / LISTENER_WEIGHTS).is_file():
        state = load_state(path / LISTENER_WEIGHTS if path.is_dir() else path)
        file = path / LISTENER_CONFIG
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    else:
        other = MiniEncoder.from_config(read_config(path)["query"] or {}, path).listener
        config, state = configs.to_dict(other.config), other.state_dict()
    if config is not None and config != configs.to_dict(listener.config):
        raise ConfigError(f"the listener in {path} has another configuration than model.listener; make them equal")
    load_into(listener, state, path)


def read_tag_names(source: str | Path) -> Tensor:
    """The embeddings of the names of the tags of a whole model's listener.

    Args:
        source: the model's folder or name.

    Returns:
        (tags, dimension).

    Raises:
        ConfigError: it is no whole model that knows the names of its tags.
        ModelError: there is no such model, or it is damaged.
    """
    folder = locate(source) if not Path(source).is_file() else Path(source)
    weights = folder / WEIGHTS
    names = load_state(weights).get("attention.names") if weights.is_file() else None
    if names is None:
        raise ConfigError(
            f"options.labels: {source} does not know the names of its listener's tags: give their JSON list, or set "
            "model.tags to false"
        )
    return names.float()


def export_listener(listener: AudioTower, folder: Path) -> None:
    """Write `listener.safetensors` and its configuration, `config.json`.

    Args:
        listener: the weights.
        folder: an existing folder.
    """
    save_state(folder / LISTENER_WEIGHTS, listener.state_dict())
    write_text(folder / LISTENER_CONFIG, json.dumps(configs.to_dict(listener.config), indent=2) + "\n")


def export_text_tower(tower: TextTower, tokenizer: Any, folder: Path) -> None:
    """Write `text.safetensors`, its configuration `text.json`, and `tokenizer.json`.

    Args:
        tower: the weights.
        tokenizer: its `tokenizers.Tokenizer`.
        folder: made if missing.
    """
    make_folder(folder)
    save_state(folder / TEXT_WEIGHTS, tower.state_dict())
    write_text(folder / TEXT_CONFIG, json.dumps(configs.to_dict(tower.config), indent=2) + "\n")
    tokenizer.save(str(folder / TOKENIZER))


def read_text_tower(folder: Path) -> tuple[TextTower, Any]:
    """Read a text tower and its tokenizer.

    Args:
        folder: written by `export_text_tower`, or the folder of a whole model.

    Returns:
        The tower in evaluation mode, and its `tokenizers.Tokenizer`.

    Raises:
        ModelError: a file is missing or damaged.
    """
    if (folder / TEXT_CONFIG).is_file():
        config = configs.from_dict(TextTowerConfig, json.loads((folder / TEXT_CONFIG).read_text(encoding="utf-8")))
        tower = TextTower(config)
        load_into(tower, load_state(folder / TEXT_WEIGHTS), folder / TEXT_WEIGHTS)
        return tower.eval(), WordPieces.read(folder / TOKENIZER, config.vocabulary).tokenizer
    encoder = MiniEncoder.from_config(read_config(folder)["query"], folder)
    return encoder.tower, encoder.words.tokenizer


class TextTowerEncoder:
    """A text tower as an encoder of texts, on any device; the embeddings are on the CPU.

    Args:
        tower: the weights.
        words: the word pieces that they belong to.
    """

    dimension = DIMENSION

    def __init__(self, tower: TextTower, words: WordPieces) -> None:
        self.tower, self.words = tower, words

    @classmethod
    def read(cls, source: str | Path) -> TextTowerEncoder:
        """Read the encoder from files.

        Args:
            source: a folder that `read_text_tower` reads, or the name of a model.

        Raises:
            ModelError: there is none, or a file of it is missing or damaged.
        """
        tower, tokenizer = read_text_tower(locate(source))
        return cls(tower, WordPieces(tokenizer, tower.config.vocabulary))

    def text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: n texts.

        Returns:
            (n, 512) L2-normalised embeddings.

        Raises:
            QueryError: a text without a Latin letter or digit.
        """
        return embed_ids(self.tower, self.words(texts))


@torch.no_grad()
def embed_ids(tower: TextTower, ids: Tensor, batch: int = 500) -> Tensor:
    """Embed tokenized texts in batches.

    Args:
        tower: the weights, on any device.
        ids: (n, longest) word pieces.
        batch: texts in one forward pass.

    Returns:
        (n, 512) embeddings on the CPU.
    """
    device = next(tower.parameters()).device
    return torch.cat([tower(part.to(device)).float().cpu() for part in torch.split(ids, batch)])
