"""What was asked of each target, as a short digest: by it later runs know whether they would make the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiosep.audio.marker import fingerprint
from audiosep.inference.options import Options
from audiosep.output.output_options import OutputOptions
from audiosep.query.query import Query, fold_name, unique_names, with_rate

# What changes samples and does not show in the name of a file.
_OUTPUT = ("on_clip", "start", "end", "preview", "rate", "mono", "loudness", "bitrate", "track", "everywhere")
_OPTIONS_OF_STEMS = ("overlap", "shifts", "stem_head")
_OPTIONS = (*_OPTIONS_OF_STEMS, "quality")


def works_of(
    targets: Sequence[str] | Sequence[Query], model: str, output: OutputOptions, options: Options
) -> dict[str, str]:
    """A digest of what is asked of each target: its query, the model, and the options that change samples.

    Device, precision and engine, which change rounding, are not in it, and neither are the examples behind names of the
    user's own.

    Args:
        targets: names of stems, or queries.
        model: a digest of the weights.
        output: what is written.
        options: how it is separated.

    Returns:
        Name of the target -> 8 hexadecimal digits.
    """
    changing = _OPTIONS if any(isinstance(target, Query) for target in targets) else _OPTIONS_OF_STEMS
    about = [model, _differing(output, _OUTPUT), _differing(options, changing)]
    names = unique_names([target.label if isinstance(target, Query) else target for target in targets])
    asked = [described(target) if isinstance(target, Query) else target for target in targets]
    return {name: _digest([*about, one])[:8] for name, one in zip(names, asked, strict=True)}


def described(query: Query) -> list[Any]:
    """All of a query but its name, as JSON; recordings and arrays by digests.

    Args:
        query: with its negatives.
    """
    audio, rate = with_rate(query.audio)
    file = Path(audio) if isinstance(audio, str | Path) else audio
    sound = fingerprint(file) if isinstance(file, Path | bytes) else _array_digest(file)
    return [
        fold_name(query.text or ""),
        sound,
        rate,
        _array_digest(query.embedding),
        float(query.weight),
        [*map(described, query.negatives)],
        query.spans,
        query.negative_spans,
    ]


def _differing(options: OutputOptions | Options, names: Sequence[str]) -> dict[str, Any]:
    """The options that are not those of default, so that digests outlast new options."""
    fields = {field.name: field.default for field in dataclasses.fields(options)}
    found = {name: getattr(options, name) for name in names if getattr(options, name) != fields[name]}
    # 10 and 10.0 seconds are the same.
    return {name: value if isinstance(value, bool | str) else float(value) for name, value in found.items()}


def _array_digest(values: Any) -> str | None:
    if values is None:
        return None
    import numpy as np  # most queries are words, which are planned without it

    try:
        array = np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, np.float32)
    except (TypeError, ValueError):  # no numbers: refused where the query is answered
        return repr(values)
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
