"""The audiosep command with the tests' small models in its registry, for tests that need a process of its own.

    python tests/command.py separate song.wav piano --model FOLDER

With STAND_IN_FOR_MINI=FOLDER in the environment, that folder is what load("mini") finds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from audiosep import query
from audiosep.cli import main
from audiosep.models.families import FAMILIES
from audiosep.weights import catalogue


def prepare() -> None:
    """Register the small models in this process."""
    FAMILIES["tiny"] = "doubles:TinyModel"
    query.ENCODERS["fake"] = "doubles:FakeEncoder"
    if stand_in := os.environ.get("STAND_IN_FOR_MINI"):
        catalogue.installed = lambda name: Path(stand_in) if name == "mini" else None


if __name__ == "__main__":
    prepare()
    sys.exit(main())
