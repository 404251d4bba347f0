"""The file of sounds with names of one's own: safetensors with half-precision embeddings and a list of the sounds."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.query.own_sound import EmbeddedExample, Listening, OwnSound
from audiosep.query.query import fold_name

_FORMAT = "1"


def packed(sounds: Iterable[OwnSound]) -> bytes:
    """The content of a file; embeddings and tags in half precision.

    Args:
        sounds: in order.
    """
    parts: dict[str, Tensor] = {}
    about: list[dict[str, Any]] = []
    listenings: list[Listening] = []
    for number, sound in enumerate(sounds):
        known = next((k for k, one in enumerate(listenings) if one is sound.listening or _equal(one, sound)), None)
        if known is None:
            known = len(listenings)
            listenings.append(sound.listening)
            parts[f"probe.{known}"], parts[f"heard.{known}"] = sound.listening.probe, sound.listening.tags
        parts[f"{number}.embeddings"] = torch.stack([example.embedding for example in sound.examples]).half()
        parts[f"{number}.tags"] = torch.stack([example.tags for example in sound.examples]).half()
        for place, example in enumerate(sound.examples):
            if example.audio:
                parts[f"{number}.audio.{place}"] = torch.frombuffer(bytearray(example.audio), dtype=torch.uint8)
        files = [
            {
                "file": one.file,
                "start": one.start,
                "seconds": one.seconds,
                "audio": bool(one.audio),
                "digest": one.digest,
            }
            for one in sound.examples
        ]
        digest = _digest(parts[name] for name in _parts_of(number, known, files))
        about.append({"name": sound.name, "when": sound.when, "listening": known, "examples": files, "sha256": digest})
    metadata = {"format": _FORMAT, "sounds": json.dumps(about)}
    return save({name: part.contiguous() for name, part in parts.items()}, metadata=metadata)


def _parts_of(number: int, listening: int, files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tensors of a sound."""
    audio = [f"{number}.audio.{place}" for place, one in enumerate(files) if one["audio"]]
    return [f"probe.{listening}", f"heard.{listening}", f"{number}.embeddings", f"{number}.tags", *audio]


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _equal(listening: Listening, sound: OwnSound) -> bool:
    mine = sound.listening
    return torch.equal(listening.probe, mine.probe) and torch.equal(listening.tags, mine.tags)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """An open file and what it says about its sounds.

    Raises:
        ModelError: it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if metadata["format"] != _FORMAT:
                raise ValueError(f"its format is {metadata['format']}")
            about = json.loads(metadata["sounds"])
            if nameless := [one for one in about if not isinstance(one["name"], str) or not fold_name(one["name"])]:
                raise ValueError(f"a sound has the name {nameless[0]['name']!r}")
            yield file, about
    except (SafetensorError, OSError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path} is no file of sounds, or damaged ({error}); move it away, or name another one "
            "(--sounds, AUDIOSEP_SOUNDS)"
        ) from error


def is_file_of_sounds(path: Path) -> bool:
    """Whether a file is one of sounds that can be read.

    Args:
        path: the file.
    """
    try:
        names_of(path)
    except ModelError:
        return False
    return True


def names_of(path: Path) -> dict[str, str]:
    """Folded name -> name of each sound in a file.

    Args:
        path: the file.

    Raises:
        ModelError: it is damaged.
    """
    with _opened(path) as (_, about):
        return {fold_name(one["name"]): one["name"] for one in about}


def unpacked(path: Path, keys: set[str] | None) -> dict[str, OwnSound]:
    """Folded name -> sound, of a file.

    Args:
        path: the file.
        keys: folded names of the sounds; None for all.

    Raises:
        ModelError: the file is damaged.
    """
    found = {}
    with _opened(path) as (file, about):
        for number, one in enumerate(about):
            if keys is not None and fold_name(one["name"]) not in keys:
                continue
            tensors = [file.get_tensor(name) for name in _parts_of(number, one["listening"], one["examples"])]
            if _digest(tensors) != one["sha256"]:
                raise ValueError(f"what it holds of {one['name']!r} has changed")
            probe, heard, embeddings, tags, *audio = tensors
            kept = iter(audio)
            examples = tuple(
                EmbeddedExample(
                    each["file"],
                    each["start"],
                    each["seconds"],
                    embedding.float(),
                    scores.float(),
                    next(kept).numpy().tobytes() if each["audio"] else b"",
                    each.get("digest", ""),
                )
                for each, embedding, scores in zip(one["examples"], embeddings, tags, strict=True)
            )
            if not examples or embeddings.shape[1:] != probe.shape[1:] or not embeddings.isfinite().all():
                raise ValueError(f"{one['name']!r} has no examples that could be compared")
            found[fold_name(one["name"])] = OwnSound(one["name"], examples, one["when"], Listening(probe, heard))
    return found
