"""A separator for several recordings at once, each with its share of the CPU threads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from audiosep.cli.common import ModelOptions

if TYPE_CHECKING:
    from audiosep.separator import Separator


def load_for(jobs: int, model: ModelOptions, *, stems: str | None = None) -> tuple[Separator, int]:
    """Load a model for several recordings at once.

    Args:
        jobs: recordings at once, at most; 0 for as many as fit.
        model: which model, and what computes it.
        stems: another model, which gives stems.

    Returns:
        The separator, and how many recordings it separates at once.

    Raises:
        AudioSepError: as in `audiosep.load`.
    """
    shared, threads = _shares(jobs, model, stems)
    separator = replace(model, threads=threads).load(stems=stems)
    return separator, 1 if jobs == 0 and separator.device.type != "cpu" else shared


def _shares(jobs: int, model: ModelOptions, stems: str | None) -> tuple[int, int | None]:
    """How many recordings are separated at once, and the CPU threads of each; None for as many as there may be."""
    from audiosep.inference.parallel import jobs_that_fit
    from audiosep.inference.threads import available_cpus
    from audiosep.models.families import family_class
    from audiosep.weights.catalogue import locate
    from audiosep.weights.model_config import read_config

    if jobs == 1:
        return 1, model.threads
    cpus = model.threads or available_cpus()
    each = 0
    for name in filter(None, (model.model, stems)):
        config = read_config(locate(name))
        each = max(each, family_class(config["family"]).job_bytes(config["model"]) or 0)
    fitting = jobs_that_fit(jobs, cpus, job_bytes=each or None)
    return fitting, max(1, cpus // fitting)
