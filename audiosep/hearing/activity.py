"""When a separated target sounds: its energy over time, how sure it is that it is there, and its spans.

Four things speak for a target in a frame of 20 ms: its level against its own loudest frames, its share of the mixture,
what the tagger hears in the mixture around it, and how sure the model is that the recording has it at all. A logistic
regression of them on held-back mixtures gives the presence (`python -m research.hearing`, docs/describe.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audiosep.hearing.score_track import ScoreTrack, at_frames
from audiosep.hearing.spans import Hysteresis, Span, spans_of

Curve = NDArray[np.float32]

HOP = 1.0  # seconds between two values of the tagger; twice as many tell spans no better
_FRAME = 0.02  # seconds
_STEP = 5  # frames of a value of the curves that users get
_LOUD = 15  # the level is measured against the frame that so many are as loud as
_QUIETEST = -60.0  # dB
_SILENCE = 1e-10  # energy
SILENT_LEVEL = -100.0  # dB, of frames without sound
_SURE = (-8.3, 3.0)  # logit of the model's presence, from and to which it counts
# Weights of level in dB, share in dB, the tagger's score, the logit of the model's presence, and the constant: with all
# of them, without the tagger, and without both.
_WEIGHTS = (
    (0.068, 0.042, 0.133, 0.326, -0.22),
    (0.072, 0.071, 0.0, 0.448, 0.453),
    (0.073, 0.103, 0.0, 0.0, 1.831),
)
_MARGIN = 0.05  # seconds by which spans are longer, for the edges with which a target is taken out within them
RULE = Hysteresis(on=0.5, off=0.2, gap=0.3, least=0.1)
# Spans miss quiet parts of a target, which would stay in a recording that it is taken out of.
_POSSIBLE = Hysteresis(on=0.3, off=0.1, gap=0.3, least=0.1)


@dataclass(frozen=True, eq=False)
class Activity:
    """When a target sounds.

    Attributes:
        spans: where it does.
        extent: where removal takes it out: the spans, and what is beside and between them down to a presence of 10%;
            nothing where there are no spans.
        step: seconds between two values of the curves.
        energy: (steps,) RMS level of the target, dB of full scale, -100 for silence.
        presence: (steps,) how sure it is that the target sounds there, 0 to 1.
    """

    spans: tuple[Span, ...]
    extent: tuple[Span, ...] = field(repr=False)
    step: float
    energy: Curve = field(repr=False)
    presence: Curve = field(repr=False)


class ActivityMeter:
    """Measures targets while they are separated.

    Args:
        targets: their number.
        sample_rate: of the recording, Hz.
        tags: track of the tagger's scores for some of the targets; None without a tagger.
        scored: of each target its place in the scores of `tags`; None for those that have none.
    """

    def __init__(
        self, targets: int, sample_rate: int, tags: ScoreTrack | None = None, scored: Sequence[int | None] = ()
    ) -> None:
        self._size = max(1, round(_FRAME * sample_rate))
        self._step = self._size / sample_rate
        self._rate = sample_rate
        self._tags, self._scored = tags, list(scored) or [None] * targets
        self._values: list[Curve] = []
        self._energies: list[Curve] = []
        self._rest = np.zeros((targets + 1, 0), np.float32)
        self._samples = 0
        self._whole = self._rest
        self._found: list[Activity] | None = None

    def hear(self, low: NDArray[np.float32]) -> None:
        """Take a block of the mixture, (channels, n) at the model's rate."""
        if self._tags is not None:
            self._values.append(self._tags.push(low))

    def measure(self, mix: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Take a block of the mixture, (channels, n), and of its targets, (targets, channels, n)."""
        self._samples += mix.shape[1]
        # One after the other, without their squares in memory.
        power = np.stack([np.einsum("cn,cn->n", x, x) / len(x) for x in (mix, *targets)])
        power = np.concatenate([self._rest, power], 1)
        whole = power.shape[1] // self._size
        self._energies.append(power[:, : whole * self._size].reshape(len(power), whole, self._size).mean(2))
        self._rest = power[:, whole * self._size :].copy()

    def finish(self, presence: Sequence[float] | None = None) -> list[Activity]:
        """End the recording.

        Args:
            presence: of each target, how sure the model is that the recording has it, 0 to 1; None where it does not
                say.

        Returns:
            The activity of each target, the same each time.
        """
        if self._found is None:
            features = self.features(presence)
            kinds = [2 if presence is None else int(place is None) for place in self._scored]
            self._found = [
                self._activity(evidence(one, kind), energies)
                for one, kind, energies in zip(features, kinds, self._whole[1:], strict=True)
            ]
        return self._found

    def features(self, presence: Sequence[float] | None = None) -> list[Curve]:
        """End the recording.

        Args:
            presence: as in `finish`.

        Returns:
            Of each target (4, frames), see `features_of`.
        """
        if self._tags is not None:
            self._values.append(self._tags.finish())
        if self._rest.shape[1]:
            self._energies.append(self._rest.mean(1, keepdims=True))
        self._whole = np.concatenate(self._energies, 1) if self._energies else self._rest
        values = np.concatenate(self._values) if self._values else None
        found = []
        for k, place in enumerate(self._scored):
            scores = None
            if place is not None and values is not None:
                scores = at_frames(values[:, place], HOP, self._whole.shape[1], self._step)
            sure = None if presence is None else float(presence[k])
            found.append(features_of(self._whole[1 + k], self._whole[0], scores, sure))
        return found

    def _activity(self, presence: Curve, energies: Curve) -> Activity:
        spans, extent = (self._with_margins(spans_of(presence, self._step, rule)) for rule in (RULE, _POSSIBLE))
        extent = extent if spans else ()
        level = 10 * np.log10(np.maximum(_pooled(energies), _SILENCE))
        return Activity(spans, extent, self._step * _STEP, level.astype(np.float32), _pooled(presence))

    def _with_margins(self, spans: Sequence[Span]) -> tuple[Span, ...]:
        seconds = self._samples / self._rate
        return tuple(
            Span(round(max(0.0, span.start - _MARGIN), 3), round(min(span.end + _MARGIN, seconds), 3)) for span in spans
        )


def evidence(features: Curve, kind: int) -> Curve:
    """How sure it is that a target sounds, frame by frame.

    Args:
        features: (4, frames), see `features_of`.
        kind: 0 with all of them, 1 without the tagger, 2 without the tagger and the model's presence.

    Returns:
        (frames,), 0 to 1; 0 in silence.
    """
    *weights, constant = _WEIGHTS[kind]
    logits = np.asarray(weights, np.float32) @ features + np.float32(constant)
    presence: Curve = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return np.where(features[0] > SILENT_LEVEL, presence, 0).astype(np.float32)


def features_of(target: Curve, mix: Curve, scores: Curve | None, sure: float | None) -> Curve:
    """What speaks for a target.

    Args:
        target: (frames,) energies.
        mix: (frames,) energies of the mixture.
        scores: (frames,) of the tagger; None without.
        sure: how sure the model is that the recording has the target, 0 to 1; None where it does not say.

    Returns:
        (4, frames): level against its loudest frames and share of the mixture in dB, score, and logit of the model's
        presence; zeros where there is none. In silence the level is `SILENT_LEVEL`.
    """
    loud = np.sort(target)[-min(_LOUD, len(target)) :][:1] if len(target) else np.ones(1, np.float32)
    level = 10 * np.log10((target + _SILENCE) / (loud + _SILENCE))
    share = 10 * np.log10((target + _SILENCE) / (mix + _SILENCE))
    logit = 0.0 if sure is None else float(np.clip(np.log((sure + 1e-9) / (1 - sure + 1e-9)), *_SURE))
    nothing = np.zeros_like(target)
    level = np.where(target > _SILENCE, np.clip(level, _QUIETEST, 10), SILENT_LEVEL)
    features = [level, np.clip(share, _QUIETEST, 10), nothing if scores is None else scores]
    return np.stack([*features, np.full_like(target, logit)]).astype(np.float32)


def _pooled(values: Curve) -> Curve:
    """Means of `_STEP` values."""
    pad = -len(values) % _STEP
    return np.pad(values, (0, pad), mode="edge").reshape(-1, _STEP).mean(1) if len(values) else values
