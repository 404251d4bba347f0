"""Queries and the encoders that turn them into embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosep.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from audiosep.query.encoder import QueryEncoder
    from audiosep.query.prototypes import Prototypes

ENCODERS = {
    "clap": "audiosep.query.clap:ClapEncoder",
    "laion": "audiosep.query.laion:LaionEncoder",
    "mini": "audiosep.query.mini:MiniEncoder",
}


def load_encoder(config: Mapping[str, Any], folder: Path, network: nn.Module | None = None) -> QueryEncoder:
    """The query encoder that a model's `config.json` names.

    Args:
        config: the "query" object: {"encoder": "mini" | "clap" | "laion", ...}.
        folder: the model's folder; relative paths in `config` start there.
        network: the model of the folder, whose parts the encoder may share; None for weights of its own.

    Raises:
        ConfigError: an unknown encoder.
    """
    kind = config.get("encoder") if isinstance(config, Mapping) else None
    if kind not in ENCODERS:
        raise ConfigError(f"query.encoder: {kind!r} is not one of {', '.join(map(repr, ENCODERS))}")
    module, name = ENCODERS[kind].split(":")
    kind_of_encoder = getattr(importlib.import_module(module), name)
    encoder: QueryEncoder = kind_of_encoder.from_config(config, folder, network)
    return encoder


def load_prototypes(encoder: QueryEncoder | None, folder: Path) -> Prototypes | None:
    """The prototypes in a model's folder; None where it has none or takes no queries.

    Args:
        encoder: of the model.
        folder: of the model.

    Raises:
        ModelError: the file is damaged, or was made with another encoder.
    """
    from audiosep.query.prototypes import PROTOTYPES, Prototypes

    path = folder / PROTOTYPES
    if encoder is None or not path.exists():
        return None
    prototypes = Prototypes.load(path)
    prototypes.check(encoder, path)
    return prototypes
