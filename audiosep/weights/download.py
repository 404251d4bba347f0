"""Downloading published models, from the hub or an address: verified, converted, kept for use without a network."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from audiosep.atomic import fill_folder
from audiosep.errors import ModelError
from audiosep.models.families import FAMILIES
from audiosep.models.published_networks import check_extra
from audiosep.weights.catalogue import HUB_ID, MODELS, RECORD, home, installed, locate, model_folder, no_address
from audiosep.weights.licences import accept, check_accepted
from audiosep.weights.model_entry import ModelEntry, PublishedFile

logger = logging.getLogger(__name__)

Report = Callable[[str], None]
Convert = Callable[..., object]  # `audiosep.convert.convert`, which imports this package


def download(
    name: str,
    convert: Convert,
    progress: Report | None = None,
    token: str | None = None,
    *,
    accept_licence: bool = False,
) -> Path:
    """Download a model, verify it, convert it, and keep it for use without a network.

    Args:
        name: a name of MODELS, or the hub id ("owner/name") of a folder that audiosep wrote.
        convert: `audiosep.convert.convert`, which writes a published checkpoint as a model's folder.
        progress: called with each line of progress; None: the log.
        token: for repositories that need one.
        accept_licence: accept a licence that restricts what the weights may be used for; that is remembered.

    Returns:
        The model's folder, which appears only when everything is in it. A model that was put there by hand is left.

    Raises:
        ModelError: no network, an unknown model, a licence that was not accepted, a file that is not the published
            one; the message tells how to download and convert by hand.
        DependencyError: the package that runs the model is not installed.
    """
    report = progress or logger.info
    entry = MODELS.get(name)
    if entry is not None and entry.bundled:
        report(f"{name} comes with the package")
        return locate(name)
    if entry is None and not HUB_ID.fullmatch(name):
        wanted = f"{name!r} is no model to download: {', '.join(MODELS)}, or a hub id such as owner/name"
        raise ModelError(no_address(name) or wanted)
    report(f"{name}: licence {entry.licence}" if entry else f"{name}: its page on the hub states the licence")
    if entry is not None:
        if accept_licence:
            accept(entry)
        check_accepted(entry)
        if entry.extra is not None:
            check_extra(entry.extra)
        if (there := installed(name)) is not None and not (there / RECORD).is_file():
            report(f"{there} was put there by hand, and is left as it is; delete it to download the model")
            return there
    fetched = home() / "downloads" / name.replace("/", "--")
    fetched.mkdir(parents=True, exist_ok=True)
    with fill_folder(model_folder(name)) as folder:
        files = _fetch_sources(entry, fetched, report, token) if entry else _fetch_folder(name, fetched, report, token)
        record = _verify(name, files, {source.file: source.sha256 for source in entry.sources} if entry else {}, report)
        if entry:
            report("converting")
            _convert_sources(entry, files, folder, convert)
        else:
            for file, path in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, folder / file)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(fetched, ignore_errors=True)
    report(f"installed in {model_folder(name)}")
    return model_folder(name)


def _fetch_sources(entry: ModelEntry, folder: Path, report: Report, token: str | None) -> dict[str, Path]:
    """The published files of a registered model; those that an interrupted download has whole are not fetched again."""
    files = {}
    for source in entry.sources:
        size = source.bytes or source.about_bytes
        about = "" if source.bytes else "about "
        report(f"fetching {source.file} from {source.repo}" + (f" ({about}{size / 1e6:,.0f} MB)" if size else ""))
        with _explained(_by_hand(entry)):
            files[source.file] = _fetch(source, folder, token)
    return files


def _fetch(source: PublishedFile, folder: Path, token: str | None) -> Path:
    if source.on_hub:
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(source.repo, source.file, repo_type=source.repo_type, local_dir=folder, token=token)
        )
    from torch.hub import download_url_to_file

    path = folder / source.file
    if not path.is_file():
        download_url_to_file(source.address, str(path), progress=False)  # the file appears when it is whole
    return path


def _convert_sources(entry: ModelEntry, files: dict[str, Path], folder: Path, convert: Convert) -> None:
    """Convert fetched files; those that may be the reason why that fails are fetched again by the next download."""
    tokenizer = next((path.parent for path in files.values() if path.name == "tokenizer.json"), None)
    try:
        convert(files[entry.sources[0].file], folder, tokenizer=tokenizer)
    except ModelError:
        for source in entry.sources:
            if source.sha256 is None:  # else it was verified
                files[source.file].unlink(missing_ok=True)
        raise


def _fetch_folder(name: str, folder: Path, report: Report, token: str | None) -> dict[str, Path]:
    """The files of a folder that audiosep wrote, from the hub, with those of the query encoder that it names."""
    manual = f"on a machine with a network: `hf download {name} --local-dir FOLDER`"
    _fetch_repository(name, None, folder, report, token, f"{manual}; then here: load('FOLDER')")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family, query = config["family"], dict(config.get("query") or {})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name} is on the hub but is no audiosep model: its config.json names no family") from error
    if family not in FAMILIES:
        raise ModelError(f"{name} is of the family {family!r}, which this version does not know: update audiosep")
    encoder = str(query.get("model"))
    if HUB_ID.fullmatch(encoder) and not (folder / encoder).is_dir():
        # `ClapEncoder.from_config` looks for an encoder in the model's folder before the hub's cache.
        manual += f" and `hf download {encoder} --local-dir FOLDER/{encoder}`; then here: load('FOLDER')"
        _fetch_repository(encoder, query.get("revision"), folder / encoder, report, token, manual)
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {file.as_posix(): path for file, path in files.items() if not any(part[0] == "." for part in file.parts)}


def _fetch_repository(
    name: str, revision: str | None, folder: Path, report: Report, token: str | None, manual: str
) -> None:
    """The data in a repository of the hub; nothing that could be a pickle is fetched."""
    from huggingface_hub import snapshot_download

    report(f"fetching {name}")
    kinds = ["*.json", "*.txt", "*.safetensors", "*.md"]
    with _explained(manual):
        snapshot_download(name, revision=revision, local_dir=folder, token=token, allow_patterns=kinds)


@contextlib.contextmanager
def _explained(manual: str) -> Iterator[None]:
    """Turn what the hub's client raises into a ModelError with the steps to do by hand."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"the download failed ({type(error).__name__}: {error})\n{manual}") from error


def _by_hand(entry: ModelEntry) -> str:
    lines = ["By hand, on a machine with a network:"]
    for source in entry.sources:
        kind = "" if source.repo_type == "model" else f" --repo-type {source.repo_type}"
        if source.on_hub:
            lines.append(f"  hf download {source.repo} {source.file}{kind} --local-dir FOLDER")
        else:
            lines.append(f"  curl -L --create-dirs -o FOLDER/{source.file} {source.address}")
        if source.bytes:
            lines.append(f"    {source.bytes:,} bytes, sha256 {source.sha256 or 'not published'}")
    lines.append("then here:")
    tokenizer = " --tokenizer FOLDER" if any(source.file == "tokenizer.json" for source in entry.sources) else ""
    lines.append(f"  audiosep convert FOLDER/{entry.sources[0].file} {model_folder(entry.name)}{tokenizer}")
    return "\n".join(lines)


def _verify(
    name: str, files: dict[str, Path], pinned: dict[str, str | None], report: Report
) -> dict[str, dict[str, object]]:
    """Compare the sha256 of files with the published ones, and with those recorded at an earlier download.

    Returns:
        File -> its size and sha256, to be recorded.

    Raises:
        ModelError: a file has another sha256.
    """
    earlier: dict[str, dict[str, str]] = {}
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads((model_folder(name) / RECORD).read_text(encoding="utf-8"))
    record: dict[str, dict[str, object]] = {}
    for file, path in files.items():
        report(f"verifying {file}")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        published, recorded = pinned.get(file), earlier.get(file, {}).get("sha256")
        # A published sum may be its first digits only, and it is right where a recorded one differs.
        expected = recorded if recorded and (published is None or recorded.startswith(published)) else published
        if expected is None:
            logger.warning("%s: no sha256 of %s is published; %s is recorded for later downloads", name, file, digest)
        elif not digest.startswith(expected):
            path.unlink()
            raise ModelError(
                f"{file} has sha256 {digest} instead of {expected}: the download was damaged, or the file has changed "
                f"since it was published; try again, or delete {model_folder(name)} to accept a hub model's new version"
            )
        record[file] = {"sha256": digest, "bytes": path.stat().st_size}
    return record
