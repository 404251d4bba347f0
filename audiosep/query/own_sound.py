"""A sound that the user has named: what an encoder and a tagger made of its examples."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.audio import resample
from audiosep.audio.inputs import is_file, is_opened
from audiosep.audio.samples import Array
from audiosep.audio.spool import content_of, place_of
from audiosep.audio.synthetic import tone_and_noise
from audiosep.errors import AudioError, AudioSepError, InputError, ModelError, QueryError, counted
from audiosep.inference.devices import without_autocast
from audiosep.query.encoder import SAME, QueryEncoder, encoder_probe
from audiosep.query.example import Example, example_audio, excerpt
from audiosep.query.prototypes import Prototypes, Recalled

if TYPE_CHECKING:
    from audiosep.separator import Separator

WORD = 0.5  # how much the name counts beside the examples, which are certain
_SILENT = 1e-3  # peak
_SHORT = 0.05  # seconds
_TOLD = 20  # problems that a message lists


@dataclass(frozen=True, eq=False)
class Listening:
    """What a model makes of a fixed sound and text, by which its weights are recognised.

    Attributes:
        probe: (2, dimension), see `encoder_probe`.
        tags: (tags,) logits of the tagger; (0,) without one.
    """

    probe: Tensor
    tags: Tensor

    def same(self, other: Listening) -> bool:
        """Whether both are of the same weights, perhaps on different machines."""
        if self.probe.shape != other.probe.shape or self.tags.shape != other.tags.shape:
            return False
        alike = [(self.probe * other.probe).sum(-1).min()]
        if len(self.tags):
            alike.append(F.cosine_similarity(self.tags, other.tags, dim=0))
        return bool(torch.stack(alike).min() >= SAME)


@dataclass(frozen=True, eq=False)
class EmbeddedExample:
    """One example of a sound.

    Attributes:
        file: name of its file; "" for an array, and an opened file without a name.
        start: of the part that is meant, seconds.
        seconds: length of that part.
        embedding: (dimension,), L2-normalised.
        tags: (tags,) logits of the tagger; (0,) without one.
        audio: what was embedded of it, as Ogg Vorbis; b"" where it was not kept.
        digest: of its samples, by which a repeated example is known; "" where it is not known.
    """

    file: str
    start: float
    seconds: float
    embedding: Tensor
    tags: Tensor
    audio: bytes = b""
    digest: str = ""


@dataclass(frozen=True, eq=False)
class OwnSound:
    """A sound with a name of the user's own.

    Attributes:
        name: as the user wrote it.
        examples: of the sound.
        when: the last example was added, ISO 8601.
        listening: of the model that heard the examples.
    """

    name: str
    examples: tuple[EmbeddedExample, ...]
    when: str
    listening: Listening

    def with_examples(self, new: Sequence[EmbeddedExample]) -> OwnSound:
        """The sound with more examples; one that sounds as another does, sample for sample, counts once.

        Args:
            new: heard by the same model. Their audio is kept also where that of the same example was not.
        """
        examples = list(self.examples)
        for one in new:
            same = next((k for k, old in enumerate(examples) if one.digest and old.digest == one.digest), None)
            if same is None:
                examples.append(one)
            elif not examples[same].audio:
                examples[same] = replace(examples[same], audio=one.audio)
        return replace(self, examples=tuple(examples))

    def recall(self, text: Tensor, prototypes: Prototypes | None) -> Recalled:
        """What the examples sounded like, in the form of what prototypes recall.

        Args:
            text: (dimension,) embedding of the name.
            prototypes: of the model, which say what the tags mean; None without.
        """
        points = torch.stack([example.embedding for example in self.examples]).float()
        logits = torch.stack([example.tags for example in self.examples]).float().mean(0)
        tags = None if prototypes is None or not len(logits) else prototypes.weigh_tags(logits)
        memory = F.normalize(points.mean(0), dim=-1)
        labels = ((self.name, 1.0, len(self.examples)),)
        return Recalled(text, memory, tags, labels, word=WORD, own=True, prototypes=prototypes)


_listenings: WeakKeyDictionary[QueryEncoder, Listening] = WeakKeyDictionary()


@without_autocast()
@torch.inference_mode()
def listening_of(separator: Separator) -> Listening:
    """What a separator's encoder and tagger make of a fixed sound and text.

    Args:
        separator: with a query encoder.

    Raises:
        ModelError: it takes no examples of sounds.
    """
    encoder = _encoder(separator)
    if encoder not in _listenings:
        sound = torch.from_numpy(tone_and_noise(separator.sample_rate, separator.sample_rate)[0])
        _listenings[encoder] = Listening(encoder_probe(encoder).clone(), _tags(separator, sound))
    return _listenings[encoder]


def hear(
    separator: Separator, examples: Sequence[tuple[Example, tuple[float, float] | None]], *, keep_audio: bool
) -> tuple[EmbeddedExample, ...]:
    """Examples as the encoder and the tagger of a separator hear them.

    Args:
        separator: with a query encoder.
        examples: each with the part that is meant, start and end in seconds; None for all.
        keep_audio: whether what was heard is kept.

    Raises:
        ModelError: the separator takes no examples of sounds, or its weights are damaged.
        InputError: examples that are silent, too short or cannot be read; up to twenty of them are named.
        AudioError: none of these could be read.
    """
    found: list[EmbeddedExample] = []
    problems: list[str] = []
    unread = 0
    contents: dict[int, bytes] = {}  # of opened files, of which several parts may be meant
    _encoder(separator)
    for number, (audio, span) in enumerate(examples, 1):
        place = place_of(audio) if is_file(audio) else Path("-")
        name = f"example {number}" if str(place) == "-" else str(place)
        try:
            if is_opened(audio):
                if id(audio) not in contents:
                    contents[id(audio)] = content_of(audio)
                audio = contents[id(audio)]
            waveform, rate = example_audio(audio, None, span)
            seconds = len(waveform) / rate
            if float(waveform.abs().max()) < _SILENT:
                raise QueryError("it is silent")
            if seconds < _SHORT:
                raise QueryError(f"it is too short ({seconds:.3f} s; at least {_SHORT} s)")
            at_rate = _at_rate(waveform, rate, separator)
            file = "" if str(place) == "-" else place.name
            heard = _embedded(separator, at_rate, file, span[0] if span else 0.0, seconds, keep_audio)
            found.append(replace(heard, digest=_digest(waveform, rate)))
        except ModelError:  # no fault of the example
            raise
        except (AudioSepError, OSError) as error:
            reason = str(error)
            problems.append(reason if name in reason else f"{name}: {reason}")
            unread += isinstance(error, AudioError | OSError)
    if problems:
        left_out = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        told = "; ".join([*problems[:_TOLD], *left_out])
        message = f"nothing was remembered, because of {counted(len(problems), 'example')}: {told}"
        raise AudioError(message) if unread == len(problems) else InputError(message)
    return tuple(found)


def listen(separator: Separator, samples: Array, rate: int) -> EmbeddedExample:
    """A recording as the encoder and the tagger of a separator hear it.

    Args:
        separator: with a query encoder.
        samples: (channels, samples), not silent.
        rate: Hz.

    Raises:
        ModelError: the separator takes no examples of sounds.
    """
    _encoder(separator)
    waveform, rate = example_audio((samples, rate), None)
    seconds = len(waveform) / rate
    return _embedded(separator, _at_rate(waveform, rate, separator), "", 0.0, seconds, keep_audio=False)


def embedded_again(sound: OwnSound, separator: Separator) -> OwnSound:
    """A sound as another model hears its kept examples.

    Args:
        sound: remembered with another model.
        separator: that hears them.

    Raises:
        ModelError: the audio of the examples was not kept.
    """
    if not all(example.audio for example in sound.examples):
        raise ModelError(
            f"{sound.name!r} was remembered with another model than {separator.name}, or with other weights, and its "
            f'examples were not kept: remember it again with this model (audiosep remember "{sound.name}" FILES '
            "--replace), or use the model that it was remembered with (--keep-audio makes this unnecessary)"
        )
    examples = []
    for old in sound.examples:
        try:
            samples, rate = soundfile.read(io.BytesIO(old.audio), dtype="float32")
        except soundfile.LibsndfileError as error:
            raise AudioError(f"the kept audio of {sound.name!r} is damaged ({error}): remember it again") from error
        waveform = _at_rate(torch.from_numpy(samples), rate, separator)
        again = _embedded(separator, waveform, old.file, old.start, old.seconds, keep_audio=False)
        examples.append(replace(again, audio=old.audio, digest=old.digest))
    return replace(sound, examples=tuple(examples), listening=listening_of(separator))


def _digest(waveform: Tensor, rate: int) -> str:
    return hashlib.sha256(waveform.numpy().tobytes() + str(rate).encode()).hexdigest()


def _at_rate(waveform: Tensor, rate: int, separator: Separator) -> Tensor:
    return torch.from_numpy(resample(waveform[None].numpy(), rate, separator.sample_rate))[0]


@without_autocast()
@torch.inference_mode()
def _embedded(
    separator: Separator, waveform: Tensor, file: str, start: float, seconds: float, keep_audio: bool
) -> EmbeddedExample:
    rate = separator.sample_rate
    embedded = excerpt(waveform, rate)
    embedding = _encoder(separator).audio([embedded], rate)[0].detach().float().cpu().clone()
    audio = b""
    if keep_audio:
        file_like = io.BytesIO()
        # A short sound as it is, not repeated.
        soundfile.write(file_like, min(waveform, embedded, key=len).clamp(-1, 1).numpy(), rate, "VORBIS", format="OGG")
        audio = file_like.getvalue()
    return EmbeddedExample(file, start, seconds, embedding, _tags(separator, embedded), audio)


def _tags(separator: Separator, waveform: Tensor) -> Tensor:
    heard = separator.hear(waveform[None, None])
    return torch.zeros(0) if heard is None else heard.tags[0].clone()


def _encoder(separator: Separator) -> QueryEncoder:
    if separator.encoder is None or "audio" not in separator.capabilities:
        raise ModelError(f"{separator.name} takes no examples of sounds; use a model that does, such as 'mini'")
    return separator.encoder
