"""Functions of the user's own that separate, named "module:function": to be evaluated, or compared with in speed."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.errors import InputError
from audiosep.query.query import as_queries
from audiosep.separator import Queries


class FunctionSystem:
    """A function as a `SeparationSystem` that takes words.

    Args:
        reference: "module:function". It is called as `function(mix, queries, sample_rate)` with (channels, samples)
            float32 and a list of texts, and returns a mapping of each of them to an array like `mix`.

    Raises:
        InputError: there is no such function.
    """

    targets: frozenset[str] | None = None
    capabilities = frozenset({"text"})
    needs_references = False

    def __init__(self, reference: str) -> None:
        self._reference, self._call = reference, find_callable(reference)

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """See `SeparationSystem.separate`; `references` is not used.

        Raises:
            InputError: a query without words, or the function does not return what it should.
        """
        asked = as_queries(queries)
        if wordless := [query.label for query in asked if query.text is None]:
            raise InputError(f"{self._reference} is asked with words, and {wordless[0]!r} has none")
        mix = np.asarray(mix, np.float32)
        given = self._call(mix.copy(), [query.text for query in asked], sample_rate)
        found: dict[str, Any] = {}
        for query in asked:
            try:
                estimate = np.asarray(given[query.text], np.float32)
            except (TypeError, KeyError, ValueError) as error:
                expected = "must return a mapping of each text to an array"
                raise InputError(f"{self._reference} {expected}, and gave none for {query.text!r}") from error
            if estimate.shape != mix.shape:
                raise InputError(f"{self._reference} gave {estimate.shape} for {query.text!r}, the mix is {mix.shape}")
            found[query.label] = estimate
        return found


def names_callable(name: str) -> bool:
    """Whether a name is "module:function", and not a model or its folder."""
    return ":" in name and not Path(name).exists()


def find_callable(reference: str) -> Callable[..., Any]:
    """The object that "module:function" names; the module may lie in the current folder.

    Raises:
        InputError: it cannot be imported, or is not callable.
    """
    module, _, name = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # at the end, where its files hide no installed module
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of the user's own may raise anything
        raise InputError(
            f"{reference}: {type(error).__name__}: {error}; name a function that can be imported as module:function"
        ) from error
    if not callable(found):
        raise InputError(f"{reference} is a {type(found).__name__}, not callable")
    call: Callable[..., Any] = found
    return call


def callable_digest(reference: str) -> str:
    """A digest of the file that a callable is written in, which changes with it; of its name where there is none.

    Raises:
        InputError: as `find_callable`.
    """
    try:
        file = inspect.getsourcefile(inspect.unwrap(find_callable(reference)))
        content = b"" if file is None else Path(file).read_bytes()
    except (TypeError, OSError):
        content = b""
    return hashlib.sha256(reference.encode() + content).hexdigest()
