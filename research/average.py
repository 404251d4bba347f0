"""Average a model with one that was trained on from it: the new data is learned, and less of the old is forgotten.

    python -m research.average checkpoints/mini RUN/model --share 0.5 --runs separator.json \\
        --manifest manifest.jsonl --card research/mini-card.md

After Wortsman and others (2022, "Robust fine-tuning of zero-shot models"): between the weights before and after a
training there are often some that are better than both. Parts that the run lacks stay as they are.
The folder's `train.json` gets the configurations of the runs, and its model card is made anew, with what they were
trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from audiosep.atomic import write_text
from audiosep.data.manifest import read_manifest
from audiosep.errors import ConfigError
from audiosep.weights.checkpoint import load_model, save_model
from research.assemble import TRAINED_ON, card_of, run_configs


@torch.no_grad()
def average(model: nn.Module, trained: nn.Module, share: float) -> None:
    """Move the weights and statistics of a model towards those of another.

    Args:
        model: that is changed.
        trained: with the same parts, or some of them.
        share: of `trained` in the mean, 0 to 1.

    Raises:
        ConfigError: `trained` has parts or sizes that `model` has not, or no share.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"--share must lie in 0..1, got {share}")
    state = model.state_dict()
    for name, value in trained.state_dict().items():
        if name not in state or state[name].shape != value.shape:
            raise ConfigError(f"{name} is not the same part of both models: average a model with a run that it began")
        if state[name].is_floating_point():
            state[name].lerp_(value.to(state[name]), share)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.average", description=__doc__)
    parser.add_argument("model", type=Path, help="folder, whose weights are replaced by the mean")
    parser.add_argument("run", type=Path, help="model folder of the run that started from it")
    parser.add_argument("--share", type=float, default=0.5, help="of the run in the mean [%(default)s]")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="configurations of the run, and before it")
    parser.add_argument("--manifest", type=Path, required=True, help="that the run was trained on")
    parser.add_argument("--card", type=Path, required=True, help=f"model card with {TRAINED_ON} where the table goes")
    options = parser.parse_args(arguments)
    card, recipes = options.model / "MODEL_CARD.md", options.model / "train.json"
    text = card_of(options.card, read_manifest(options.manifest), card)  # fails before anything is written
    model, config = load_model(options.model)
    average(model, load_model(options.run)[0], options.share)
    extra = {key: value for key, value in config.items() if key not in ("format", "family", "model", "query")}
    save_model(options.model, model, query=config["query"], extra=extra, half=True)
    write_text(card, text)
    known = json.loads(recipes.read_text(encoding="utf-8"))
    write_text(recipes, json.dumps(known | run_configs(options.runs), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
