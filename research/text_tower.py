"""Measure a text tower against its teacher on all phrases, prompts and synonyms that it was never trained on.

`python -m research.text_tower --config text.json --weights FOLDER`: a run's `model/`, or a model folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audiosep.training.run_config import read_run_config
from audiosep.training.tower_files import read_text_tower
from audiosep.training.towers.teachers import SentenceTeacher
from audiosep.training.towers.text_data import prepare
from audiosep.training.towers.text_distillation import TextConfig
from audiosep.training.towers.text_validation import TextValidation
from audiosep.weights import configs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.text_tower", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the training configuration (JSON)")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the tower to measure")
    options = parser.parse_args(arguments)
    config = configs.from_dict(TextConfig, read_run_config(options.config).task_options)
    data = prepare(config.data, config.model.vocabulary, to_train=False)
    teacher = SentenceTeacher(config.data.teacher or SentenceTeacher.installed())
    scores = TextValidation(data, teacher)(*read_text_tower(options.weights))
    sys.stdout.write(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
