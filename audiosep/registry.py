"""Names -> weights, licence, sha256. Imports nothing of the library but its errors: code is named by strings.

    load("mini")            weights in the package                     checkpoints/mini
    load("audiosep-base")   published weights, downloaded, converted   $AUDIOSEP_HOME/models/audiosep-base
    load("owner/name")      a folder of ours on the hub, downloaded    $AUDIOSEP_HOME/models/owner--name
    load("my/folder")       a folder

Nothing here touches the network but `download`.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from audiosep.errors import ModelError

logger = logging.getLogger(__name__)

FAMILIES = {
    "resunet30": "audiosep.models.resunet:ResUNet30",
    "hybrid": "audiosep.models.hybrid:Hybrid",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """One published file.

    Attributes:
        repo, file: on the hub. repo_type: "model" or "space".
        sha256, bytes: of the file; None where nobody has published them: then they are recorded at first use.
    """

    repo: str
    file: str
    sha256: str | None
    bytes: int | None
    repo_type: str = "model"


@dataclass(frozen=True)
class ModelEntry:
    """A model that has a name.

    Attributes:
        family: key of FAMILIES. capabilities: what can be asked of it.
        licence: of the weights.
        sources: what `download` fetches: a checkpoint to convert, and the tokenizer it lacks. Empty for weights that
            come with the package.
    """

    name: str
    family: str
    description: str
    licence: str
    capabilities: frozenset[str]
    sources: tuple[Source, ...] = ()

    @property
    def bundled(self) -> bool:
        """Whether the weights come with the package."""
        return not self.sources

    @property
    def bytes(self) -> int:
        """What `download` fetches, as far as it is known."""
        return sum(source.bytes or 0 for source in self.sources)


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
                Source(
                    repo="Audio-AGI/AudioSep",
                    file="checkpoint/audiosep_base_4M_steps.ckpt",
                    sha256="f8cda01bfd0ebd141eef45d41db7a3ada23a56568465840d3cff04b8010ce82c",
                    bytes=1_264_844_076,
                    repo_type="space",
                ),
                # The checkpoint holds a whole CLAP, but not the tokenizer of its text tower.
                Source(repo="FacebookAI/roberta-base", file="tokenizer.json", sha256=None, bytes=None),
            ),
        ),
    )
}

RECORD = "sources.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def home() -> Path:
    """Where downloaded models live: $AUDIOSEP_HOME, or `audiosep` in the platform's cache folder."""
    if chosen := os.environ.get("AUDIOSEP_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "audiosep"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/audiosep"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiosep"


def model_folder(name: str) -> Path:
    """Where `download` puts a model."""
    return home() / "models" / name.replace("/", "--")


def installed(name: str) -> Path | None:
    """The folder of a model with a name or hub id, None when it is not on this machine."""
    package = Path(__file__).parent
    places = [model_folder(name)]
    if name in MODELS and MODELS[name].bundled:
        # In a wheel the weights lie in the package, in a checkout beside it.
        places = [package / "checkpoints" / name, package.parent / "checkpoints" / name]
    return next((place for place in places if (place / "config.json").is_file()), None)


def downloaded() -> list[str]:
    """The hub ids of models that `download` put on this machine, in order."""
    folders = (place.parent.name for place in (home() / "models").glob("*/config.json"))
    return sorted(name for name in (folder.replace("--", "/", 1) for folder in folders) if _HUB_ID.fullmatch(name))


def locate(model: str | Path) -> Path:
    """The folder of a model.

    Args:
        model: a name of MODELS, a folder, or the hub id of a model that was downloaded.

    Raises:
        ModelError: it is not on this machine; says what to do.
    """
    name = str(model)
    if name in MODELS and isinstance(model, str):
        return installed(name) or _absent(MODELS[name])
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"{name} is a file: turn it into a model's folder first with `audiosep convert {name} FOLDER`")
    if isinstance(model, str) and _HUB_ID.fullmatch(name):
        if folder := installed(name):
            return folder
        raise ModelError(
            f"there is no folder {name} and no downloaded model of that name; if it is one on the hub: "
            f"`audiosep models download {name}`"
        )
    close = difflib.get_close_matches(name, MODELS, 1)
    raise ModelError(
        f"there is no model and no folder {name!r}"
        + (f", did you mean {close[0]!r}?" if close else f"; models with a name: {', '.join(MODELS)}")
    )


def _absent(entry: ModelEntry) -> NoReturn:
    if entry.bundled:
        raise ModelError(
            f"the weights of {entry.name!r} come with the package, but this installation has none: install audiosep "
            f"again, or put a trained model into {Path(__file__).parent.parent / 'checkpoints' / entry.name}"
        )
    raise ModelError(
        f"{entry.name!r} is not on this machine: `audiosep models download {entry.name}` fetches it "
        f"({entry.bytes / 1e9:.2f} GB, licence {entry.licence})"
    )


def download(name: str, progress: Say | None = None, token: str | None = None) -> Path:
    """Fetch a model, verify it, convert it, and keep it for use without a network.

    Args:
        name: a name of MODELS, or the hub id ("owner/name") of a folder that audiosep wrote.
        progress: is told what happens, line by line.
        token: for repositories that ask for one.

    Returns:
        The model's folder, which appears only when everything is in it.

    Raises:
        ModelError: no network, an unknown model, a file that is not the published one; says what to do by hand.
    """
    say = progress or logger.info
    entry = MODELS.get(name)
    if entry is not None and entry.bundled:
        say(f"{name} comes with the package")
        return locate(name)
    if entry is None and not _HUB_ID.fullmatch(name):
        raise ModelError(f"{name!r} is no model to download: {', '.join(MODELS)}, or a hub id such as owner/name")
    say(f"{name}: licence {entry.licence}" if entry else f"{name}: its page on the hub states the licence")
    fetched = home() / "downloads" / name.replace("/", "--")
    fetched.mkdir(parents=True, exist_ok=True)
    with _installing(name) as folder:
        files = _fetch_sources(entry, fetched, say, token) if entry else _fetch_folder(name, fetched, say, token)
        record = _verify(name, files, {source.file: source.sha256 for source in entry.sources} if entry else {}, say)
        if entry:
            say("converting")
            tokenizer = next((path.parent for path in files.values() if path.name == "tokenizer.json"), None)
            convert = importlib.import_module("audiosep.convert").convert
            convert(files[entry.sources[0].file], folder, tokenizer=tokenizer)
        else:
            for file, path in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, folder / file)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(fetched, ignore_errors=True)
    say(f"installed in {model_folder(name)}")
    return model_folder(name)


def _fetch_sources(entry: ModelEntry, folder: Path, say: Say, token: str | None) -> dict[str, Path]:
    """The published files of a registered model; those of an interrupted download are continued."""
    from huggingface_hub import hf_hub_download

    files = {}
    for source in entry.sources:
        size = f" ({source.bytes / 1e6:,.0f} MB)" if source.bytes else ""
        say(f"fetching {source.file} from {source.repo}{size}")
        with _explaining(_by_hand(entry)):
            path = hf_hub_download(source.repo, source.file, repo_type=source.repo_type, local_dir=folder, token=token)
        files[source.file] = Path(path)
    return files


def _fetch_folder(name: str, folder: Path, say: Say, token: str | None) -> dict[str, Path]:
    """A folder that audiosep wrote, from the hub, with the query encoder that it names there."""
    manual = f"on a machine with a network: `hf download {name} --local-dir FOLDER`"
    _fetch_repository(name, None, folder, say, token, f"{manual}; then here: load('FOLDER')")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family, query = config["family"], dict(config.get("query") or {})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name} is on the hub but is no audiosep model: its config.json names no family") from error
    if family not in FAMILIES:
        raise ModelError(f"{name} is of the family {family!r}, which this version does not know: update audiosep")
    encoder = str(query.get("model"))
    if _HUB_ID.fullmatch(encoder) and not (folder / encoder).is_dir():
        # Before the hub's cache, an encoder is looked for in the model's folder.
        manual += f" and `hf download {encoder} --local-dir FOLDER/{encoder}`; then here: load('FOLDER')"
        _fetch_repository(encoder, query.get("revision"), folder / encoder, say, token, manual)
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {file.as_posix(): path for file, path in files.items() if not any(part[0] == "." for part in file.parts)}


def _fetch_repository(name: str, revision: str | None, folder: Path, say: Say, token: str | None, manual: str) -> None:
    """The data in a repository of the hub; nothing that could be a pickle is fetched."""
    from huggingface_hub import snapshot_download

    say(f"fetching {name}")
    kinds = ["*.json", "*.txt", "*.safetensors", "*.md"]
    with _explaining(manual):
        snapshot_download(name, revision=revision, local_dir=folder, token=token, allow_patterns=kinds)


@contextlib.contextmanager
def _explaining(manual: str) -> Iterator[None]:
    """Whatever the hub's client raises, with the way to do it by hand."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"the download failed ({type(error).__name__}: {error})\n{manual}") from error


def _by_hand(entry: ModelEntry) -> str:
    lines = ["By hand, on a machine with a network:"]
    for source in entry.sources:
        kind = "" if source.repo_type == "model" else f" --repo-type {source.repo_type}"
        lines.append(f"  hf download {source.repo} {source.file}{kind} --local-dir FOLDER")
        if source.bytes:
            lines.append(f"    {source.bytes:,} bytes, sha256 {source.sha256 or 'not published'}")
    lines.append("then here:")
    tokenizer = " --tokenizer FOLDER" if len(entry.sources) > 1 else ""
    lines.append(f"  audiosep convert FOLDER/{entry.sources[0].file} {model_folder(entry.name)}{tokenizer}")
    return "\n".join(lines)


def _verify(name: str, files: dict[str, Path], pinned: dict[str, str | None], say: Say) -> dict[str, dict[str, object]]:
    """Compare files with what is known of them: published sums, else those recorded at the first download.

    Returns:
        File -> its size and sha256, to be recorded.
    """
    known = dict(pinned)
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads((model_folder(name) / RECORD).read_text(encoding="utf-8"))
        known = {file: about["sha256"] for file, about in earlier.items()} | {f: s for f, s in pinned.items() if s}
    record: dict[str, dict[str, object]] = {}
    for file, path in files.items():
        say(f"verifying {file}")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        expected = known.get(file)
        if expected is None:
            logger.warning("%s: nobody published the sha256 of %s; %s is recorded from now on", name, file, digest)
        elif digest != expected:
            path.unlink()
            raise ModelError(
                f"{file} has sha256 {digest} instead of {expected}: the download was damaged, or the file has changed "
                f"since it was published; try again, or delete {model_folder(name)} to accept a hub model's new version"
            )
        record[file] = {"sha256": digest, "bytes": path.stat().st_size}
    return record


@contextlib.contextmanager
def _installing(name: str) -> Iterator[Path]:
    """A folder to fill, which takes the model's place when all went well."""
    target = model_folder(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        if target.exists():
            target.rename(fresh.with_name(fresh.name.replace(".new-", ".old-")))
        fresh.rename(target)
        shutil.rmtree(fresh.with_name(fresh.name.replace(".new-", ".old-")), ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
