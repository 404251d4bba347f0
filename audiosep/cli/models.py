"""`audiosep models`: list, describe and download models."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from audiosep.cli import common
from audiosep.cli.standard_error import Terminal
from audiosep.errors import ModelError
from audiosep.weights import catalogue
from audiosep.weights.model_config import stated_stems
from audiosep.weights.model_entry import ModelEntry, PublishedFile

app = common.application("List, describe and download models.")

Name = Annotated[str, typer.Argument(metavar="MODEL", help="A name from `audiosep models list`.")]


@app.command("list")
@common.guarded
def list_models(as_json: common.AsJson = False) -> None:
    """List the models that have a name or were downloaded from the hub."""
    entries = [_entry(name) for name in (*catalogue.MODELS, *catalogue.downloaded())]
    if as_json:
        common.emit(entries)
        return
    width = max(len(entry["name"]) for entry in entries)
    licences = max(len(entry["licence"] or "-") for entry in entries)
    for entry in entries:
        state = "installed" if entry["folder"] else "not installed"
        print(f"{entry['name']:{width}}  {state:13}  {entry['licence'] or '-':{licences}}  {entry['description']}")
        if entry["stems"]:
            print(f"{'':{width}}  stems: {', '.join(entry['stems'])}")
        if not entry["folder"] and not entry["bundled"]:
            known = catalogue.MODELS[entry["name"]]
            print(f"{'':{width}}  to download it ({known.bytes / 1e9:.2f} GB): {known.download}")


@app.command()
@common.guarded
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, folder or hub id of a model.")],
    as_json: common.AsJson = False,
) -> None:
    """Describe one model: capabilities, licence, size, configuration."""
    known = model in catalogue.MODELS
    entry = _entry(model) if known else {"name": model}
    folder = catalogue.installed(model) if known else catalogue.locate(model)
    if folder is not None:
        facts = _folder_facts(folder)
        # What the folder does not state is as the catalogue says it.
        entry |= {key: value for key, value in facts.items() if value is not None or key not in entry}
    if as_json:
        common.emit(entry)
        return
    for key, value in entry.items():
        print(f"{key}: {_readable(value)}")


@app.command()
@common.guarded
def download(
    model: Name,
    token: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Token of the hub, for repositories that need one.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that restricts what the weights are used for.")
    ] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Download a model, verify its checksums, convert it, and keep it for offline use."""
    terminal = Terminal()
    common.logs_to(terminal, 0, quiet)

    def say(message: str) -> None:
        if not quiet:
            terminal.print(message)

    from audiosep.convert import convert
    from audiosep.weights.download import download as fetch

    folder = fetch(model, convert, progress=say, token=token, accept_licence=accept_licence)
    if as_json:
        common.emit(_entry(model))
    else:
        print(folder)


def _entry(name: str) -> dict[str, Any]:
    folder = catalogue.installed(name)
    if name not in catalogue.MODELS:
        return _hub_entry(name, folder)
    entry = catalogue.MODELS[name]
    return {
        "name": name,
        "description": entry.description,
        "family": entry.family,
        "licence": entry.licence,
        "restricted": entry.restricted,
        "capabilities": sorted(entry.capabilities),
        "stems": list(_stems(entry, folder)),
        "bundled": entry.bundled,
        "extra": entry.extra,
        "folder": None if folder is None else str(folder),
        "sources": [_source(source) for source in entry.sources],
    }


def _source(source: PublishedFile) -> dict[str, Any]:
    """A file to download; `bytes` is its exact size where that is published, `about_bytes` what is known else."""
    return {
        "repo": source.repo,
        "file": source.file,
        "bytes": source.bytes,
        "about_bytes": source.bytes or source.about_bytes or None,
        "sha256": source.sha256,
    }


def _stems(entry: ModelEntry, folder: Path | None) -> tuple[str, ...]:
    """The stems of a model: those that its folder states, or those that the catalogue does."""
    stated = None
    if folder is not None:
        with contextlib.suppress(ModelError):
            stated = stated_stems(folder)
    return stated or entry.stems


def _hub_entry(name: str, folder: Path | None) -> dict[str, Any]:
    """A model that has only a hub id, as far as its files can be read."""
    config = _object(folder and folder / "config.json")
    sources = _object(folder and folder / catalogue.RECORD)
    return {
        "name": name,
        "description": "Downloaded from the hub.",
        "family": config.get("family"),
        "licence": config.get("licence"),
        "restricted": None,
        "capabilities": None,
        "stems": None,
        "bundled": False,
        "extra": None,
        "folder": None if folder is None else str(folder),
        "sources": [
            {"repo": name, "file": file, "about_bytes": about.get("bytes"), **about} for file, about in sources.items()
        ],
    }


def _object(path: Path | None) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        found = None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def _folder_facts(folder: Path) -> dict[str, Any]:
    """Family, licence, sizes and configuration of an installed model, from its files."""
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        parameters = _parameters(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} is no whole model ({error}): give a folder that audiosep wrote") from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "folder": str(folder),
        "family": config.get("family"),
        "licence": config.get("licence"),
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        "parameters": parameters,
        "model": config.get("model"),
        "query": config.get("query"),
    }


def _parameters(weights: Path) -> int:
    """Number of values in a safetensors file, from its header alone."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > weights.stat().st_size:
            raise ValueError(f"{weights.name} is damaged")
        header = json.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _readable(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "-"
    return str(value) if isinstance(value, str | int) else json.dumps(value)
