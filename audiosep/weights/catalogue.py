"""Names of models, and the folders of their weights on this machine.

    load("mini")            weights in the package                     checkpoints/mini
    load("audiosep-base")   published weights, downloaded, converted   $AUDIOSEP_HOME/models/audiosep-base
    load("owner/name")      a folder of ours on the hub, downloaded    $AUDIOSEP_HOME/models/owner--name
    load("my/folder")       a folder

Nothing here touches the network; `weights.download` does.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

from audiosep.errors import ModelError, address_in
from audiosep.models.adapter_file import base_of
from audiosep.weights.baseline_names import BASELINE_NAMES
from audiosep.weights.model_entry import ModelEntry, PublishedFile
from audiosep.weights.stem_models import STEM_MODELS

PACKAGE = Path(__file__).parent.parent
CHECKOUT = PACKAGE.parent
RECORD = "sources.json"  # in a downloaded model: the size and sha256 of each file that was fetched
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_PAGE = re.compile(rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/({HUB_ID.pattern})")


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="mini",
            family="hybrid",
            description="Our small model: any sound by words or by example, and four stems; comes with the package.",
            licence="MIT",
            capabilities=frozenset({"text", "audio", "negative", "stems", "presence"}),
        ),
        ModelEntry(
            name="audiosep-base",
            family="resunet30",
            description="The published AudioSep network (Liu et al., 2023): mono masks at 32 kHz, any sound by words.",
            licence="MIT",
            capabilities=frozenset({"text", "audio", "negative"}),
            sources=(
                PublishedFile(
                    repo="Audio-AGI/AudioSep",
                    file="checkpoint/audiosep_base_4M_steps.ckpt",
                    sha256="f8cda01bfd0ebd141eef45d41db7a3ada23a56568465840d3cff04b8010ce82c",
                    bytes=1_264_844_076,
                    repo_type="space",
                ),
                # The checkpoint holds a whole CLAP, but not the tokenizer of its text tower.
                PublishedFile(repo="FacebookAI/roberta-base", file="tokenizer.json"),
            ),
        ),
        *STEM_MODELS,
    )
}


def home() -> Path:
    """The folder of downloaded models: $AUDIOSEP_HOME, or `audiosep` in the platform's cache folder.

    Raises:
        ModelError: this user has no home folder, and the environment names no other.
    """
    try:
        if chosen := os.environ.get("AUDIOSEP_HOME"):
            return Path(chosen).expanduser()
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local").expanduser() / "audiosep"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/audiosep"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "audiosep"
    except RuntimeError as error:
        raise ModelError(f"no folder for models ({error}): set AUDIOSEP_HOME to a folder") from error


def model_folder(name: str) -> Path:
    """The folder into which `download` puts a model.

    Args:
        name: of the catalogue, or a hub id.
    """
    return home() / "models" / name.replace("/", "--")


def installed(name: str) -> Path | None:
    """The folder of a model on this machine.

    Args:
        name: of the catalogue, or a hub id.

    Returns:
        The folder; None when the model is not on this machine.
    """
    if name in MODELS and MODELS[name].bundled:
        # In a wheel the weights are inside the package, in a checkout beside it.
        places = [PACKAGE / "checkpoints" / name, CHECKOUT / "checkpoints" / name]
    else:
        places = [model_folder(name)]
    return next((place for place in places if (place / "config.json").is_file()), None)


def downloaded() -> list[str]:
    """The hub ids of models that `download` put on this machine, sorted."""
    folders = (place.parent.name for place in (home() / "models").glob("*/config.json"))
    return sorted(name for name in (folder.replace("--", "/", 1) for folder in folders) if HUB_ID.fullmatch(name))


def published_as(file: str) -> ModelEntry | None:
    """The model of the catalogue whose weights are published under a name.

    Args:
        file: name of a file, without folders.
    """
    return next((e for e in MODELS.values() if any(source.file.split("/")[-1] == file for source in e.sources)), None)


def locate(model: str | Path) -> Path:
    """The folder of a model.

    Args:
        model: a name of MODELS, a folder, or the hub id of a model that was downloaded.

    Raises:
        ModelError: it is not on this machine; the message names the remedy.
    """
    name = str(model)
    if name in MODELS and isinstance(model, str):
        return installed(name) or _absent(MODELS[name])
    path = expand_home(model)
    if path.is_dir():
        if name in BASELINE_NAMES and not (path / "config.json").is_file():
            raise ModelError(f"the folder {name} here is no model of audiosep, and {_baseline(name)}")
        return path
    if path.is_file() and (base := base_of(path)) is not None:
        raise ModelError(
            f"{name} is an adapter of the model {base}: give that as the model, and this as the adapter "
            f"(--adapter {name})"
        )
    if path.is_file():
        raise ModelError(f"{name} is a file: turn it into a model's folder first with `audiosep convert {name} FOLDER`")
    if isinstance(model, str) and HUB_ID.fullmatch(name):
        if folder := installed(name):
            return folder
        raise ModelError(
            f"there is no folder {name} and no downloaded model of that name; if it is one on the hub: "
            f"`audiosep models download {name}`"
        )
    if name in BASELINE_NAMES:
        raise ModelError(_baseline(name))
    if explained := no_address(name):
        raise ModelError(explained)
    close = difflib.get_close_matches(name, MODELS, 1)
    raise ModelError(
        f"there is no model and no folder {name!r}"
        + (f", did you mean {close[0]!r}?" if close else f"; models with a name: {', '.join(MODELS)}")
    )


def no_address(name: str) -> str | None:
    """What to say where an address is given in the place of a model; None for what is no address.

    Args:
        name: as it was given.
    """
    address, page = address_in(name), _HUB_PAGE.match(address_in(name) or name)
    if address is None and page is None:
        return None
    if entry := published_as(name.rsplit("/", 1)[-1]):
        remedy = f"the name of this model is {entry.name}, and `{entry.download}` fetches it"
    elif page:
        remedy = f"models of the hub have an id: `audiosep models download {page[1]}`, then give {page[1]} as the model"
    else:
        remedy = "download it first; `audiosep convert FILE FOLDER` makes a model's folder of a published checkpoint"
    return f"{address or name} is an address, and no model: {remedy}"


def expand_home(path: str | Path) -> Path:
    """A path with the home folder in place of a leading "~"; as it is where there is no such folder.

    Args:
        path: the path.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _baseline(name: str) -> str:
    return f"{name} is a baseline and no model: `audiosep evaluate --model {name}` measures baselines"


def _absent(entry: ModelEntry) -> NoReturn:
    if entry.bundled:
        raise ModelError(
            f"the weights of {entry.name!r} come with the package, but this installation has none: install audiosep "
            f"again, or put a trained model into {CHECKOUT / 'checkpoints' / entry.name}"
        )
    raise ModelError(
        f"{entry.name!r} is not on this machine: `{entry.download}` fetches it "
        f"({entry.bytes / 1e9:.2f} GB, licence {entry.licence})"
    )
