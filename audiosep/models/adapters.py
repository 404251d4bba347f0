"""Adapters: a small file of weight changes that teaches a model new sounds and leaves its own file alone.

Every convolution and linear layer gets a low-rank change of its weight, W + b a (Hu et al., 2022: LoRA), of which the
FiLM layers are a part; scales and shifts (biases, normalisations) are trained directly. While training the changes are
parametrizations; for use they are added to the weights, so that they cost nothing, and several add up.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiosep.atomic import write_bytes
from audiosep.errors import ConfigError, ModelError
from audiosep.models.adapter_file import ADAPTER

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
LARGEST = 5_000_000
_BASE = "_adapter_base"


@dataclass(frozen=True)
class AdapterConfig:
    """Size of an adapter.

    Attributes:
        rank: of the change of each weight.
        vectors: train biases and the scales and shifts of normalisations too.
        exclude: names of submodules that stay as they are, such as the listener, whose embeddings are shared.
    """

    rank: int = 8
    vectors: bool = True
    exclude: tuple[str, ...] = ("listener",)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"adapter.rank must be at least 1, got {self.rank}")


class LowRank(nn.Module):
    """W -> W + b a, with W seen as (outputs, everything else). Starts as the identity.

    Args:
        weight: the weight to be changed.
        rank: of the change.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.a = nn.Parameter(torch.randn(rank, columns, device=weight.device) / math.sqrt(columns))
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        # Under autocast the small product would be rounded to 8 bits before it is added.
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.b @ self.a).view(weight.shape)


class Adapter:
    """An adapter being trained on a model: freezes the model, adds the trainable parts.

    Args:
        model: changed in place: only the adapter needs gradients afterwards.
        config: its size.

    Raises:
        ConfigError: the model has no layers to adapt, or the adapter would pass five million parameters.
    """

    def __init__(self, model: nn.Module, config: AdapterConfig | None = None) -> None:
        self.model = model
        self.config = config or AdapterConfig()
        self.base_hash = _base_hash(model)
        model.requires_grad_(False)
        self._layers = [name for name, _ in self._modules(LAYERS)]
        for name in self._layers:
            layer = model.get_submodule(name)
            change = LowRank(layer.weight, self.config.rank)  # type: ignore[arg-type]  # layers have weights
            parametrize.register_parametrization(layer, "weight", change, unsafe=True)
        self._vectors = {name: p.detach().clone() for name, p in self._vector_parameters()}
        for name in self._vectors:
            model.get_parameter(name).requires_grad_(True)
        count = sum(p.numel() for p in trainable_parameters(model))
        if not self._layers:
            raise ConfigError("this model has no convolution or linear layers to adapt")
        if count >= LARGEST:
            raise ConfigError(f"adapter.rank {self.config.rank} needs {count:,} parameters; the limit is {LARGEST:,}")

    def save(
        self, path: Path, *, base: str, about: Mapping[str, Any] | None = None, model: nn.Module | None = None
    ) -> None:
        """Write the adapter file (safetensors).

        Args:
            path: the file.
            base: name of the model it belongs to.
            about: further facts for the metadata, such as the labels; plain JSON.
            model: a copy of the adapted model to take the values from, such as averaged ones; by default the model.

        Raises:
            AudioSepError: the file cannot be written.
        """
        model = self.model if model is None else model
        tensors: dict[str, Tensor] = {}
        for name in self._layers:
            change = model.get_submodule(f"{name}.parametrizations.weight.0")
            assert isinstance(change, LowRank)
            tensors[f"{name}.weight.a"], tensors[f"{name}.weight.b"] = change.a, change.b
        for name, before in self._vectors.items():
            after = model.get_parameter(name)
            tensors[f"{name}.change"] = after - before.to(after.device)
        stored = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        facts = {ADAPTER: "1", "base": base, "base_hash": self.base_hash, "about": json.dumps(dict(about or {}))}
        write_bytes(path, save(stored, metadata=facts))

    def merge(self) -> None:
        """Add the changes to the weights and take the trainable parts away: a plain model again."""
        for name in self._layers:
            parametrize.remove_parametrizations(self.model.get_submodule(name), "weight", leave_parametrized=True)
        self.model.requires_grad_(True)
        setattr(self.model, _BASE, self.base_hash)

    def _modules(self, kinds: tuple[type[nn.Module], ...]) -> Iterator[tuple[str, nn.Module]]:
        for name, module in self.model.named_modules():
            inside = any(name == part or name.startswith(f"{part}.") for part in self.config.exclude)
            if isinstance(module, kinds) and not inside:
                yield name, module

    def _vector_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, module in self._modules((*LAYERS, *NORMS)) if self.config.vectors else ():
            for key, parameter in module.named_parameters(recurse=False):
                if key == "bias" or isinstance(module, NORMS):
                    yield f"{name}.{key}", parameter


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training will change."""
    return [p for p in model.parameters() if p.requires_grad]


def apply_adapter(model: nn.Module, path: Path | str) -> None:
    """Add an adapter's changes to the weights of its base model; several adapters of one base add up.

    Args:
        model: the base model in float32, changed in place.
        path: file written by `Adapter.save` (`audiosep finetune`).

    Raises:
        ModelError: no adapter file, or one of another base.
    """
    path = Path(path)
    facts, tensors = _read(path)
    base = _base_hash(model)
    if facts["base_hash"] != base:
        raise ModelError(
            f"{path} was made for {facts['base']!r} with weights {facts['base_hash'][:12]}, this model has "
            f"{base[:12]}: load the base it was made for, or fine-tune again"
        )
    with torch.no_grad():
        for name, change in _changes(tensors):
            try:
                weight = model.get_parameter(name)
            except AttributeError as error:
                raise ModelError(f"{path}: the model has no weight {name!r}; load the base it was made for") from error
            weight.add_(change.view(weight.shape).to(weight))
    setattr(model, _BASE, base)


def weights_hash(model: nn.Module) -> str:
    """sha256 of a model's weights as they are in half precision, so that storing them in half does not change it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu()
        data = data.half() if data.is_floating_point() else data
        digest.update(f"{name}{tuple(data.shape)}".encode())
        digest.update(data.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _base_hash(model: nn.Module) -> str:
    # Once an adapter is in the weights they no longer tell which base they came from.
    known: str | None = getattr(model, _BASE, None)
    return known or weights_hash(model)


def _changes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.endswith(".change"):
            yield name.removesuffix(".change"), tensor
        elif name.endswith(".a"):
            yield name.removesuffix(".a"), tensors[f"{name.removesuffix('.a')}.b"] @ tensor


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of an adapter file."""
    if not path.is_file():
        raise ModelError(f"{path}: no such adapter file; `audiosep finetune` makes one")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
    except SafetensorError as error:
        raise ModelError(f"{path}: no readable adapter file ({error}); fine-tune again") from error
    if facts.get(ADAPTER) != "1":
        raise ModelError(f"{path} is no adapter file; `audiosep finetune` makes one")
    return facts, tensors
