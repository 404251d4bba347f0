"""A training batch as audio files."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import torch

from audiosep.atomic import fill_folder
from audiosep.audio import write_audio
from audiosep.data.mixing import Mixer
from audiosep.data.sampling import Sampler
from audiosep.errors import InputError

_NAMES = re.compile(r"\d{2,}(-\d+ \(.*\))?\.wav", re.DOTALL)
_LONGEST = 50  # characters of a query in the name of a file, which has at most 255 bytes


def write_batch(sampler: Sampler, step: int, folder: Path) -> dict[str, Any]:
    """Write the mixtures, targets and examples of one step.

    Args:
        sampler: draws the batch.
        step: of the training.
        folder: gets `00.wav` for a mixture, `00-1 (dog barking).wav` for a target, `00-1 (example).wav`; a batch that
            it holds already is replaced.

    Returns:
        `queries`: file, text, negative, absence and mixture of each query; `plan_ms` and `render_ms`: milliseconds that
        drawing and rendering took, without the first time.

    Raises:
        InputError: the folder holds other files.
        AudioSepError: it cannot be written.
    """
    if folder.is_dir() and (other := [path for path in folder.iterdir() if not _NAMES.fullmatch(path.name)]):
        raise InputError(f"{folder} holds other files ({min(other).name}): name another folder for the batch")
    mixer = Mixer(sampler.corpus)
    mixer.render(sampler.plan(step))  # not measured: fills the filter caches and reads the audio from disk
    started = time.perf_counter()
    plan = sampler.plan(step)
    planned = time.perf_counter()
    batch = mixer.render(plan)
    done = time.perf_counter()
    with fill_folder(folder) as part:
        rate = sampler.corpus.sample_rate
        sources = batch.sources if batch.sources.ndim == 4 else batch.sources[:, :, None]
        names = [[sampler.corpus.clips[s.clip].label for s in mixture.sources] for mixture in plan.mixtures]
        for number, mixture in enumerate(sources.sum(1)):
            write_audio(part / f"{number:02d}.wav", mixture.cpu().numpy(), rate)
        queries: list[dict[str, Any]] = []
        for q, query in enumerate(plan.queries):
            stem = f"{query.mixture:02d}-{q}"
            target = torch.einsum("s,sct->ct", batch.membership[q], sources[query.mixture])
            sound = re.sub(r"[^\w ]", "_", query.caption)[:_LONGEST]
            file = f"{stem} ({sound}).wav"
            write_audio(part / file, target.cpu().numpy(), rate)
            row = {"file": file, "query": query.caption, "negative": query.negative, "absent": not query.members}
            queries.append(row | {"mixture": names[query.mixture]})
        if batch.examples is not None and batch.example_of is not None:
            for q, example in zip(batch.example_of.tolist(), batch.examples, strict=True):
                file = f"{plan.queries[q].mixture:02d}-{q} (example).wav"
                write_audio(part / file, example[None].cpu().numpy(), rate)
    times = {"plan_ms": 1000 * (planned - started), "render_ms": 1000 * (done - planned)}
    return {"queries": queries} | times
