"""What a model card says of the data: hours, every credit, every licence."""

from __future__ import annotations

import dataclasses

from audiosep.data.manifest import Clip
from audiosep.training.assemble import trained_on

CLIP = Clip(
    id="a", path="a.wav", seconds=3600.0, captions=("a dog",), label="dog", family="event", split="train",
    licence="CC-BY-4.0", credit="Ann",
)  # fmt: skip


def clip(**changes: object) -> Clip:
    return dataclasses.replace(CLIP, **changes)


def test_hours_credits_and_licences() -> None:
    clips = [
        CLIP,
        clip(id="b", family="speech", seconds=1800.0, licence="CC0-1.0", credit="Bea; Ann"),
        clip(id="c", seconds=7.2, licence="PD", credit="Cy"),
        clip(id="d", seconds=3.6, licence="PD", credit="Al"),
        clip(id="e", split="val", credit="nobody"),
    ]
    assert trained_on(clips).splitlines() == [
        "1.5 hours of clips: event 1.0, speech 0.5.",
        "",
        "| hours | credit | licence of the clips |",
        "|---|---|---|",
        "| 1.50 | Ann | CC-BY-4.0 / CC0-1.0 |",
        "| 0.50 | Bea | CC0-1.0 |",
        "",
        "Less than 0.01 hours each:",
        "",
        "- PD: Al; Cy",
    ]


def test_what_is_in_songs_of_many_licences_points_to_their_sounds() -> None:
    rooms = [clip(id=str(i), credit="a room", licence=f"licence {i}") for i in range(3)]
    assert "| 3.00 | a room | part of songs, see their sounds |" in trained_on(rooms)
