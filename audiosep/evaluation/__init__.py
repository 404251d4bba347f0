"""Evaluation: benchmarks, baselines, scores, reports and listening tests; needs scipy (the extra `eval`)."""

import importlib.util

from audiosep.errors import DependencyError

if importlib.util.find_spec("scipy") is None:
    raise DependencyError("evaluation needs scipy: pip install 'audiosep[eval]'")
