"""The contrastive loss that aligns audio and text embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

EXCLUDED = -1e4  # the logit of a pair that takes no part in the softmax


def info_nce(logits: Tensor, positive: Tensor, dim: int) -> Tensor:
    """Mean of -log(share of the positives in the softmax along `dim`).

    InfoNCE (van den Oord et al., 2018) with any number of positives (Miech et al., 2020, MIL-NCE).

    Args:
        logits: (clips, texts).
        positive: bool, same shape; at least one along `dim`.
        dim: axis of the softmax.
    """
    everything = torch.logsumexp(logits, dim)
    return (everything - torch.logsumexp(logits.masked_fill(~positive, EXCLUDED), dim)).mean()
