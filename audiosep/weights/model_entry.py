"""What the catalogue knows about a published model."""

from __future__ import annotations

from dataclasses import dataclass

_FREE = frozenset({"MIT"})  # licences that allow any use


@dataclass(frozen=True)
class PublishedFile:
    """A file of a repository on the hub, or at an address.

    Attributes:
        repo: id of the repository; for a file that is not on the hub the address (https://...) of its folder.
        file: path in it.
        sha256: of the file, or its first digits as far as they are published; None where none are: then it is recorded
            at the first download.
        bytes: size of the file; None where it is not published.
        repo_type: "model" or "space".
        about_bytes: roughly its size, where it is not published.
    """

    repo: str
    file: str
    sha256: str | None = None
    bytes: int | None = None
    repo_type: str = "model"
    about_bytes: int = 0

    @property
    def on_hub(self) -> bool:
        """Whether `repo` is the id of a repository on the hub."""
        return "://" not in self.repo

    @property
    def address(self) -> str:
        """Where a file that is not on the hub is fetched from."""
        return f"{self.repo}/{self.file}"


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        name: what `load` takes.
        family: key of `models.families.FAMILIES`.
        description: one line for lists.
        licence: of the weights.
        capabilities: as in `SeparationModel`.
        sources: what `download` fetches: first the checkpoint to convert, then what it lacks, such as a tokenizer or
            its configuration. Empty for weights that come with the package.
        stems: names of the stems of a model that has nothing else; () for others.
        extra: of audiosep, that installs the package that runs the model; None where none is needed.
    """

    name: str
    family: str
    description: str
    licence: str
    capabilities: frozenset[str]
    sources: tuple[PublishedFile, ...] = ()
    stems: tuple[str, ...] = ()
    extra: str | None = None

    @property
    def bundled(self) -> bool:
        """Whether the weights come with the package."""
        return not self.sources

    @property
    def restricted(self) -> bool:
        """Whether the licence has to be accepted: it restricts what the weights may be used for, or is not stated."""
        return self.licence not in _FREE

    @property
    def download(self) -> str:
        """The command that downloads it, and accepts its licence where that has to be."""
        return f"audiosep models download {self.name}" + (" --accept-licence" if self.restricted else "")

    @property
    def bytes(self) -> int:
        """Size of what `download` fetches, as far as it is known."""
        return sum(source.bytes or source.about_bytes for source in self.sources)
