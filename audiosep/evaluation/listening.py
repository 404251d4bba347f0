"""Listening tests by ITU-R BS.1534-3 (MUSHRA): an HTML page made from a folder of systems, and the ratings it saves.

The page holds the versions under random-looking ids. Which id is which system is in the key, a separate file, so that
neither the listener nor the page knows.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from scipy.signal import fftconvolve, firwin, kaiserord

from audiosep.atomic import write_text
from audiosep.audio import is_recording, write_audio
from audiosep.audio.samples import Array
from audiosep.data.text_files import read_json
from audiosep.errors import ConfigError, DataError
from audiosep.evaluation.scene_files import SetLayout, SourceFile, common_gain, loudest_cut, read_scene
from audiosep.weights.configs import from_dict, to_dict

REFERENCE, ANCHOR, MID_ANCHOR = "reference", "anchor 3.5 kHz", "anchor 7 kHz"
MOST_SIGNALS = 12
LAYOUT = SetLayout(
    "a listening test",
    "reference/piano.wav\nreference/dog.wav\nmini/piano.wav   (a folder a system, the same file names in each)\n"
    "mini/dog.wav\nrepet/piano.wav\nrepet/dog.wav",
    "you",
)


@dataclass(frozen=True)
class Signal:
    """One version of an item.

    Attributes:
        id: in the page.
        system: that made it, or the name of the reference or an anchor.
    """

    id: str
    system: str


@dataclass(frozen=True)
class Trial:
    """One item and its versions.

    Attributes:
        id: in the page.
        item: name of its file.
        signals: its versions.
    """

    id: str
    item: str
    signals: tuple[Signal, ...]


@dataclass(frozen=True)
class Key:
    """Which id of a page is which item and system.

    Attributes:
        test: id of the page.
        trials: all items.
        format: version of the file format.
    """

    test: str
    trials: tuple[Trial, ...]
    format: int = 1

    def save(self, path: Path) -> None:
        """Write the key."""
        write_text(path, json.dumps(to_dict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Key:
        """Read a key.

        Raises:
            DataError: the file is not a key.
        """
        try:
            return from_dict(cls, read_json(path))
        except (ConfigError, DataError) as error:
            raise DataError(f"{path}: not the key of a listening test: {error}") from error


def make_test(
    folder: Path, page: Path, *, title: str = "Listening test", seconds: float = 10.0, mid_anchor: bool = False
) -> Key:
    """Write the page of a test, and its key beside it as `NAME.key.json`.

    Every item gets a hidden reference and an anchor (the reference up to 3.5 kHz). All versions of an item are cut to
    the part where the reference is loudest and get the same gain.

    Args:
        folder: holds `reference/` and one folder for each system.
        page: the HTML file to write.
        title: heading of the page.
        seconds: length of the cut; the recommendation says about 10 s and at most 12 s.
        mid_anchor: add the reference up to 7 kHz.

    Returns:
        The key, which is also written.

    Raises:
        DataError: a missing file, files of different lengths, rates or channels, a sample rate too low for an anchor,
            more than 12 versions, or the key of another test in the place of this one's.
    """
    references = sorted(path for path in (folder / REFERENCE).glob("*") if is_recording(path))
    systems = sorted(path.name for path in folder.glob("*") if path.is_dir() and path.name != REFERENCE)
    if not references or not systems:
        raise LAYOUT.missing("no reference/ with recordings" if not references else "no folder of a system", folder)
    count = 2 + mid_anchor + len(systems)
    if count > MOST_SIGNALS:
        raise DataError(f"{count} versions of an item are too many to rate: BS.1534 allows {MOST_SIGNALS}")
    items: dict[str, dict[str, str]] = {}  # item -> system -> FLAC
    for path in references:
        audio, rate = _versions(folder, path, systems, seconds, mid_anchor)
        items[path.stem] = {name: _flac(x, rate) for name, x in audio.items()}
    # Of the sound too: a page with other sound is another test, whose ratings must not be taken for this one's.
    test = hashlib.sha256(json.dumps([title, items]).encode()).hexdigest()[:10]
    trials, data = [], []
    for item, versions in items.items():
        signals = {name: _hash_id(test, item, name) for name in versions}
        trials.append(Trial(_hash_id(test, item), item, tuple(Signal(s, name) for name, s in signals.items())))
        # Sorted by id, so that the order in the page says nothing about the systems.
        entries = [{"id": i, "audio": text} for i, text in sorted((signals[n], text) for n, text in versions.items())]
        data.append({"id": trials[-1].id, "reference": versions[REFERENCE], "signals": entries})
    key = Key(test, tuple(trials))
    place = key_path(page)
    if place.is_file() and Key.load(place) != key:
        raise DataError(
            f"{place} is the key of another test, without which its ratings cannot be read: "
            "choose another name for the page, or delete that file"
        )
    document = json.dumps({"id": test, "trials": sorted(data, key=lambda trial: str(trial["id"]))})
    template = (resources.files("audiosep.evaluation") / "templates" / "listening.html").read_text(encoding="utf-8")
    filled = Template(template).substitute(title=html.escape(title), data=document.replace("</", "<\\/"))
    write_text(page, filled)
    key.save(place)
    return key


def key_path(page: Path) -> Path:
    """The path of the key of a page."""
    return page.with_suffix(".key.json")


def low_pass(x: Array, sample_rate: int, cutoff: float) -> Array:
    """Low-pass filter for an anchor of BS.1534-3: flat within 0.1 dB up to `cutoff`, -60 dB from 500 Hz above it.

    The recommendation asks for -25 dB at 4 kHz and -50 dB at 4.5 kHz (for 3.5 kHz). The filter has linear phase, and
    its delay is removed.

    Args:
        x: (channels, samples).
        sample_rate: Hz.
        cutoff: Hz.

    Returns:
        (channels, samples).

    Raises:
        DataError: the sample rate is too low for it.
    """
    if cutoff + 500 > sample_rate / 2:
        raise DataError(
            f"recordings of {sample_rate} Hz are too low for an anchor of {cutoff / 1000:g} kHz: take recordings of "
            f"{2 * cutoff + 1000:g} Hz or more" + (", or leave out --mid-anchor" if cutoff > 3500 else "")
        )
    taps, beta = kaiserord(60.0, 500 / (sample_rate / 2))
    kernel = firwin(taps | 1, cutoff + 250, window=("kaiser", beta), fs=sample_rate)
    filtered: Array = fftconvolve(x, kernel[None], mode="same", axes=-1).astype(np.float32)
    return filtered


def read_ratings(paths: Sequence[Path], key: Key) -> dict[str, dict[tuple[str, str], float]]:
    """Read the ratings that listeners saved.

    Args:
        paths: one file a listener.
        key: of the page.

    Returns:
        listener -> (item, system) -> rating, 0 to 100.

    Raises:
        DataError: ratings of another test, a missing rating, or two files of one listener.
    """
    names = {(trial.id, signal.id): (trial.item, signal.system) for trial in key.trials for signal in trial.signals}
    ratings: dict[str, dict[tuple[str, str], float]] = {}
    for path in paths:
        try:
            data = read_json(path)
            listener, test = str(data["listener"]), data["test"]
            given = {(t["trial"], signal): float(v) for t in data["trials"] for signal, v in t["ratings"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error) if isinstance(error, DataError) else "name the files that the page saved"
            raise DataError(f"{path}: not ratings of a listening test: {reason}") from error
        if test != key.test:
            raise DataError(
                f"{path}: ratings of the test {test!r}, the key is of {key.test!r}: name the key of its page"
            )
        if listener in ratings:
            raise DataError(f"{path}: the listener {listener!r} is in two files; keep one, or rename one of them")
        if set(given) != set(names):
            raise DataError(f"{path}: {len(set(names) - set(given))} of {len(names)} ratings are missing")
        if not all(0 <= value <= 100 for value in given.values()):
            raise DataError(f"{path}: a rating is not between 0 and 100: save it again from the page")
        ratings[listener] = {names[place]: value for place, value in given.items()}
    if not ratings:
        raise DataError("no ratings given: name the files that the page saves")
    return ratings


def _versions(
    folder: Path, reference: Path, systems: Sequence[str], seconds: float, mid_anchor: bool
) -> tuple[dict[str, Array], int]:
    """All versions of an item by system, cut and with one gain."""
    sources = []
    for system in systems:
        path = folder / system / reference.name
        if not path.is_file():
            raise LAYOUT.missing(f"no {system}/{reference.name}", folder)
        sources.append(SourceFile(system, str(path)))
    read = read_scene(str(reference), sources)
    audio: dict[str, Array] = {REFERENCE: read.mix, ANCHOR: low_pass(read.mix, read.sample_rate, 3500.0)}
    if mid_anchor:
        audio[MID_ANCHOR] = low_pass(read.mix, read.sample_rate, 7000.0)
    audio |= read.sources
    cut, gain = loudest_cut(read.mix, round(seconds * read.sample_rate)), common_gain(audio.values())
    return {name: gain * x[:, cut] for name, x in audio.items()}, read.sample_rate


def _hash_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _flac(x: Array, sample_rate: int) -> str:
    """FLAC (lossless, and decoded by browsers) as base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.flac"
        write_audio(path, x, sample_rate)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def describe(key: Key) -> dict[str, Any]:
    """The contents of a test as JSON values."""
    systems = sorted({signal.system for trial in key.trials for signal in trial.signals})
    return {"test": key.test, "items": len(key.trials), "versions": systems}
