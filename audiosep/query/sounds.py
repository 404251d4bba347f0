"""Names of the user's own: sounds that were remembered from examples, in one file.

The file is replaced as a whole, under a lock, so that two processes may remember at once. It is read only where a query
has a remembered name, and its list of names only when it has changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import filelock
import numpy as np
from torch import Tensor

from audiosep.atomic import linked, make_folder, remove_leftovers, write_bytes
from audiosep.audio.inputs import is_file
from audiosep.errors import AudioSepError, InputError, ModelError, counted, missing_file
from audiosep.hearing.spans import checked_spans
from audiosep.query.encoder import QueryEncoder
from audiosep.query.example import Example
from audiosep.query.own_sound import OwnSound, embedded_again, hear, listening_of
from audiosep.query.query import fold_name, is_text
from audiosep.query.sounds_file import is_file_of_sounds, names_of, packed, unpacked
from audiosep.weights.user_config import config_folder

if TYPE_CHECKING:
    from audiosep.separator import Separator

logger = logging.getLogger(__name__)

VARIABLE = "AUDIOSEP_SOUNDS"
_FILE = "sounds.safetensors"
_WAIT = 60.0  # seconds for another process that writes the file


def own_file() -> Path | None:
    """The file of the user's own sounds: $AUDIOSEP_SOUNDS, or one in the user's folder of configurations.

    Returns:
        The file, which need not exist; None for a user without a home folder.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser()
    except RuntimeError:
        return None
    folder = config_folder()
    return None if folder is None else folder / _FILE


class Sounds(Mapping[str, OwnSound]):
    """Name -> a sound that was remembered from examples. Names are compared as `fold_name` says.

    Args:
        path: the file, which need not exist; None for the user's own, see `own_file`.

    Attributes:
        path: the file; None for a user without a home folder, who has no sounds.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = own_file() if path is None else Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._names: dict[str, str] = {}
        self._embedded: WeakKeyDictionary[QueryEncoder, dict[str, OwnSound]] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Sounds], tuple[Path | None]]:
        return Sounds, (self.path,)

    def __getitem__(self, name: str) -> OwnSound:
        key = fold_name(name)
        if key in self._known():
            found = self._read({key})
            if key in found:
                return found[key]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known().values())

    def __len__(self) -> int:
        return len(self._known())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and fold_name(name) in self._known()

    def remember(
        self,
        name: str,
        examples: Example | Sequence[Example],
        separator: Separator,
        *,
        at: Sequence[tuple[float, float]] = (),
        keep_audio: bool = False,
        replace: bool = False,
    ) -> OwnSound:
        """Remember a sound by examples, or add examples to it; each counts once, also under another file name.

        Args:
            name: of the sound; queries of this text are answered with it.
            examples: recordings of the sound and little else: paths, opened files, bytes of files, or pairs of array
                and sample rate in Hz.
            separator: whose model hears them, from `audiosep.load`.
            at: start and end, in seconds, of the parts of a single recording that are meant; each is an example.
            keep_audio: keep what was heard of them in the file, so that other models can hear it too.
            replace: forget what the name had before.

        Returns:
            The sound with all its examples.

        Raises:
            QueryError: parts that are no spans.
            InputError: no name, no example, an array without its rate, or examples that are silent, too short or cannot
                be read: up to twenty are named, and nothing is remembered.
            ModelError: the model takes no examples, or the name has examples that only another model has heard.
            AudioSepError: the file cannot be written.
        """
        if not is_text(name) or not (key := fold_name(name)):
            raise InputError(f"a sound needs a name in words, such as 'my kettle', got {name!r}")
        wanted = _parts(examples, at)
        self._place()  # before the model works
        heard, listening = hear(separator, wanted, keep_audio=keep_audio), listening_of(separator)
        with self._changing() as sounds:
            old = None if replace else sounds.get(key)
            if old is not None and not old.listening.same(listening):
                old = embedded_again(old, separator)
            before = () if old is None else old.examples
            title = " ".join(name.split()) if old is None else old.name
            now = datetime.now(UTC).isoformat(timespec="seconds")
            sounds[key] = sound = OwnSound(title, before, now, listening).with_examples(heard)
        if repeated := len(before) + len(heard) - len(sound.examples):
            logger.warning(
                "%r: %d of %s, exact copies of others, count once", title, repeated, counted(len(heard), "example")
            )
        return sound

    def forget(self, name: str) -> None:
        """Forget a sound.

        Args:
            name: of the sound.

        Raises:
            InputError: there is no such name.
            AudioSepError: the file cannot be written.
        """
        self.check([name])
        with self._changing() as sounds:
            sounds.pop(fold_name(name), None)

    def export(self, path: str | Path, names: Sequence[str] = (), *, overwrite: bool = False) -> int:
        """Write sounds to a file of their own, for another machine or user.

        Args:
            path: the file to write.
            names: of the sounds; none for all.
            overwrite: replace a file that exists.

        Returns:
            The number of sounds.

        Raises:
            InputError: there is no such name, nothing to write, or the file exists, is another kind of file or that of
                these sounds.
            AudioSepError: the file cannot be written.
        """
        self.check(names)
        sounds = self._read({fold_name(name) for name in names} or None)
        if not sounds:
            raise InputError("there are no sounds to export: remember some first (audiosep remember NAME FILES)")
        if self.path is not None and Path(path).resolve() == self.path.resolve():
            raise InputError(f"{path} is the file of these sounds itself: choose another one for the copy")
        if Path(path).exists() and not overwrite:
            raise InputError(f"{path} exists already: choose another name, or overwrite=True")
        if Path(path).exists() and not is_file_of_sounds(Path(path)):
            raise InputError(f"{path} is no file of sounds, and is not replaced: choose another name")
        write_bytes(path, packed(sounds.values()))
        return len(sounds)

    def add(self, path: str | Path, *, overwrite: bool = False) -> list[str]:
        """Add the sounds of a file that `export` wrote.

        Args:
            path: the file.
            overwrite: replace sounds of the same names.

        Returns:
            The names that were added.

        Raises:
            InputError: names that are there already, all of them named; nothing is added then.
            ModelError: no such file, or it is damaged.
            AudioSepError: the file of this collection cannot be written.
        """
        if not Path(path).is_file():
            raise ModelError(missing_file(path))
        new = Sounds(path)._read()
        with self._changing() as sounds:
            both = [sound.name for key, sound in new.items() if key in sounds]
            if both and not overwrite:
                raise InputError(
                    f"there are sounds of these names already: {', '.join(both)}; forget them, or overwrite=True"
                )
            sounds.update(new)
        return [sound.name for sound in new.values()]

    def heard_by(self, separator: Separator, texts: Iterable[str]) -> dict[str, OwnSound]:
        """The sounds that texts name, as a separator hears them.

        Args:
            separator: whose model separates.
            texts: of queries.

        Returns:
            Text -> the sound; without texts that are no remembered name.

        Raises:
            ModelError: the file is damaged, or another model has heard the examples and they were not kept.
        """
        known = self._known()
        keys = {text: fold_name(text) for text in texts}
        wanted = {key for key in keys.values() if key in known}
        encoder = separator.encoder
        if not wanted or encoder is None:
            return {}
        cache = self._embedded.setdefault(encoder, {})
        if missing := wanted - cache.keys():
            listening = listening_of(separator)
            for key, sound in self._read(missing).items():
                cache[key] = sound if sound.listening.same(listening) else embedded_again(sound, separator)
        return {text: cache[key] for text, key in keys.items() if key in cache and key in wanted}

    def check(self, names: Sequence[str]) -> None:
        """Refuse names that are not remembered.

        Args:
            names: of sounds.

        Raises:
            InputError: those that are missing.
        """
        if missing := [name for name in names if name not in self]:
            have = ", ".join(list(self)[:20]) or "none"
            raise InputError(f"no sound is remembered as {', '.join(map(repr, missing))}; there are: {have}")

    # ---- the file ------------------------------------------------------------------------------------------------

    def _place(self) -> Path:
        if self.path is None:
            raise InputError(f"there is no folder for your sounds: set {VARIABLE} to a file, or name one (--sounds)")
        return self.path

    def _known(self) -> dict[str, str]:
        """Folded name -> name; read again when the file has changed."""
        try:
            about = None if self.path is None else self.path.stat()
        except FileNotFoundError:
            about = None
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read ({error.strerror}): choose another file") from error
        stamp = None if about is None else (about.st_ino, about.st_size, about.st_mtime_ns)
        if stamp != self._stamp:
            self._embedded.clear()
            self._names = {} if self.path is None or stamp is None else names_of(self.path)
            self._stamp = stamp
        return self._names

    def _read(self, keys: set[str] | None = None) -> dict[str, OwnSound]:
        """Folded name -> sound, of some names or all."""
        return {} if self.path is None or not self.path.exists() else unpacked(self.path, keys)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, OwnSound]]:
        """All sounds, to change; the file is replaced when the block ends well. Other processes wait."""
        path = self._place()
        make_folder(path.parent)
        try:
            lock = filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=_WAIT)
            with lock:
                remove_leftovers(linked(path).parent)
                sounds = self._read()
                yield sounds
                write_bytes(path, packed(sounds.values()))
        except filelock.Timeout as error:
            raise AudioSepError(f"{path} is in use by another process since {_WAIT:.0f} s: try again later") from error
        except OSError as error:
            raise AudioSepError(f"{path} cannot be written ({error.strerror}): choose another file") from error


def _parts(
    examples: Example | Sequence[Example], at: Sequence[tuple[float, float]]
) -> list[tuple[Example, tuple[float, float] | None]]:
    """Each example with the part that is meant."""
    if isinstance(examples, np.ndarray | Tensor):  # of which each sample would be an example
        raise InputError("an array is an example together with its sample rate: give (array, 44100), in Hz")
    single = is_file(examples) or (isinstance(examples, tuple) and len(examples) == 2 and isinstance(examples[1], Real))
    items: list[Example] = [examples] if single else list(examples)  # type: ignore[list-item,arg-type]
    if not items:
        raise InputError("remember a sound by at least one example")
    if at and len(items) != 1:
        raise InputError(f"parts are of one recording, got {len(items)}: remember them one after the other")
    parts = checked_spans(at)
    return [(item, span) for item in items for span in (parts or (None,))]
