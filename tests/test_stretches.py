"""A level in stretches: the same as all at once, and each stretch with what it stands on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from audiosep.models.stretches import REACH, Stretch, in_stretches

WEIGHT = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def smooth(x: torch.Tensor) -> torch.Tensor:
    """Two 3 x 3 convolutions, each of which sees zeros beyond the ends of time."""
    for _ in range(2):
        x = F.conv2d(x, WEIGHT, padding=1)
    return x


def of_stretch(x: Stretch, out: torch.Tensor | None) -> torch.Tensor:
    """`smooth` for the frames that are the stretch's own; writes where it is told to."""
    whole = smooth(x.frames)  # wrong at its cuts, within what is the neighbours'
    own = whole[:, :, x.before : whole.shape[2] - x.after]
    return own if out is None else out.copy_(own)


@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9, 10, 11, 24, 29])
@pytest.mark.parametrize("length", [0, 4, 8, 40])
def test_a_level_in_stretches_is_the_level(frames: int, length: int) -> None:
    level = torch.randn(2, 3, frames, 5, generator=torch.Generator().manual_seed(frames))
    torch.testing.assert_close(in_stretches(of_stretch, level, length), smooth(level), rtol=1e-5, atol=1e-4)


def test_stretches_share_out_a_level_and_reach_into_their_neighbours() -> None:
    level = torch.arange(29.0).view(1, 1, 29, 1)
    seen: list[Stretch] = []

    def note(x: Stretch, _: torch.Tensor | None) -> torch.Tensor:
        seen.append(x)
        return x.own

    assert torch.equal(in_stretches(note, level, 8), level)
    assert torch.equal(torch.cat([x.own for x in seen], 2), level)
    assert [(x.before, x.after) for x in seen] == [(0, REACH), (REACH, REACH), (REACH, REACH), (REACH, 0)]
    assert [x.start for x in seen] == [int(x.frames[0, 0, 0, 0]) for x in seen]


@pytest.mark.parametrize("pool", [1, 2])
def test_a_stretch_finds_the_frames_below_it(pool: int) -> None:
    level = torch.arange(32.0).view(1, 1, 32, 1)
    below = level[:, :, ::pool] // pool

    def raised(x: Stretch, _: torch.Tensor | None) -> torch.Tensor:
        found = x.below(below, pool).repeat_interleave(pool, 2)
        assert torch.equal(found, x.frames // pool)
        return x.own

    in_stretches(raised, level, 8)


@pytest.mark.parametrize("cut", [False, True])
def test_further_channels_come_first(cut: bool) -> None:
    frames, further = torch.randn(1, 2, 6, 3), torch.randn(1, 4, 6, 3)
    both = Stretch(frames, start=2, before=REACH * cut).under(further)
    assert torch.equal(both.frames, torch.cat((further, frames), 1))
    assert (both.start, both.before, both.after) == (2, REACH * cut, 0)
