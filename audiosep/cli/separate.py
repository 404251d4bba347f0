"""`audiosep separate`: the sounds you name, out of recordings."""

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
from audiosep.cli import command_line, common, job
from audiosep.cli.job_options import ByWords, JobOptions
from audiosep.cli.manifests import read_inputs
from audiosep.cli.times import spans
from audiosep.errors import InputError, QueryError, missing_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from audiosep.query.query import Query

app = common.application()

Like = Annotated[
    list[Path] | None,
    typer.Option("--like", metavar="FILE", help="A recording of the sound; every argument is then an input."),
]
Embedding = Annotated[
    list[Path] | None,
    typer.Option(
        "--embedding", metavar="FILE", help="A .npy file with a query embedding; every argument is then an input."
    ),
]
Negative = Annotated[
    list[str] | None, typer.Option("--not", metavar="TEXT", help="A sound to keep out of every target.")
]
Weight = Annotated[float, typer.Option("--weight", metavar="NUMBER", help="How strongly --not counts.")]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="START-END", help="Where the sound can be heard in the recording; repeatable."),
]
NotAt = Annotated[
    list[str] | None,
    typer.Option("--not-at", metavar="START-END", help="Where something to keep out can be heard; repeatable."),
]


@dataclass(frozen=True)
class Places:
    """Where the sound can be heard in the recording, and where something to keep out.

    Attributes:
        at: pairs of seconds.
        not_at: pairs of seconds.
    """

    at: tuple[tuple[float, float], ...] = ()
    not_at: tuple[tuple[float, float], ...] = ()


@app.command()
@common.guarded
def separate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT [QUERY]", help="A recording, a folder or - (standard input), then sounds in words."
        ),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", "-q", metavar="TEXT", help="A sound to separate; every argument is then an input."),
    ] = None,
    like: Like = None,
    embedding: Embedding = None,
    negative: Negative = None,
    weight: Weight = 1.0,
    at: At = None,
    not_at: NotAt = None,
    by_words: ByWords = False,
    *,
    options: JobOptions,
    chosen: common.ModelOptions,
) -> int:
    """Separate the sounds you name out of recordings.

    audiosep separate song.mp3 piano "electric guitar" -o out/

    audiosep separate *.wav -q piano -q guitar --not drums -o out/

    audiosep separate street.wav --like my_dog.wav -o out/

    audiosep separate street.wav --at 3.2-4.1 -o out/

    audiosep separate --ray archive/ speech -o out/
    """
    listed = [] if options.manifest is None else read_inputs(options.manifest)
    places = Places(tuple(spans(at, "--at")), tuple(spans(not_at, "--not-at")))
    inputs_only = bool(query or like or embedding)
    inputs, texts = split(arguments or [], inputs_only, listed, command=command_line.get(), places=places)
    queries = build([*texts, *(query or [])], like or [], embedding or [], negative or [], weight, places)
    return job.run(inputs, queries, options, chosen, by_words=by_words)


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
