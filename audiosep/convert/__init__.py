"""Converting published checkpoints to folders that this library reads; only this package opens pickles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from audiosep.atomic import fill_folder
from audiosep.convert.audiosep_ckpt import ENCODER, SEPARATOR, separator
from audiosep.convert.laion_clap import write_clap
from audiosep.convert.stem_networks import STEM_KINDS, states_demucs, stem_kind, stem_network
from audiosep.convert.unpickle import read_pickle, state_dict
from audiosep.errors import AudioSepError, ConfigError, ModelError
from audiosep.weights.catalogue import published_as
from audiosep.weights.checkpoint import load_state, save_model
from audiosep.weights.model_config import check_model_place

KINDS = ("auto", "audiosep", "clap", *STEM_KINDS)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    kind: str = "auto",
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert a published checkpoint.

    Args:
        source: AudioSep's Lightning `.ckpt`, LAION's CLAP `.pt`, or the checkpoint of a published stem network: a
            `.safetensors` of demucs or the `.yaml` of an ensemble of them, a `.pt` of torchaudio, a `.pth` of
            Open-Unmix with those of the other stems beside it, a `.ckpt` of a RoFormer with its `.yaml` beside it.
        out: folder to make. From AudioSep and from a stem network comes a model for `load`, the former with its CLAP in
            `clap/`; from a CLAP comes a folder for `transformers.ClapModel`, which a model's `config.json` may name as
            its query encoder.
        kind: a name of KINDS; "auto" to find out by the names of the weights.
        tokenizer: RoBERTa's tokenizer, which the checkpoints do not hold: a folder with tokenizer.json (or vocab.json
            and merges.txt) or a hub id; None: it is downloaded from the hub.
        overwrite: replace `out` if it holds a converted model.

    Returns:
        `out`, which appears only when it is complete.

    Raises:
        ConfigError: an unknown kind.
        ModelError: the checkpoint is damaged, would run code, or has missing or unknown keys; there is no tokenizer;
            or `out` exists and may not be replaced.
        DependencyError: the package of a stem network is not installed.
        AudioSepError: the disk is full, or the folder of `out` is not writable.
    """
    source, out = Path(source), Path(out)
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r} is not one of {', '.join(map(repr, KINDS))}")
    if source.is_dir():
        model = f"a model already: name it with --model {source}" if (source / "config.json").is_file() else "a folder"
        raise ModelError(f"{source} is {model}; convert takes the file that the authors of a model publish")
    _check_free(out, overwrite)
    with _explained(source, kind):
        state = _state(source)
        if kind == "auto":
            kind = _kind(state, source)
    with fill_folder(out) as folder, _explained(source, kind):
        if kind in STEM_KINDS:
            save_model(folder, stem_network(kind, source, state), query=None, extra=_facts(source))
        elif state is None:
            raise ModelError(f"{source} is no checkpoint of {kind}, which is a pickle of PyTorch")
        elif kind == "clap":
            write_clap(state, folder, tokenizer)
        else:
            _write_audiosep(state, folder, source, tokenizer)
    return out


def _write_audiosep(state: dict[str, Tensor], folder: Path, source: Path, tokenizer: str | Path | None) -> None:
    parts: dict[str, dict[str, Tensor]] = {SEPARATOR: {}, ENCODER: {}}
    for key, value in state.items():
        prefix = next((prefix for prefix in parts if key.startswith(prefix)), None)
        if prefix is None:
            raise ModelError(f"{source}: key {key!r} is unknown; AudioSep's begin with {SEPARATOR} and {ENCODER}")
        parts[prefix][key.removeprefix(prefix)] = value
    if not parts[ENCODER]:
        raise ModelError(f"{source} holds no query encoder: its CLAP should be there as {ENCODER}*")
    model = separator(parts[SEPARATOR])
    write_clap(parts[ENCODER], folder / "clap", tokenizer)
    save_model(folder, model, query={"encoder": "clap", "model": "clap"}, extra=_facts(source))


def _facts(source: Path) -> dict[str, str]:
    """What the configuration says of where the weights are from."""
    entry = published_as(source.name)
    return {"source": source.name} if entry is None else {"source": source.name, "licence": entry.licence}


@contextlib.contextmanager
def _explained(source: Path, kind: str) -> Iterator[None]:
    """Turn what reading a checkpoint of another network, or a damaged one, raises into a ModelError."""
    try:
        yield
    except AudioSepError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        wanted = "a published checkpoint" if kind == "auto" else f"a checkpoint of the kind {kind}"
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ModelError(
            f"{source} cannot be read as {wanted} ({reason}): give the file that its authors publish, with those that "
            "they publish beside it, and let the kind be auto"
        ) from error


def _state(source: Path) -> dict[str, Tensor] | None:
    """The weights in a file; None for files of demucs, which say how they are read."""
    if source.suffix == ".yaml":
        return None
    if source.suffix == ".safetensors":
        state = load_state(source)
        return None if states_demucs(source) else state
    return state_dict(read_pickle(source), source)


def _kind(state: dict[str, Tensor] | None, source: Path) -> str:
    if (kind := stem_kind(state)) is not None:
        return kind
    if not state:
        raise ModelError(f"{source} holds no weights: give the file that its authors publish")
    if any(key.startswith(SEPARATOR) for key in state):
        return "audiosep"
    if any(key.startswith(("audio_branch.", "text_branch.")) for key in state):
        return "clap"
    raise ModelError(
        f"{source} is neither an AudioSep checkpoint ({SEPARATOR}*), nor a LAION CLAP (audio_branch.*, text_branch.*), "
        f"nor a published stem network: its weights begin with {min(state)!r}"
    )


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace anything but an empty folder or, with `overwrite`, the folder of a model."""
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not overwrite:
        raise ModelError(f"{out} exists; choose another folder, or overwrite=True")
    check_model_place(out)


__all__ = ["KINDS", "convert"]
