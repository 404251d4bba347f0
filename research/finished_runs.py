"""What the trainings of a comparison came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiosep.training.engine.run_log import read_log


def last_validation(run: Path) -> dict[str, Any] | None:
    """The numbers of the last validation of a run, with "steps" and "items"; None if there was none.

    Args:
        run: folder of the run.
    """
    log = run / "log.jsonl"
    lines = read_log(log) if log.is_file() else []
    validations = [line for line in lines if line["event"] == "validation"]
    if not validations:
        return None
    items = [line["items"] for line in lines if line["event"] == "train"]
    return validations[-1] | {"steps": validations[-1]["step"], "items": items[-1] if items else 0}
