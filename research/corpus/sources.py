"""The table of public recordings: where each one is, what sounds in it, under which licence, and whom to credit.

`table/<family>.csv` has a line for each recording, or each part of one. `table/repositories.csv` has one for each
repository: the folder that all its paths begin with, and what most of its recordings have, which is left empty in their
lines. `table/captions.csv` has the further texts of a label; they are facts about labels, not about recordings.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

from audiosep.atomic import write_text
from audiosep.data.manifest import STEMS
from audiosep.data.reading import json_rows
from audiosep.errors import DataError

TABLE = Path(__file__).parent / "table"
FAMILIES = ("ambience", "event", "instrument", "music", "singing", "speech", "vocal-effect")
# Licences that allow any use with a credit at most; "permission: ..." quotes the words of an author.
LICENCES = (
    *("CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-2.5", "CC-BY-2.0", "CC-BY"),
    *("MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "ISC", "Unlicense", "PD"),
)
PERMISSION = "permission: "


@dataclass(frozen=True)
class Source:
    """A recording in a public repository, or a part of one.

    Args:
        repo: owner/name on GitHub.
        commit: a commit at which the file has this hash.
        path: of the file in that commit.
        label: what sounds, lower case.
        family: one of FAMILIES; "singing" is singing alone, stems of songs are "music".
        licence: one of LICENCES, or the words of a permission.
        credit: author: title.
        evidence: the file of the repository that states the licence.
        seconds: length of the recording, or of the part.
        rate: sample rate of the recording, Hz (of its content, where that is known to end lower).
        channels: of the file.
        sha256: first 16 digits, of the file.
        sound: the everyday sound that it counts for (`coverage`); empty for none.
        source: address of the original.
        start: where the part begins, seconds.
        end: where it ends; 0 = with the file.
        song: the song whose stem this is.
        stem: vocals, drums, bass or other.
        speaker: who speaks or sings.
        origin: recordings with the same origin (a session, an animal, an object) stay in one split.
        captions: further texts that a user may type, the same for all recordings of a label (in a language).
        note: MIDI note number of a single note; -1 for none.
        language: ISO code, of speech.
    """

    repo: str
    commit: str
    path: str
    label: str
    family: str
    licence: str
    credit: str
    evidence: str
    seconds: float
    rate: int
    channels: int
    sha256: str
    sound: str = ""
    source: str = ""
    start: float = 0.0
    end: float = 0.0
    song: str = ""
    stem: str = ""
    speaker: str = ""
    origin: str = ""
    captions: tuple[str, ...] = ()
    note: int = -1
    language: str = ""

    @property
    def place(self) -> str:
        """Repository and path, for messages."""
        return f"{self.repo}:{self.path}"

    @property
    def known_as(self) -> str:
        """The origin by which recordings are kept together: as given, else the original's address, else the file."""
        if self.origin:
            return self.origin
        freesound = re.search(r"freesound\.org/(?:people/[^/]+/sounds|s)/(\d+)", self.source)
        return f"freesound {freesound[1]}" if freesound else self.source or self.place

    @property
    def texts(self) -> tuple[str, ...]:
        """The label, the everyday sound and the captions, each once."""
        return tuple(dict.fromkeys(text for text in (self.label, self.sound, *self.captions) if text))


_COLUMNS = tuple(field.name for field in fields(Source))
_NUMBERS = {"seconds": float, "start": float, "end": float, "rate": int, "channels": int, "note": int}
# Columns whose commonest value stands in the table of repositories, if all recordings of the repository have one.
_REPEATED = ("licence", "evidence", "credit", "rate", "channels", "source", "speaker", "language")
_OWN = tuple(name for name in _COLUMNS if name not in ("commit", "family", "captions"))
_CAPTIONS = 5  # of a label, at most


def read_table(folder: Path = TABLE) -> list[Source]:
    """Read the table.

    Args:
        folder: of repositories.csv and the tables of the families.

    Returns:
        The recordings, sorted as they are built.

    Raises:
        DataError: a value or a licence that is not allowed; the message names the line.
    """
    repositories = {row["repo"]: row for _, row in _rows(folder / "repositories.csv")}
    captions = {(row["label"], row["language"]): row["captions"] for _, row in _rows(folder / "captions.csv")}
    found: list[Source] = []
    for family in FAMILIES:
        path = folder / f"{family}.csv"
        for number, row in _rows(path) if path.is_file() else ():
            known = repositories.get(row["repo"])
            if known is None:
                raise DataError(f"{path}, line {number}: {row['repo']} is not in repositories.csv")
            values = {name: row.get(name) or known.get(name) or "" for name in _COLUMNS} | {"family": family}
            values["path"] = known["folder"] + row["path"]
            values["captions"] = captions.get((row["label"], values["language"]), "")
            found.append(_checked(values, f"{path}, line {number}"))
    return _unique(found)


def write_table(sources: Iterable[Source], folder: Path = TABLE) -> None:
    """Write the table, sorted; the same recordings give the same bytes.

    Args:
        sources: the recordings; of several rows of one part of a file the first counts.
        folder: where it goes.

    Raises:
        DataError: two commits of one repository.
    """
    rows = _unique(sources)
    usual = {repo: _usual([row for row in rows if row.repo == repo]) for repo in sorted({row.repo for row in rows})}
    listed = [{"repo": repo} | values for repo, values in usual.items()]
    write_text(folder / "repositories.csv", _csv(("repo", "commit", "folder", *_REPEATED), listed))
    texts: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        texts[row.label, row.language].update(dict.fromkeys(row.captions))
    lines = [
        {"label": label, "language": language, "captions": "|".join(list(found)[:_CAPTIONS])}
        for (label, language), found in sorted(texts.items())
        if found
    ]
    write_text(folder / "captions.csv", _csv(("label", "language", "captions"), lines))
    for family in FAMILIES:
        lines = [_cells(row, usual[row.repo]) for row in rows if row.family == family]
        used = [name for name in _OWN if any(line[name] for line in lines)]
        write_text(folder / f"{family}.csv", _csv(used or ["repo"], lines))


def read_rows(path: Path) -> list[Source]:
    """Recordings of a JSONL file, one object a line with the keys of `Source`; keys that it lacks are ignored.

    Args:
        path: the file.

    Raises:
        DataError: as for `read_table`.
    """
    found = []
    for number, row in json_rows(path):
        values = {name: "" if row.get(name) is None else str(row[name]) for name in _COLUMNS}
        values["captions"] = "|".join(row.get("captions") or ())
        found.append(_checked(values, f"{path}, line {number}"))
    return found


def _checked(values: Mapping[str, str], where: str) -> Source:
    try:
        typed: dict[str, Any] = {
            name: _NUMBERS[name](text) if name in _NUMBERS else text for name, text in values.items() if text
        }
        typed["captions"] = tuple(text.strip() for text in values["captions"].split("|") if text.strip())
        source = Source(**typed)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error
    problem = _problem(source)
    if problem:
        raise DataError(f"{where}: {problem}")
    return source


def _problem(source: Source) -> str | None:
    if source.licence not in LICENCES and not source.licence.startswith(PERMISSION):
        return f"the licence {source.licence!r} is none of {', '.join(LICENCES)}"
    if source.family not in FAMILIES:
        return f"the family {source.family!r} is none of {', '.join(FAMILIES)}"
    if source.label != source.label.strip().lower() or not source.label:
        return f"the label {source.label!r} is not lower case, or empty"
    if not re.fullmatch(r"[0-9a-f]{16}", source.sha256) or not re.fullmatch(r"[0-9a-f]{40}", source.commit):
        return "sha256 has 16 hexadecimal digits and commit 40"
    if bool(source.song) != bool(source.stem) or (source.stem and source.stem not in STEMS):
        return f"the stem {source.stem!r} of the song {source.song!r} is none of {', '.join(STEMS)}"
    if not source.credit or not source.evidence:
        return "credit and evidence are not given"
    if source.seconds <= 0 or (source.end and source.end <= source.start):
        return "the recording has no length"
    return None


def _unique(sources: Iterable[Source]) -> list[Source]:
    """Sorted, without copies: the same part of the same bytes counts once, whichever repository has it."""
    found: dict[tuple[str, float, float], Source] = {}
    for source in sorted(sources, key=lambda s: (s.repo, s.path, s.start, s.end)):
        found.setdefault((source.sha256, source.start, source.end), source)
    return list(found.values())


def _usual(rows: Sequence[Source]) -> dict[str, str]:
    """What the table of repositories says of one."""
    commits = sorted({row.commit for row in rows})
    if len(commits) > 1:
        raise DataError(f"{rows[0].repo} is at the commits {', '.join(commits)}: give all its recordings at one")
    folder = posixpath.commonprefix([row.path for row in rows]).rpartition("/")
    common = {name: Counter(_text(getattr(row, name)) for row in rows) for name in _REPEATED}
    # Sorted, because max() takes the first of equals, and the table does not depend on the order of the rows.
    usual = {n: "" if "" in count else max(sorted(count), key=count.__getitem__) for n, count in common.items()}
    return {"commit": commits[0], "folder": folder[0] + folder[1]} | usual


def _cells(source: Source, usual: Mapping[str, str]) -> dict[str, str]:
    row = asdict(source) | {"path": source.path.removeprefix(usual["folder"])}
    texts = {name: "" if row[name] in (0, -1) else _text(row[name]) for name in _OWN}
    return {name: "" if name in _REPEATED and text == usual[name] else text for name, text in texts.items()}


def _text(value: float | str) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _rows(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from enumerate(csv.DictReader(file), 2)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
