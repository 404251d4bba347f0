"""A mixture that is asked for a sound which prototypes know, for the fits of what estimates are weighed by."""

from __future__ import annotations

import torch
from torch import Tensor

from audiosep.models.estimates import MixtureQueries
from audiosep.models.hybrid import Hybrid
from audiosep.models.query_ways import Ways
from audiosep.models.stft import mean_power_of
from audiosep.query.resolve import Resolved, resolve
from audiosep.separator import Separator


def known_query(separator: Separator, text: str) -> tuple[Resolved, Ways] | None:
    """A query, and its ways at the quality "balanced"; None where no known sound is like the text.

    Args:
        separator: with prototypes.
        text: names the sound.
    """
    assert separator.encoder is not None
    resolved = resolve([text], separator.encoder, prototypes=separator.prototypes)
    (ways,) = resolved.ways("balanced", separator.model.stem_names)
    return None if ways is None else (resolved, ways)


def encoded(separator: Separator, mix: Tensor, resolved: Resolved) -> MixtureQueries:
    """A query of one mixture, which is encoded in the precision of the context.

    Args:
        separator: with a hybrid network.
        mix: (samples,) at the model's rate.
        resolved: one query.
    """
    model = separator.model
    assert isinstance(model, Hybrid)
    features = model.encode(model.energies(mean_power_of(mix[None, None], model.n_fft, model.hop)))
    return MixtureQueries(model, features, resolved.embeddings, resolved.negatives, torch.zeros(1).long())
