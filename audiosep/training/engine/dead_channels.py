"""Which parts of a network have died: channels behind a ReLU that no input wakes, and layers that hear only those.

A dead part gets no gradient, so it stays dead, while the rest of the network learns to do without: the loss shows
nothing. Validation therefore counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Health:
    """Watches what reaches the layers of a model that learn, while it is used.

    ```
    with Health(model) as health:
        model(...)  # several inputs: a channel that rests in one may wake in another
    health.dead, health.silent
    ```
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._awake: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self._model.named_modules():
            if isinstance(layer, LAYERS) and any(weight.requires_grad for weight in layer.parameters()):
                self._handles.append(layer.register_forward_pre_hook(self._watch(name, layer), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, name: str, layer: nn.Module) -> Callable[..., None]:
        assert isinstance(layer.weight, Tensor)
        axis = -1 if isinstance(layer, nn.Linear) else 1 - layer.weight.ndim

        def look(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            x = (inputs[0] if inputs else named["input"]).detach()
            awake = (x != 0) & x.isfinite()
            others = [d for d in range(x.ndim) if d != axis % x.ndim]
            awake = awake.any(dim=others) if others else awake
            self._awake[name] = self._awake[name] | awake if name in self._awake else awake

        return look

    def awake(self) -> dict[str, list[bool]]:
        """Layer -> which channels that reach it were ever anything but zero."""
        return {name: channels.tolist() for name, channels in self._awake.items()}

    def join(self, others: Iterable[Mapping[str, Sequence[bool]]]) -> None:
        """Count what other processes saw, by their `awake()`."""
        for other in others:
            for name, channels in other.items():
                mine, theirs = self._awake.get(name), torch.tensor(channels)
                self._awake[name] = theirs if mine is None else mine.cpu() | theirs

    @property
    def dead(self) -> float:
        """Share of the channels that reach a layer and were zero all the time (0 when nothing was watched)."""
        channels = [channels.cpu() for channels in self._awake.values()]
        return float(1 - torch.cat(channels).float().mean()) if channels else 0.0

    @property
    def silent(self) -> list[str]:
        """Names of the layers that heard nothing but zeros."""
        return [name for name, channels in self._awake.items() if not bool(channels.any())]
