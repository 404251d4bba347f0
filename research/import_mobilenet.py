"""Where the audio tower's training starts: weights of EfficientAT's mn04_as in the shape of `models.mobilenet`.

`python -m research.import_mobilenet SOURCE OUT` writes `listener.safetensors` and its `config.json`, which the tasks
`audio` and `contrastive` start from. SOURCE is the published network as TorchScript, or a state dict of it with the
same names. Convolutions, normalisations and the tagging head are copied; the joint head and the features from before
the last stage start fresh.

mn04_as: Florian Schmid, Khaled Koutini, Gerhard Widmer, github.com/fschmid56/EfficientAT, MIT; trained on AudioSet.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.models.mobilenet import MobileNetConfig, MobileNetTower
from audiosep.training.tower_files import export_listener

_LAYERS = {
    "0.weight": "conv.weight",
    "1.weight": "norm.weight",
    "1.bias": "norm.bias",
    "1.running_mean": "norm.running_mean",
    "1.running_var": "norm.running_var",
    "1.num_batches_tracked": "norm.num_batches_tracked",
}
_FRESH = ("joint.", "fine.")


def names(tower: MobileNetTower) -> dict[str, str]:
    """The tower's name of each weight -> the published one."""
    found: dict[str, str] = {}

    def layer(ours: str, theirs: str) -> None:
        found.update({f"{ours}.{mine}": f"{theirs}.{its}" for its, mine in _LAYERS.items()})

    layer("stem", "m.features.0")
    for number, block in enumerate(tower.blocks):
        parts = [name for name in ("expand", "depthwise", "squeeze", "project") if getattr(block, name) is not None]
        for place, part in enumerate(parts):
            ours, theirs = f"blocks.{number}.{part}", f"m.features.{number + 1}.block.{place}"
            if part != "squeeze":
                layer(ours, theirs)
                continue
            for mine, its in (("down", "fc1"), ("up", "fc2")):
                for kind in ("weight", "bias"):
                    found[f"{ours}.{mine}.{kind}"] = f"{theirs}.conc_se_layers.0.{its}.{kind}"
    layer("features", f"m.features.{len(tower.blocks) + 1}")
    for ours, theirs in (("tags.hidden", "m.classifier.2"), ("tags.out", "m.classifier.5")):
        found |= {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
    return found


def load_published(tower: MobileNetTower, published: Mapping[str, Tensor]) -> None:
    """Copy the published weights; kernels turn, because there the first axis of a map is frequency.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    state = tower.state_dict()
    known = names(tower)
    left = [name for name in state if name not in known and not name.startswith(_FRESH)]
    assert not left, left
    for ours, theirs in known.items():
        if theirs not in published:
            raise ModelError(f"no weight {theirs!r}: give mn04_as, or a state dict with its names")
        weight = published[theirs].detach()
        weight = weight.transpose(2, 3) if weight.ndim == 4 else weight
        if weight.shape != state[ours].shape:
            raise ModelError(f"{theirs} has the shape {tuple(weight.shape)}, not {tuple(state[ours].shape)}")
        state[ours] = weight.contiguous()
    tower.load_state_dict(state)


def read_published(path: Path) -> Mapping[str, Tensor]:
    """State dict of a TorchScript file or of a file of weights.

    Raises:
        ModelError: it is neither.
    """
    try:
        module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise ModelError(f"{path} holds no state dict") from None
        return state
    weights: Mapping[str, Tensor] = module.state_dict()
    return weights


def main() -> None:
    """Command line: see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.import_mobilenet", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, help="folder to write; made if missing")
    parser.add_argument("--seed", type=int, default=0, help="of the weights that start fresh")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    tower = MobileNetTower(MobileNetConfig())
    load_published(tower, read_published(args.source))
    args.out.mkdir(parents=True, exist_ok=True)
    export_listener(tower, args.out)


if __name__ == "__main__":
    main()
