"""Renaming the tensors of a checkpoint, with a check that none is missing or left over."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from audiosep.errors import ModelError


def rename(
    state: Mapping[str, Tensor], names: Mapping[str, str], expected: Mapping[str, Tensor], unused: re.Pattern[str]
) -> dict[str, Tensor]:
    """The tensors of `state` under our names.

    Args:
        state: the checkpoint's name -> tensor.
        names: the checkpoint's name -> our name, for every tensor that we need.
        expected: our name -> a tensor of the right shape.
        unused: matches the start of the checkpoint's names that we do not need.

    Raises:
        ModelError: a tensor is missing, unknown or of the wrong shape; the message names it.
    """
    missing = sorted(set(names) - set(state))
    unknown = sorted(key for key in state if key not in names and not unused.match(key))
    for what, keys in (("is missing", missing), ("is unknown", unknown)):
        if keys:
            more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
            raise ModelError(f"the checkpoint does not fit: key {keys[0]!r} {what}{more}")
    renamed = {ours: state[theirs] for theirs, ours in names.items()}
    for theirs, ours in names.items():
        if renamed[ours].shape != expected[ours].shape:
            raise ModelError(
                f"the checkpoint does not fit: {theirs!r} has shape {tuple(renamed[ours].shape)}, "
                f"expected {tuple(expected[ours].shape)}"
            )
    return renamed
