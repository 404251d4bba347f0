"""How the published network is run elsewhere, for `audiosep bench --against`.

    python -m research.reference FOLDER      # resunet30 of the published size; random weights are as fast
    audiosep bench -m FOLDER --seconds 30 --against research.reference:whole_file
    audiosep bench -m FOLDER --seconds 30 --against research.reference:published_chunks

Both references run the eager float32 network on one channel at 32 kHz, as the published code does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from audiosep.audio.resampling import resample
from audiosep.models import resunet
from audiosep.models.resunet import ResUNet30
from audiosep.query.mini import MiniEncoder
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import save_model
from audiosep.weights.model_config import read_config

# Seconds of a published window: context, what is kept, context.
LEFT, KEPT, RIGHT = 1, 3, 1


def whole_file(mix: NDArray[np.float32], queries: Sequence[str] | None, sample_rate: int) -> Tensor:
    """The whole recording in one pass."""
    return torch.cat([_run(_mono(mix, sample_rate), query) for query in queries or [""]], 1)


def published_chunks(mix: NDArray[np.float32], queries: Sequence[str] | None, sample_rate: int) -> Tensor:
    """Windows of 5 s, 3 s apart, without a cross-fade, each computed twice.

    The schedule of AudioSep's `chunk_inference`: after each window it runs the next one, in case that is the last, and
    the loop then runs it again. A recording of 5 s or less comes out silent.
    """
    x = _mono(mix, sample_rate)
    rate, length = ResUNet30.Config().sample_rate, x.shape[-1]
    size, step, context = (LEFT + KEPT + RIGHT) * rate, KEPT * rate, LEFT * rate
    outputs = []
    for query in queries or [""]:
        out = torch.zeros(1, 1, length)
        for start in range(0, max(0, length - size), step):
            first = context if start else 0
            window = _run(x[..., start : start + size], query)
            out[..., start + first : start + size - RIGHT * rate] = window[..., first : -RIGHT * rate]
            following = _run(x[..., start + step : start + step + size], query)
            out[..., start + step + context : start + step + size] = following[..., context:]
        outputs.append(out)
    return torch.cat(outputs, 1)


def write_model(folder: Path) -> None:
    """A folder with the published network, seeded random weights, and the embedded model's query encoder."""
    torch.manual_seed(0)
    mini = locate("mini")
    folder.mkdir(parents=True, exist_ok=True)
    query = MiniEncoder.from_config(read_config(mini)["query"], mini).save(folder)
    save_model(folder, ResUNet30(ResUNet30.Config()), query=query, extra={"name": "resunet30"})


def _mono(mix: NDArray[np.float32], sample_rate: int) -> Tensor:
    """(channels, samples) -> (1, 1, samples) at the network's rate."""
    mono = mix.mean(0, keepdims=True)
    return torch.from_numpy(resample(mono, sample_rate, ResUNet30.Config().sample_rate))[None]


@lru_cache(maxsize=1)
def _network() -> Any:
    resunet.TILE = 0  # the published network does not work in stretches; this process only times it
    torch.manual_seed(0)
    return ResUNet30(ResUNet30.Config()).eval()


@torch.inference_mode()
def _run(x: Tensor, query: str) -> Tensor:
    """(1, 1, samples) -> (1, 1, samples); every text costs the same, so any embedding does."""
    embedding = F.normalize(torch.ones(1, ResUNet30.Config().dimension), dim=-1)
    target: Tensor = _network()(x, embedding).waveforms[:, 0]
    return target


def main() -> None:
    """Command line: write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write_model(parser.parse_args().folder)


if __name__ == "__main__":
    main()
