"""Evaluation: benchmarks, baselines, scores, reports and listening tests; needs scipy (the extra `eval`)."""

import importlib.util

from audiosep.errors import DependencyError, install_extra

if importlib.util.find_spec("scipy") is None:
    raise DependencyError(f"evaluation needs scipy: {install_extra('eval')}")
