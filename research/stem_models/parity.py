"""HT-Demucs as a model here, beside ONNX Runtime on one window and beside the package's own way on a whole recording.

python -m research.stem_models.parity song/mixture.wav --model htdemucs --onnx package/htdemucs.onnx --beside mini

Stems that lie beside the mixture (vocals.wav, drums.wav, ...) are compared with both, and with those of the model that
`--beside` names, in SI-SDR.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.api import load
from audiosep.audio import read_audio
from audiosep.errors import InputError
from audiosep.metrics import sdr, si_sdr
from audiosep.models.published import PublishedStems
from audiosep.separator import Separator

Samples = NDArray[np.float32]


def window_of_onnx(model: PublishedStems, mix: Tensor, path: Path) -> Tensor:
    """(sources, channels, samples): a window of a network of demucs by ONNX Runtime, with the package's transforms."""
    import onnxruntime

    network: Any = model.networks[0]
    x = mix[None, :, : model.window]
    spectrum = network._magnitude(network._spec(x))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    bins, waves = session.run(None, dict(zip(names, (x.numpy(), spectrum.numpy()), strict=True)))
    inverse: Tensor = network._ispec(network._mask(None, torch.from_numpy(bins)), x.shape[-1])
    return inverse[0] + torch.from_numpy(waves).reshape(inverse.shape)[0]


def own_way(model: PublishedStems, mix: Tensor) -> Tensor:
    """(sources, channels, samples): as the package's command separates, without its random shift."""
    from demucs.apply import apply_model

    mono = mix.mean(0)
    estimate: Tensor = apply_model(
        model.networks[0], ((mix - mono.mean()) / mono.std())[None], shifts=0, split=True, overlap=0.25
    )[0]
    return estimate * mono.std() + mono.mean()


def compare(
    separator: Separator, mixture: Path, onnx: Path | None, start: float, end: float | None, beside: Separator | None
) -> list[str]:
    """The lines of the comparison.

    Args:
        separator: with a model of demucs, of one network.
        mixture: a stereo recording at 44.1 kHz.
        onnx: the graph of the same weights; None to leave that part out.
        start: where the part to compare starts, seconds.
        end: where it ends, seconds; None for the end of the recording.
        beside: another model with the same stems; None for none.

    Raises:
        InputError: another model or recording.
    """
    model, seconds = separator.model, None if end is None else end - start
    mix, rate = read_audio(mixture, start=start, seconds=seconds)
    if not isinstance(model, PublishedStems) or len(model.networks) != 1 or rate != model.sample_rate:
        raise InputError("this compares a published model of one network on a recording at its rate")
    lines = []
    with torch.inference_mode():
        if onnx is not None:
            theirs = window_of_onnx(model, torch.from_numpy(mix), onnx)
            ours = model.outputs(torch.from_numpy(mix[None, :, : model.window]))[0]
            for name, one, other in zip(model.config.sources, ours, theirs, strict=True):
                lines.append(f"one window, {name}: {float(sdr(one, other)):.1f} dB to ONNX Runtime")
        stems, ours_took = _timed(lambda: separator.stems(mix, sample_rate=rate))
        package, package_took = _timed(lambda: own_way(model, torch.from_numpy(mix)).numpy())
    length = mix.shape[1] / rate
    lines.append(f"real-time factor: ours {ours_took / length:.2f}, the package's {package_took / length:.2f}")
    others = None
    if beside is not None:
        others, took = _timed(lambda: beside.stems(mix, sample_rate=rate))
        lines[-1] += f", that of {beside.name} {took / length:.2f}"
    for name in separator.stem_names:
        path = mixture.with_name(f"{name}.wav")
        other = package[model.config.sources.index(name)]
        lines.append(f"whole, {name}: {_db(sdr, stems[name], other):.1f} dB to the package's own way")
        if path.is_file():
            truth = read_audio(path, start=start, seconds=seconds)[0]
            ways = {"mixture": mix, "ours": stems[name], "package": other}
            if others is not None and beside is not None:
                ways[beside.name] = others[name]
            scores = ", ".join(f"{way} {_db(si_sdr, one, truth):.2f}" for way, one in ways.items())
            lines.append(f"  SI-SDR in dB: {scores}")
    lines.append(
        f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, of all in one process"
    )
    return lines


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work returns, and the seconds of the processor that it takes."""
    began = time.process_time()
    return work(), time.process_time() - began


def _db(measure: Callable[[Tensor, Tensor], Tensor], estimate: Samples, truth: Samples) -> float:
    pair = [torch.from_numpy(np.asarray(x, np.float64).reshape(1, -1)) for x in (estimate, truth)]
    return float(measure(pair[0], pair[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixture", type=Path)
    parser.add_argument("--model", default="htdemucs")
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--beside", help="a model with the same stems")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--end", type=float)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    separator = load(given.model, "cpu", sounds=False)
    beside = load(given.beside, "cpu", sounds=False) if given.beside else None
    print("\n".join(compare(separator, given.mixture, given.onnx, given.start, given.end, beside)))


if __name__ == "__main__":
    main()
