"""`audiosep separate`: the sounds you name, out of recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.cli import common, job
from audiosep.errors import InputError, QueryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from audiosep.query.query import Query

app = common.application()


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
    like: Annotated[
        list[Path] | None,
        typer.Option("--like", metavar="FILE", help="A recording of the sound; every argument is then an input."),
    ] = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(
            "--embedding", metavar="FILE", help="A .npy file with a query embedding; every argument is then an input."
        ),
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option("--not", metavar="TEXT", help="A sound to keep out of every target.")
    ] = None,
    weight: Annotated[float, typer.Option("--weight", metavar="NUMBER", help="How strongly --not counts.")] = 1.0,
    *,
    options: job.JobOptions,
    chosen: common.ModelOptions,
) -> int:
    """Separate the sounds you name out of recordings.

    audiosep separate song.mp3 piano "electric guitar" -o out/

    audiosep separate *.wav -q piano -q guitar --not drums -o out/

    audiosep separate street.wav --like my_dog.wav -o out/

    audiosep separate --ray archive/ speech -o out/
    """
    listed = [] if options.manifest is None else job.read_inputs(options.manifest)
    inputs, texts = split(arguments or [], bool(query or like or embedding), listed)
    queries = build([*texts, *(query or [])], like or [], embedding or [], negative or [], weight)
    return job.run(inputs, queries, options, chosen)


def split(arguments: list[str], inputs_only: bool, listed: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Arguments as (inputs, query texts).

    Args:
        arguments: the positional arguments of the command line.
        inputs_only: whether the queries came as options.
        listed: the inputs of a manifest, which replaces the first argument.

    Raises:
        QueryError: no query.
        InputError: no input, or a query that is an existing path.
    """
    if not arguments and not listed:
        raise InputError("what should be separated? For example: audiosep separate FILE piano")
    if inputs_only:
        return [*listed, *arguments], []
    inputs, texts = (list(listed), arguments) if listed else (arguments[:1], arguments[1:])
    for text in texts:
        if os.path.exists(text):  # noqa: PTH110 - Path.exists fails for a text that is too long for a name
            raise InputError(
                f"{text!r} is a file or folder, and only the first argument is an input. For several inputs name "
                f"the queries with -q: audiosep separate {' '.join(map(repr, arguments))} -q QUERY; "
                f"if {text!r} is meant as a query: -q {text!r}"
            )
    if not texts:
        raise QueryError(f"what should be separated from {inputs[0]!r}? For example: audiosep separate FILE piano")
    return inputs, texts


def build(
    texts: list[str], examples: list[Path], embeddings: list[Path], negatives: list[str], weight: float
) -> list[Query]:
    """The queries of the command line.

    Args:
        texts: sounds in words.
        examples: recordings of sounds.
        embeddings: .npy files with an embedding each.
        negatives: what to keep out of every target, in words.
        weight: of the negatives.

    Raises:
        QueryError: an embedding that cannot be read, an empty text, a negative weight.
    """
    from audiosep.query.query import Query

    negative = tuple(negatives) or None
    return [
        *(Query(text=text, negative=negative, weight=weight) for text in texts),
        *(Query(audio=path, negative=negative, weight=weight) for path in examples),
        *(
            Query(embedding=read_embedding(path), name=path.stem, negative=negative, weight=weight)
            for path in embeddings
        ),
    ]


def read_embedding(path: Path) -> NDArray[np.float32]:
    """(dimension,) float32 from a .npy file; a file of shape (1, dimension) is taken too.

    Raises:
        QueryError: the file is missing, is no .npy file, or holds something else.
    """
    import numpy as np

    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise QueryError(f"--embedding {path}: cannot be read as a .npy file of numbers ({error})") from error
    if not isinstance(vector, np.ndarray) or vector.dtype.kind not in "fiu" or not vector.shape[-1:] == (vector.size,):
        raise QueryError(f"--embedding {path}: expected one vector, got {getattr(vector, 'shape', type(vector))}")
    return vector.reshape(-1).astype(np.float32)
