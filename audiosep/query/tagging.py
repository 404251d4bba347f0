"""Queries as the tagger of a model scores them: which of them may be heard, and when their targets sound."""

from __future__ import annotations

from dataclasses import replace

import torch

from audiosep.hearing.activity import HOP, ActivityMeter
from audiosep.hearing.describing import Candidates
from audiosep.hearing.score_track import Listen, ScoreTrack, SoundScores, TagScores
from audiosep.hearing.vocabulary import Vocabulary
from audiosep.query.prototypes import Prototypes
from audiosep.query.resolve import Resolved


def candidates_of(resolved: Resolved, prototypes: Prototypes, known: Vocabulary | None) -> Candidates | None:
    """Queries as candidates for what is heard in a recording.

    Args:
        resolved: the queries, all of words.
        prototypes: of the encoder.
        known: the vocabulary, if the queries are its names; None for words of the user's own.

    Returns:
        The candidates; None where the tagger cannot score all of them.
    """
    tags, places = _scored(resolved, prototypes)
    if tags is None or None in places:
        return None
    recordings = torch.stack([one.memory for one in resolved.recalled if one is not None])
    scores = SoundScores(tags, recordings, prototypes.sounds.recordings)
    if known is None:
        return Candidates(resolved.names, tuple(range(len(resolved.names))), scores)
    longest = max(map(len, known.members))
    classes = torch.tensor([(*members, *members[:1] * (longest - len(members))) for members in known.members])
    spill = prototypes.spill(tags.weights).numpy()
    scores = replace(scores, tags=replace(tags, classes=classes))
    return Candidates(known.names, known.families, scores, spill)


def activity_meter(
    resolved: Resolved, prototypes: Prototypes | None, listen: Listen, rate: int, sample_rate: int
) -> ActivityMeter:
    """Measures when the targets of queries sound, by their energy and, where the tagger knows them, by its scores.

    Args:
        resolved: the queries.
        prototypes: of the encoder; None without.
        listen: of the model.
        rate: of the model, Hz.
        sample_rate: of the recording, Hz.
    """
    count = len(resolved.names)
    scores, places = (None, []) if prototypes is None else _scored(resolved, prototypes)
    if scores is None:
        return ActivityMeter(count, sample_rate)
    return ActivityMeter(count, sample_rate, ScoreTrack(listen, scores, rate, HOP), places)


def _scored(resolved: Resolved, prototypes: Prototypes) -> tuple[TagScores | None, list[int | None]]:
    """Scores of the queries that have tags, and each query's place among them; None for one without."""
    tags = [None if one is None else one.tags for one in resolved.recalled]
    known = [one for one in tags if one is not None]
    order = iter(range(len(known)))
    places = [None if one is None else next(order) for one in tags]
    return (prototypes.tag_scores(torch.stack(known)) if known else None), places
