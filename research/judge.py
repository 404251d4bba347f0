"""Put a tower into a model as its judge, which weighs several estimates of one sound (`models.query_ways`).

    python -m research.judge checkpoints/mini --tower RUN/best

The tower is one that a run of the task "audio" exported. Prototypes have to be made again afterwards
(`python -m research.prototypes`), because they hold what the judge hears.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.models.mobilenet import MobileNetConfig, MobileNetTower
from audiosep.training.tower_files import load_listener
from audiosep.weights.checkpoint import load_model, save_model


def with_judge(model: Hybrid, tower: Path) -> Hybrid:
    """The model with another judge.

    Args:
        model: with or without a judge.
        tower: folder of a MobileNet tower, see `load_listener`.
    """
    whole = MobileNetTower()
    load_listener(whole, tower)
    judged = Hybrid(replace(model.config, judge=replace(MobileNetConfig(), detail=0)))
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("judge.")}
    kept = {key: value for key, value in whole.state_dict().items() if not key.startswith(("joint.", "fine."))}
    judged.load_state_dict({**state, **{f"judge.{key}": value for key, value in kept.items()}})
    return judged.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.judge", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model, changed in place")
    parser.add_argument("--tower", type=Path, required=True)
    options = parser.parse_args(arguments)
    model, config = load_model(options.model)
    if not isinstance(model, Hybrid):
        raise ConfigError(f"{options.model} is no hybrid")
    extra = {key: value for key, value in config.items() if key not in ("format", "family", "model", "query")}
    save_model(options.model, with_judge(model, options.tower), query=config["query"], extra=extra, half=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
