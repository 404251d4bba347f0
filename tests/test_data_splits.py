"""Labels that imply names, and splits that never change."""

from __future__ import annotations

import dataclasses
import random

import pytest

from audiosep.data.labels import everyday_labels, label_table, mentions, tokens
from audiosep.data.manifest import Clip
from audiosep.data.splits import assign_splits, groups, held_back_groups, split_sources, zero_clips, zero_labels

TABLE = label_table()


@pytest.mark.parametrize(
    ("label", "name", "implied"),
    [
        ("drum kit", "snare drum", True),
        ("snare drum", "drum kit", False),
        ("rain on a surface", "rain", True),
        ("rain", "rain on a surface", False),
        ("male speech", "speech", True),
        ("choir", "vocals", True),
        ("crowd", "speech", True),
        ("street traffic", "car engine", True),
        ("distorted guitar", "guitar", True),
        ("thunderstorm", "thunder", True),
        ("a label that nobody knows", "a label that nobody knows", True),
        ("dog barking", "cat meowing", False),
    ],
)
def test_implications(label, name, implied):
    assert TABLE.implies(label, name) is implied


def test_conflicts_are_mutual_and_need_something_in_common():
    assert TABLE.conflict("violin", "cello")  # both are bowed strings
    assert TABLE.conflict("my dog", "dogs at night")  # a word
    assert TABLE.conflict("snare drum", "drum kit")
    assert TABLE.conflict("drum kit", "snare drum")
    assert not TABLE.conflict("dog barking", "rain")
    assert not TABLE.conflict("my dog", "my cat")
    assert tokens("The sounds of DOGS playing") == {"dog"}
    assert tokens("Été à Genève") == {"été", "à", "genève"}
    assert not mentions("I can't hear it", "été")
    assert mentions("a small dog barking far away", "dog barking")
    assert not mentions("a dog", "dog barking")


def corpus(takes: int = 10, seconds: float = 3.0) -> list[Clip]:
    """Ten recordings in each of 40 labels of two families."""
    clips = []
    for number in range(40):
        family = "event" if number < 30 else "speech"
        for take in range(takes):
            name = f"{family}{number}-{take}"
            clips.append(Clip(name, "x", f"sound{number}", family=family, seconds=seconds, group=f"origin:{name}"))
    return clips


def test_a_tenth_of_each_family_is_held_back_by_whole_groups():
    clips = corpus()
    split = assign_splits(clips, zero=())
    for family in ("event", "speech"):
        mine = [clip for clip in split if clip.family == family]
        assert 0.1 <= sum(clip.split == "val" for clip in mine) / len(mine) <= 0.12
    trained = {clip.label for clip in split if clip.split == "train"}
    assert trained == {clip.label for clip in clips}  # no label loses its last group


def test_a_source_with_clips_for_validation_is_not_divided_again():
    plain = corpus()
    songs = [Clip(f"song{n}", "x", "singing", family="music", seconds=60.0, group=f"song:{n}") for n in range(30)]
    songs[:2] = [dataclasses.replace(song, split="val") for song in songs[:2]]
    more = [Clip("more", "x", "sound1", family="event", seconds=3.0, group=plain[10].group), *songs]
    clips, held_out = split_sources([plain, more], 0)
    assert held_out == ()
    assert clips[len(plain) :] == more
    assert clips[: len(plain)] != plain  # this one is divided
    assert clips[10].split == "train"  # its group has clips of the other source
    tested = [dataclasses.replace(song, split="test" if song.split == "val" else "train") for song in songs]
    assert {clip.split for clip in split_sources([tested], 0)[0]} == {"train", "val", "test"}


def test_clips_go_with_the_clips_of_their_group_that_a_source_keeps_for_a_test():
    plain = corpus()
    plain[3] = dataclasses.replace(plain[3], group="speaker:a+speaker:b")
    plain[7] = dataclasses.replace(plain[7], group="speaker:b")
    given = Clip("given", "x", "speech", family="speech", seconds=3.0, group="speaker:a", split="val")
    tested = dataclasses.replace(given, id="tested", split="test")
    clips, _ = split_sources([plain, [given]], 0)
    assert clips[3].split == clips[7].split == "val"
    assert {clip.split for clip in split_sources([plain, [given]], 20)[0]} == {"train", "val", "zero"}
    clips, _ = split_sources([plain, [tested, given]], 0)
    assert clips[3].split == clips[7].split == "test"
    assert clips[-2:] == [tested, given]


def test_splits_do_not_depend_on_the_order_of_clips():
    clips = corpus()
    shuffled = list(clips)
    random.Random(1).shuffle(shuffled)
    expected = {clip.id: clip.split for clip in assign_splits(clips)}
    assert {clip.id: clip.split for clip in assign_splits(shuffled)} == expected


def test_frozen():
    """The rule may not change once models are trained on it."""
    split = assign_splits(corpus(), zero=())
    assert zero_labels(corpus())[:5] == ("sound18", "sound14", "sound10", "sound7", "sound3")
    assert sorted(c.id for c in split if c.split == "val" and c.family == "speech")[:3] == [
        "speech30-0",
        "speech31-0",
        "speech32-0",
    ]


def test_clips_that_share_a_speaker_share_a_group():
    clips = [
        Clip("1", "x", "speech", group="speaker:a+speaker:b"),
        Clip("2", "x", "speech", group="speaker:c"),
        Clip("3", "x", "speech", group="speaker:c+speaker:b"),
        Clip("4", "x", "speech", group="speaker:d"),
        Clip("5", "x", "speech"),
    ]
    of = groups(clips)
    assert of["1"] == of["2"] == of["3"]
    assert len({of["1"], of["4"], of["5"]}) == 3


def test_a_group_with_most_of_a_family_is_not_held_back():
    clips = [Clip(f"big{i}", "x", "speech", family="speech", seconds=10, group="source:big") for i in range(9)]
    clips += [Clip(f"s{i}", "x", "speech", family="speech", seconds=1, group=f"speaker:{i}") for i in range(30)]
    held = held_back_groups(clips)
    assert "source:big" not in held
    assert held


def test_zero_labels_are_held_out_with_all_related_labels():
    takes = {"thunder": 8, "thunderstorm": 3, "rain": 9, "explosion": 12, "drill": 9, "speech": 9, "humming": 2}
    clips = [
        Clip(
            f"{label}{i}", "x", label, family="speech" if label == "speech" else "event", seconds=2, group=f"{label}{i}"
        )
        for label, count in takes.items()
        for i in range(count)
    ]
    clips[-1] = Clip(
        "humming1", "x", "humming", family="vocal-effect", captions=("humming by a power drill",), seconds=2
    )
    chosen = zero_labels(clips, count=20, least=8)
    assert set(chosen) <= {"thunder", "explosion", "drill"}
    assert "thunder" in chosen  # thunderstorms are held out too; rain, an everyday label, is not implied by thunder
    out = zero_clips(clips, ("thunder",))
    assert out == {c.id for c in clips if c.label in ("thunder", "thunderstorm")}
    assert "humming1" in zero_clips(clips, ("drill",))  # a caption names it
    assert "rain" in everyday_labels()
    split = assign_splits(clips, ("thunder",))
    assert not {c.label for c in split if c.split in ("train", "val")} & {"thunder", "thunderstorm"}


def test_a_label_that_would_hold_out_more_clips_than_its_own_is_skipped():
    clips = [Clip(f"{i}", "x", "drill", group="origin:day") for i in range(8)]
    clips += [Clip(f"day{i}", "x", "knocking", group="origin:day") for i in range(8)]
    assert len(zero_labels(clips, count=1)) == 1
    more = [*clips, Clip("one more", "x", "bell", group="origin:day")]
    assert zero_labels(more, count=1) == ()


def test_what_shares_a_recording_with_a_zero_clip_is_out_too():
    clips = [
        Clip("a", "x", "drill", group="origin:day"),
        Clip("b", "x", "knocking", group="origin:day"),
        Clip("c", "x", "bell"),
    ]
    assert zero_clips(clips, ("drill",)) == {"a", "b"}


def test_clips_of_unknown_length_are_held_back_too():
    clips = [Clip(f"{i}", f"{i}.wav", "ab"[i % 2], group=f"g{i}") for i in range(80)]
    assert 6 <= sum(clip.split == "val" for clip in assign_splits(clips, zero=())) <= 10
