"""What a GPU shows in four minutes: right results, speed, memory, batches, training. One report, whatever fails.

    pip install ".[train]" pytest
    python -m research.gpu_check gpu.md                      # on a machine with a CUDA device
    python -m research.gpu_check gpu.md --device cpu         # a rehearsal

Each part runs in a process of its own with a limit of time, so that one that fails or hangs costs only its own lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiosep.api import load
from audiosep.atomic import write_text
from audiosep.audio.encode import write_audio
from audiosep.errors import ModelError
from audiosep.inference.environment import environment
from audiosep.inference.options import Options
from audiosep.models.hybrid import Hybrid
from audiosep.models.resunet import ResUNet30
from audiosep.separator import Separator

ROOT = Path(__file__).parents[1]
SONG = ROOT / "examples/audio/song.flac"
_QUERIES = ["speech", "guitar", "drums"]

Report = dict[str, object]


def precisions(device: str) -> tuple[str, ...]:
    """The precisions that are compared on a device."""
    return ("fp32", "bf16", "fp16") if device == "cuda" else ("fp32",)


def machine(_device: str) -> Report:
    """Software, processor, devices."""
    return asdict(environment())


def tests(device: str) -> Report:
    """The tests that need a CUDA device."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"result": lines[-1] if lines else done.stderr[-300:], "failed": failed, "device": device}


def same_results(device: str) -> Report:
    """Signal to difference, dB, of each precision against float32 on the CPU: queries and stems of a song."""
    mix, rate = _song(10)
    truth = _both(load("mini", device="cpu", precision="fp32"), mix, rate)
    found: Report = {}
    for precision in precisions(device):
        ours = _both(load("mini", device=device, precision=precision), mix, rate)
        found[precision] = {kind: _snr(truth[kind], ours[kind]) for kind in truth}
    return found


def speed(device: str) -> Report:
    """Seconds of a minute of stereo, arrays to arrays: median of five, the first call apart; peak memory of tensors."""
    mix, rate = _song(60)
    found: Report = {}
    for name in ("mini", "resunet30"):
        for precision in precisions(device):
            separator = _model(name, device, precision)
            queries: dict[str, Callable[[], object]] = {
                "one query": lambda s=separator: s.separate(mix, "speech", sample_rate=rate),  # type: ignore[misc]
                "best": lambda s=separator: s.separate(  # type: ignore[misc]
                    mix, "speech", sample_rate=rate, options=Options(quality="best")
                ),
                "stems": lambda s=separator: s.stems(mix, sample_rate=rate),  # type: ignore[misc]
            }
            for task, call in queries.items() if name == "mini" else list(queries.items())[:1]:
                found[f"{name} {precision}, {task}"] = _timed(call, device)
    return found


def compiled(device: str) -> Report:
    """Seconds of the decoder's network for a window, eager and compiled."""
    network = Hybrid().eval().requires_grad_(False).to(device)
    power = torch.rand(4, 1025, 625, device=device)
    queries = torch.nn.functional.normalize(torch.randn(2, network.dimension, device=device), dim=-1)

    @torch.inference_mode()
    def once() -> object:
        return list(network.masks(power, queries, torch.zeros_like(queries)))

    eager = _timed(once, device)
    for part in network.compilable:
        parent, _, child = part.rpartition(".")
        module = network.get_submodule(parent)
        setattr(module, child, torch.compile(getattr(module, child)))
    return {"eager": eager, "compiled": _timed(once, device)}


def out_of_memory(device: str) -> Report:
    """A separation beside a program that holds nearly all memory: smaller batches and the same result, or one line."""
    if device != "cuda":
        return {"skipped": "needs a CUDA device"}
    mix, rate = _song(60)
    separator = load("mini", device=device)
    alone = separator.separate(mix, "speech", sample_rate=rate)["speech"]
    separator.separate(mix, "speech", sample_rate=rate, options=Options(batch=8))
    torch.cuda.empty_cache()
    found: Report = {}
    for left in (2000, 500, 50):
        free = torch.cuda.mem_get_info()[0]
        held = torch.empty(max(0, free - left * 2**20), dtype=torch.uint8, device=device)
        try:
            beside = separator.separate(mix, "speech", sample_rate=rate, options=Options(batch=8))["speech"]
            found[f"{left} MiB left"] = {"signal to difference, dB": _snr(alone, beside)}
        except ModelError as error:
            found[f"{left} MiB left"] = {"error": str(error)}
        del held
        torch.cuda.empty_cache()
    return found


def ten_files(device: str) -> Report:
    """Seconds of ten recordings of 20 s, file to files; and how much of that is separating."""
    mix, rate = _song(20)
    separator = load("mini", device=device)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.wav" for k in range(10)]
        for path in paths:
            write_audio(path, mix, rate)
        begun = time.perf_counter()
        separator.separate_files(paths, _QUERIES, Path(folder) / "out").raise_for_failures()
        whole = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in paths:
            separator.separate(mix, _QUERIES, sample_rate=rate)
        return {"file to files": round(whole, 2), "separating alone": round(time.perf_counter() - begun, 2)}


def training(device: str) -> Report:
    """Training items a second of `mini`'s network on random batches, forward and backward."""
    model = Hybrid().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    energies = torch.rand(16, 192, 188, device=device)
    queries = torch.nn.functional.normalize(torch.randn(16, model.dimension, device=device), dim=-1)
    owner = torch.arange(16, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            decoded = model.decode(model.encode(energies), queries, torch.zeros_like(queries), owner)
        optimizer.zero_grad()
        decoded.mask.float().square().mean().backward()
        optimizer.step()

    times = _timed(step, device)
    return {**times, "items a second": round(16 / float(str(times["median"])), 1)}


PARTS: dict[str, tuple[Callable[[str], Report], int]] = {
    "machine": (machine, 30),
    "tests": (tests, 60),
    "same results": (same_results, 60),
    "speed": (speed, 90),
    "compiled": (compiled, 60),
    "out of memory": (out_of_memory, 40),
    "ten files": (ten_files, 40),
    "training": (training, 40),
}


def _song(seconds: float) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(SONG, dtype="float32", always_2d=True)
    return np.resize(samples, (int(seconds * rate), samples.shape[1])).T.copy(), rate


def _model(name: str, device: str, precision: str) -> Separator:
    mini = load("mini", device=device, precision=precision)
    if name == "mini":
        return mini
    assert mini.encoder is not None
    return Separator(
        ResUNet30(ResUNet30.Config()), mini.encoder, device, precision, name="resunet30 with random weights"
    )


def _both(separator: Separator, mix: np.ndarray, rate: int) -> dict[str, np.ndarray]:
    queries = separator.separate(mix, _QUERIES, sample_rate=rate)
    stems = separator.stems(mix, sample_rate=rate)
    return {"queries": np.stack(list(queries.values())), "stems": np.stack(list(stems.values()))}


def _snr(truth: np.ndarray, ours: np.ndarray) -> float:
    return round(float(10 * np.log10((truth**2).sum() / (((truth - ours) ** 2).sum() + 1e-20))), 1)


def _timed(call: Callable[[], object], device: str, runs: int = 5) -> Report:
    """Seconds of the first call, and the median, least and most of those after it; MB of tensors on a CUDA device."""
    seconds = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(1 + runs):
        begun = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    first, rest = seconds[0], sorted(seconds[1:])
    low, median, high = (round(rest[place], 4) for place in (0, runs // 2, -1))
    found: Report = {"first": round(first, 3), "median": median, "low": low, "high": high}
    if device == "cuda":
        found["peak MB"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return found


def run_part(name: str, device: str) -> Report:
    """A part in a process of its own.

    Args:
        name: of `PARTS`.
        device: cuda or cpu.

    Returns:
        Its report; the end of its output where it failed, or that it took too long.
    """
    command = [sys.executable, "-m", "research.gpu_check", "-", "--device", device, "--part", name]
    begun = time.perf_counter()
    limit = PARTS[name][1] * (1 if device == "cuda" else 10)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {limit} s"}
    if done.returncode != 0:
        return {"failed": done.stderr[-1500:]}
    report: Report = json.loads(done.stdout.splitlines()[-1])
    return {**report, "seconds": round(time.perf_counter() - begun, 1)}


def markdown(reports: dict[str, Report]) -> str:
    """The report as a page.

    Args:
        reports: name of a part -> what it found.
    """
    lines = ["# GPU check", ""]
    for name, report in reports.items():
        lines += [f"## {name.capitalize()}", ""]
        for key, value in report.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            lines.append(f"- {key}: {text}")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m research.gpu_check", description=__doc__)
    parser.add_argument("report", help="Markdown file that is written after each part; - with --part")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--part", choices=list(PARTS), help="one part, as JSON on standard output")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args(arguments)
    if options.part:
        print(json.dumps(PARTS[options.part][0](options.device)))
        return 0
    reports: dict[str, Report] = {}
    for name in options.only:
        reports[name] = run_part(name, options.device)
        print(f"{name}: {'failed' if 'failed' in reports[name] and reports[name]['failed'] else 'done'}", flush=True)
        write_text(options.report, markdown(reports))
    return int(any(report.get("failed") for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
