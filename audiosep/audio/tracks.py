"""The audio tracks of a container, and which of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audiosep.errors import InputError


@dataclass(frozen=True)
class AudioTrack:
    """One of the audio tracks of a file.

    Args:
        number: from 1 on, among the audio tracks.
        language: as the file names it, mostly three letters; empty where it does not.
        name: its title; empty where it has none.
        default: whether the file marks it as the one to play.
    """

    number: int
    language: str = ""
    name: str = ""
    default: bool = False

    def __str__(self) -> str:
        facts = [self.language, repr(self.name) if self.name else "", "default" if self.default else ""]
        joined = ", ".join(fact for fact in facts if fact)
        return f"{self.number} ({joined})" if joined else str(self.number)


def choose_track(tracks: Sequence[AudioTrack], wanted: int | str | None) -> AudioTrack:
    """The track to read.

    Args:
        tracks: of the file, at least one.
        wanted: a number from 1 on, a language or a name, in any case; None: the default track, else the first.

    Raises:
        InputError: there is no such track, or there are several; the message lists what there is.
    """
    if wanted is None:
        return next((track for track in tracks if track.default), tracks[0])
    text = str(wanted).strip()
    if text.isdecimal():
        found = [track for track in tracks if track.number == int(text)]
    else:
        folded = text.casefold()
        found = [track for track in tracks if folded in (track.name.casefold(), track.language.casefold())]
    if len(found) != 1:
        which = "no" if not found else "more than one"
        known = ", ".join(map(str, tracks))
        remedy = f"choose one of {known}" if len(tracks) > 1 else "it has one alone"
        raise InputError(f"there is {which} audio track {text!r}: {remedy}")
    return found[0]


def describe_choice(tracks: Sequence[AudioTrack], number: int) -> str:
    """Which track is read of several, and how to choose another."""
    others = ", ".join(str(track) for track in tracks if track.number != number)
    return f"reads audio track {tracks[number - 1]}; others (track=): {others}"
