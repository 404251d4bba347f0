"""The embedded CLAP: our own text tower and listener, read from a model's folder without hub or transformers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import ConfigError, QueryError
from audiosep.models.audio_tower import AudioTower
from audiosep.models.joint_space import DIMENSION
from audiosep.models.listener import ListenerConfig
from audiosep.models.text import TextTower, TextTowerConfig
from audiosep.models.towers import TowerConfig, build_tower
from audiosep.query.encoder import canary, example_at_rate
from audiosep.query.tokenizer import WordPieces
from audiosep.weights import configs
from audiosep.weights.checkpoint import SkipRandomWeights, load_into, load_model, load_state, save_state
from audiosep.weights.loaded_files import LoadedFiles

WEIGHTS, TOKENIZER = "clap.safetensors", "tokenizer.json"
_TABLE = "text.words.weight"
_PACKED = f"{_TABLE}.int8"
_BATCH = 64
# Recordings are embedded in pieces of this length, so that a long example needs no more memory than a short one.
_PIECE_SECONDS = 20.0
_SHORTEST_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class MiniConfig:
    """The "query" object of a model's `config.json`.

    Attributes:
        encoder: always "mini".
        name: of the weights.
        text: shape of the text tower.
        listener: shape of the audio tower; None where it is the listener of the model, which is stored with that.
    """

    encoder: str = "mini"
    name: str = "mini"
    text: TextTowerConfig = dataclasses.field(default_factory=TextTowerConfig)
    listener: TowerConfig | None = dataclasses.field(default_factory=ListenerConfig)


class MiniEncoder:
    """Embeddings of text and audio in the joint 512-d space, by two small networks of our own.

    Args:
        tower: the text tower.
        words: its tokenizer.
        listener: the audio tower.
        name: of the weights.
        read_tower: reads the text tower again after `release`; None where it is nowhere to be read.

    Raises:
        QueryError: the text tower gives the same embedding for different prompts.
    """

    dimension = DIMENSION

    def __init__(
        self,
        tower: TextTower,
        words: WordPieces,
        listener: AudioTower,
        name: str = "mini",
        read_tower: Callable[[], TextTower] | None = None,
    ) -> None:
        self.name = name
        self._tower: TextTower | None = tower.eval().requires_grad_(False)
        self._read_tower = read_tower
        self._lock = threading.Lock()
        self.words = words
        self.listener = listener.eval().requires_grad_(False)
        self.device = torch.device("cpu")
        canary(self)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], folder: Path, network: torch.nn.Module | None = None
    ) -> MiniEncoder:
        """Read `clap.safetensors` and `tokenizer.json` of a model's folder.

        Args:
            config: the "query" object of its `config.json`.
            folder: the model's.
            network: the model of the folder. Where the audio tower is its listener, the two share it: moved or changed
                with the one, it is with the other. None: the encoder has weights of its own.

        Raises:
            ConfigError: an unknown or missing key in `config`, or a model without the listener that is named.
            ModelError: a file is missing, damaged or does not fit the configuration.
        """
        shape = configs.from_dict(MiniConfig, config, "query")
        loaded = LoadedFiles.of(folder / WEIGHTS)
        # Training goes on from an encoder with weights of its own; nobody trains the one that a separator holds.
        parts = _read_parts(shape, folder, packed=network is not None)
        if shape.listener is None:
            parts["listener"] = _listener_of(load_model(folder)[0] if network is None else network)
        words = WordPieces.read(folder / TOKENIZER, shape.text.vocabulary)

        def read_tower() -> TextTower:
            loaded.check(shape.name)
            return _read_parts(shape, folder, packed=True)["text"]  # type: ignore[return-value]  # of a ModuleDict

        again = None if network is None else read_tower
        return cls(parts["text"], words, parts["listener"], shape.name, again)  # type: ignore[arg-type]  # of a ModuleDict

    @property
    def tower(self) -> TextTower:
        """The text tower; it is read again after `release`."""
        with self._lock:
            if self._tower is None:
                assert self._read_tower is not None  # see `release`
                self._tower = self._read_tower().eval().requires_grad_(False).to(self.device)
            return self._tower

    def release(self) -> None:
        """Release the text tower, where it can be read again; the next text does that."""
        with self._lock:
            if self._read_tower is not None:
                self._tower = None

    def save(self, folder: Path, *, with_listener: bool = True) -> dict[str, Any]:
        """Write the two files.

        Args:
            folder: the model's.
            with_listener: False where the audio tower is the listener of the model that is saved to the folder.

        Returns:
            The "query" object that `from_config` reads.
        """
        parts = torch.nn.ModuleDict({"text": self.tower})
        shape: TowerConfig | None = None
        if with_listener:
            parts["listener"] = self.listener
            assert isinstance(self.listener.config, TowerConfig)
            shape = self.listener.config
        save_state(folder / WEIGHTS, pack_table(parts.state_dict()), half=True)
        self.words.tokenizer.save(str(folder / TOKENIZER), pretty=False)
        return configs.to_dict(MiniConfig(name=self.name, text=self.tower.config, listener=shape))

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, 512) L2-normalised embeddings of n texts.

        Raises:
            QueryError: a text without a Latin letter or digit, or one that is too long.
        """
        if not texts:
            return torch.zeros(0, DIMENSION)
        tower, longest = self.tower, self.tower.config.length
        parts = []
        for start in range(0, len(texts), _BATCH):
            ids = self.words(texts[start : start + _BATCH])
            if ids.shape[1] > longest:
                raise QueryError(f"a query is longer than the {longest} word pieces that the model reads: shorten it")
            parts.append(tower(ids.to(self.device)))
        return torch.cat(parts)

    @torch.no_grad()
    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        """(n, 512) L2-normalised embeddings of n mono recordings, each (samples,) at `sample_rate` Hz.

        Raises:
            QueryError: a recording is empty or silent.
        """
        found = [self._embed(waveform, sample_rate) for waveform in waveforms]
        return torch.stack(found) if found else torch.zeros(0, DIMENSION)

    def to(self, device: torch.device | str) -> MiniEncoder:
        """Move the weights."""
        self.device = torch.device(device)
        with self._lock:
            if self._tower is not None:
                self._tower.to(self.device)
        self.listener.to(self.device)
        return self

    def _embed(self, waveform: Tensor, sample_rate: int) -> Tensor:
        rate = self.listener.config.sample_rate
        x = example_at_rate(waveform, sample_rate, rate)
        shortest = int(_SHORTEST_SECONDS * rate)
        if len(x) < shortest:
            x = x.repeat(-(-shortest // len(x)))
        pieces = [p for p in torch.split(x, int(_PIECE_SECONDS * rate)) if len(p) >= shortest]
        pooled = torch.zeros(self.listener.config.hidden, device=self.device)
        for piece in pieces:
            pooled += len(piece) * self.listener.pooled(self.listener.energies(piece[None].to(self.device)))[0]
        return F.normalize(self.listener.embed_pooled(pooled / sum(map(len, pieces))), dim=-1)


class PackedTable(torch.nn.Module):
    """An embedding table as `pack_table` stores it, in a quarter of the memory; the same numbers as unpacked.

    Args:
        rows: number of embeddings.
        width: of an embedding.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.ParameterDict()  # of the names in the file
        self.weight["int8"] = torch.nn.Parameter(torch.zeros(rows, width, dtype=torch.int8), requires_grad=False)
        self.weight["scale"] = torch.nn.Parameter(torch.zeros(rows), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) row numbers -> (..., width) embeddings."""
        rows: Tensor = self.weight["int8"][ids].float() * self.weight["scale"][ids][..., None]
        return rows


def _read_parts(shape: MiniConfig, folder: Path, *, packed: bool) -> torch.nn.ModuleDict:
    """The towers in `clap.safetensors`, "text" and maybe "listener"; `packed`: the table as it is stored.

    Raises:
        ModelError: the file is missing, damaged or does not fit the configuration.
    """
    state = load_state(folder / WEIGHTS)
    with SkipRandomWeights():
        tower = TextTower(shape.text)
        parts = torch.nn.ModuleDict({"text": tower})
        if shape.listener is not None:
            parts["listener"] = build_tower(shape.listener)
    if packed and _PACKED in state:
        tower.words = PackedTable(shape.text.vocabulary, shape.text.width)  # type: ignore[assignment]  # same use
    else:
        state = unpack_table(state)
    load_into(parts, state, folder / WEIGHTS)
    return parts


def _listener_of(network: torch.nn.Module) -> AudioTower:
    """The listener of a model.

    Raises:
        ConfigError: it has none.
    """
    listener = getattr(network, "listener", None)
    if not isinstance(listener, AudioTower):
        raise ConfigError("query.listener is null, which means the listener of the model, but the model has none")
    return listener


def pack_table(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the embedding table of word pieces, half of the text tower, as int8 with one scale a row.

    A state that is packed stays as it is.
    """
    packed = dict(state)
    if _PACKED in packed:
        return packed
    table = packed.pop(_TABLE).float()
    scale = table.abs().amax(1).clamp_min(1e-8) / 127
    packed[_PACKED] = (table / scale[:, None]).round().to(torch.int8)
    packed[f"{_TABLE}.scale"] = scale
    return packed


def unpack_table(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack_table`; a state that was never packed stays as it is."""
    unpacked = dict(state)
    if _PACKED in unpacked and f"{_TABLE}.scale" in unpacked:
        unpacked[_TABLE] = unpacked.pop(_PACKED).float() * unpacked.pop(f"{_TABLE}.scale")[:, None]
    return unpacked
