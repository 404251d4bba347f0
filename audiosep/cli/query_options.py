"""What the arguments and options of `separate` and `remove` ask for: recordings, and sounds in them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.audio.formats import is_recording
from audiosep.cli import command_line
from audiosep.cli.manifests import read_inputs
from audiosep.cli.times import spans
from audiosep.errors import InputError, QueryError, missing_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from audiosep.query.query import Query


@dataclass(frozen=True)
class Places:
    """Where the sound can be heard in the recording, and where something to keep out.

    Attributes:
        at: pairs of seconds.
        not_at: pairs of seconds.
    """

    at: tuple[tuple[float, float], ...] = ()
    not_at: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class QueryOptions:
    """The options that name sounds, beside words."""

    like: Annotated[
        list[Path] | None,
        typer.Option("--like", metavar="FILE", help="A recording of the sound; every argument is then an input."),
    ] = None
    embedding: Annotated[
        list[Path] | None,
        typer.Option(
            "--embedding", metavar="FILE", help="A .npy file with a query embedding; every argument is then an input."
        ),
    ] = None
    negative: Annotated[
        list[str] | None, typer.Option("--not", metavar="TEXT", help="A sound to keep out of every target.")
    ] = None
    weight: Annotated[float, typer.Option("--weight", metavar="NUMBER", help="How strongly --not counts.")] = 1.0
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="START-END", help="Where the sound can be heard in the recording; repeatable."),
    ] = None
    not_at: Annotated[
        list[str] | None,
        typer.Option("--not-at", metavar="START-END", help="Where something to keep out can be heard; repeatable."),
    ] = None
    by_words: Annotated[
        bool, typer.Option("--by-words", help="Take words for vocals, drums and bass too, not the model's stems.")
    ] = False

    def asked(
        self, arguments: Sequence[str] | None, words: Sequence[str] | None, manifest: Path | None
    ) -> tuple[list[str], list[Query]]:
        """The inputs, and the queries, each sound once.

        Args:
            arguments: the positional arguments of the command line.
            words: sounds that came as options.
            manifest: a file with inputs.

        Raises:
            QueryError: as `split` and `build`.
            InputError: as `split` and `build`, or a manifest that cannot be read.
        """
        listed = [] if manifest is None else read_inputs(manifest)
        places = Places(tuple(spans(self.at, "--at")), tuple(spans(self.not_at, "--not-at")))
        inputs_only = bool(words or self.like or self.embedding)
        inputs, texts = split(list(arguments or []), inputs_only, listed, command=command_line.get(), places=places)
        texts = [*texts, *(words or [])]
        return inputs, build(texts, self.like or [], self.embedding or [], self.negative or [], self.weight, places)


def split(
    arguments: list[str],
    inputs_only: bool,
    listed: Sequence[str] = (),
    *,
    command: Sequence[str] = (),
    places: Places = Places(),
) -> tuple[list[str], list[str]]:
    """Arguments as (inputs, query texts).

    Args:
        arguments: the positional arguments of the command line.
        inputs_only: whether the queries came as options.
        listed: the inputs of a manifest, which replaces the first argument.
        command: the whole command line, for the message that corrects it.
        places: in the recording, which say what is meant without words.

    Raises:
        QueryError: no query.
        InputError: no input, or a query that is an existing path.
    """
    command = command or ["separate", *arguments]
    example = f"For example: audiosep {command[0]} FILE piano"
    if not arguments and not listed:
        raise InputError(f"name a recording and a sound. {example}")
    if inputs_only:
        return [*listed, *arguments], []
    inputs, texts = (list(listed), arguments) if listed else (arguments[:1], arguments[1:])
    paths = list(filter(exists, texts))
    if paths:
        words = [text for text in texts if text not in paths]
        first_is_sound = not (listed or exists(inputs[0]) or inputs[0] == "-" or is_recording(Path(inputs[0])))
        if first_is_sound and len(paths) == 1:
            ordered = iter([*paths, *inputs, *words])
            tokens = [next(ordered) if word in arguments else word for word in command]
            raise InputError(f"the recording comes first, then the sounds: audiosep {shlex.join(tokens)}")
        words = [*inputs, *words] if first_is_sound else words
        raise InputError(
            f"{paths[0]!r} is a file or folder, and only the first argument is an input. With several inputs, -q names "
            f"the queries: {corrected(command, words)}"
        )
    if not texts and not places.at:
        raise QueryError(f"name a sound of {inputs[0]!r}. {example}")
    return inputs, texts


def corrected(command: Sequence[str], words: Sequence[str], option: str = "-q") -> str:
    """The command line with an option in front of its words.

    Args:
        command: the verb and its arguments.
        words: some of them; without any, what is missing stands at the end.
        option: for them.
    """
    tokens = [token for word in command for token in ([option, word] if word in words else [word])]
    return f"audiosep {shlex.join(tokens)}{'' if words else f' {option} QUERY'}"


def exists(path: str) -> bool:
    """Whether there is a file or folder; Path.exists fails for long texts."""
    return os.path.exists(path)  # noqa: PTH110 - as said above


def build(
    texts: Sequence[str],
    examples: Sequence[Path] = (),
    embeddings: Sequence[Path] = (),
    negatives: Sequence[str] = (),
    weight: float = 1.0,
    places: Places = Places(),
) -> list[Query]:
    """The queries of the command line, each sound once.

    Args:
        texts: sounds in words.
        examples: recordings of sounds.
        embeddings: .npy files with an embedding each.
        negatives: what to keep out of every target, in words.
        weight: of the negatives.
        places: of the sound in the recording.

    Raises:
        InputError: places of several sounds, or a weight of nothing.
        QueryError: an embedding that cannot be read, an empty text, a negative weight.
    """
    from audiosep.query.query import Query, as_queries

    query = partial(
        Query, negative=tuple(negatives) or None, weight=weight, spans=places.at, negative_spans=places.not_at
    )
    found = [
        *(query(text=text) for text in texts),
        *(query(audio=path) for path in examples),
        *(query(embedding=read_embedding(path), name=path.stem) for path in dict.fromkeys(embeddings)),
    ]
    queries = as_queries(found or query())
    if weight != Query.weight and not (negatives or places.at or places.not_at):
        raise InputError("--weight says how strongly what is kept out counts: name that with --not, or leave it out")
    if places.at and len(queries) > 1:
        raise InputError("--at says where one sound can be heard: name one sound, or none")
    return queries


def read_embedding(path: Path) -> NDArray[np.float32]:
    """(dimension,) float32 from a .npy file; a file of shape (1, dimension) is taken too.

    Raises:
        QueryError: the file is missing, is no .npy file, or holds something else.
    """
    import numpy as np

    if not exists(str(path)):
        raise QueryError(f"--embedding: {missing_file(path)}")
    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise QueryError(
            f"--embedding {path}: cannot be read as a .npy file of numbers ({error}): save it with numpy.save"
        ) from error
    if not isinstance(vector, np.ndarray) or vector.dtype.kind not in "fiu" or not vector.shape[-1:] == (vector.size,):
        raise QueryError(f"--embedding {path}: expected one vector, got {getattr(vector, 'shape', type(vector))}")
    return vector.reshape(-1).astype(np.float32)
