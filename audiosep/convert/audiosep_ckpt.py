"""The published AudioSep separator as a `ResUNet30`: sizes and names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from audiosep.convert.renaming import rename
from audiosep.errors import ModelError
from audiosep.models.resunet import ResUNet30, ResUNet30Config

SEPARATOR = "ss_model."
ENCODER = "query_encoder.model."

# What a checkpoint holds beyond the network: the Fourier transforms as frozen convolutions, and two layers of the
# decoder blocks that the published forward pass never calls.
UNUSED = re.compile(r"base\.i?stft\.|base\.decoder_block\d+\.bn2\.|film\.decoder_block\d+->beta2\.")

_OUTER = {"norm": "bn0", "input": "pre_conv", "head": "after_conv"}
_NORMS = {"norm": ("bn1", "beta1"), "norm1": ("bn1", "beta1"), "norm2": ("bn2", "beta2")}


def separator(state: Mapping[str, Tensor]) -> ResUNet30:
    """The network with the weights of a checkpoint.

    Args:
        state: the checkpoint's `base.*` and `film.*` tensors.

    Raises:
        ModelError: a key is missing, unknown or of the wrong shape; the message names it.
    """
    model = ResUNet30(_sizes(state)).eval()
    ours = model.state_dict()
    model.load_state_dict(rename(state, {published(key): key for key in ours}, ours, UNUSED), assign=True)
    return model


def published(key: str) -> str:
    """The published name of a tensor of `ResUNet30`.

    >>> published("encoder.0.norm1.query.weight")
    'film.encoder_block1->conv_block1->beta1.weight'
    >>> published("decoder.5.block.norm2.running_var")
    'base.decoder_block6.conv_block2.bn2.running_var'
    """
    match key.split("."):
        case ["encoder", level, *rest]:
            place = [f"encoder_block{int(level) + 1}", "conv_block1"]
        case ["bottleneck", *rest]:
            place = ["conv_block7a", "conv_block1"]
        case ["decoder", level, "block", *rest]:
            place = [f"decoder_block{int(level) + 1}", "conv_block2"]
        case ["decoder", level, *rest]:
            place = [f"decoder_block{int(level) + 1}"]
        case [layer, leaf]:
            return f"base.{_OUTER[layer]}.{leaf}"
    match rest:
        case [norm, "query", leaf]:
            return f"film.{'->'.join([*place, _NORMS[norm][1]])}.{leaf}"
        case [norm, leaf] if norm in _NORMS:
            return ".".join(["base", *place, _NORMS[norm][0], leaf])
        case ["up", leaf]:
            rest = ["conv1", leaf]
    return ".".join(["base", *place, *rest])


def _sizes(state: Mapping[str, Tensor]) -> ResUNet30Config:
    """The configuration whose tensors have the shapes of `state`; sample rate and hop are the published ones."""
    try:
        bins = state["base.bn0.weight"].shape[0]
        dimension = state["film.conv_block7a->conv_block1->beta1.weight"].shape[1]
        widths: list[int] = []
        while (key := f"base.encoder_block{len(widths) + 1}.conv_block1.conv2.weight") in state:
            widths.append(state[key].shape[0])
    except (KeyError, IndexError) as error:
        raise ModelError(f"not an AudioSep separator: {error} is missing or has the wrong shape") from error
    return ResUNet30Config(n_fft=2 * (bins - 1), dimension=dimension, widths=tuple(widths))
