"""Counting dead parts of a network: channels behind a ReLU that are zero for every input, and layers fed only by those.

A dead part gets no gradient, so it stays dead, and the loss does not show it because the rest of the network learns
to do without it. Each validation therefore counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class DeadChannels:
    """Records which input channels of a model's trained layers are ever different from zero.

    ```
    with DeadChannels(model) as channels:
        model(...)  # several inputs: a channel may be zero for one and active for another
    channels.share, channels.zero_layers
    ```

    Args:
        model: its layers without trained weights are not watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._active: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self._model.named_modules():
            if isinstance(layer, LAYERS) and any(weight.requires_grad for weight in layer.parameters()):
                self._handles.append(layer.register_forward_pre_hook(self._hook(name, layer), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str, layer: nn.Module) -> Callable[..., None]:
        assert isinstance(layer.weight, Tensor)
        axis = -1 if isinstance(layer, nn.Linear) else 1 - layer.weight.ndim

        def record(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            x = (inputs[0] if inputs else named["input"]).detach()
            active = (x != 0) & x.isfinite()
            others = [d for d in range(x.ndim) if d != axis % x.ndim]
            active = active.any(dim=others) if others else active
            self._active[name] = self._active[name] | active if name in self._active else active

        return record

    def active(self) -> dict[str, list[bool]]:
        """Return for each layer which of its input channels were ever different from zero."""
        return {name: channels.tolist() for name, channels in self._active.items()}

    def merge(self, others: Iterable[Mapping[str, Sequence[bool]]]) -> None:
        """Add what other processes recorded.

        Args:
            others: the `active()` of each.
        """
        for other in others:
            for name, channels in other.items():
                mine, theirs = self._active.get(name), torch.tensor(channels)
                self._active[name] = theirs if mine is None else mine.cpu() | theirs

    @property
    def share(self) -> float:
        """Share of the input channels that were always zero, 0..1; 0 if no layer was used."""
        channels = [channels.cpu() for channels in self._active.values()]
        return float(1 - torch.cat(channels).float().mean()) if channels else 0.0

    @property
    def zero_layers(self) -> list[str]:
        """Names of the layers whose inputs were always zero."""
        return [name for name, channels in self._active.items() if not bool(channels.any())]
