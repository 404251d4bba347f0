"""The joint 512-d space of the embedded CLAP: an isometric image of the sentence teacher's 384-d space.

The map is fixed before any training, so the separator, the text tower and the audio tower can be trained at the same
time, and their embeddings lie in the same space.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TEACHER_DIMENSION = 384
DIMENSION = 512
_SEED = 20261120


@lru_cache(maxsize=1)
def isometry() -> Tensor:
    """(384, 512) matrix with orthonormal rows, so that `x @ isometry()` keeps all lengths and angles.

    The numbers come from a seeded normal matrix and its QR factors with the signs fixed, which makes them unique.
    """
    generator = torch.Generator().manual_seed(_SEED)
    random = torch.randn(DIMENSION, TEACHER_DIMENSION, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(random)
    rows: Tensor = (q * r.diagonal().sign()).T.float().contiguous()
    return rows
