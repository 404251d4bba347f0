"""Quality and computation of live streams against their latency.

    python -m research.latency validation=MANIFEST,cache=CACHE --into docs/live.md --plot docs/latency.png

Each mode of running a model is evaluated as by `audiosep evaluate`, so that a stopped run continues from its results.
It is timed on a test sound (44.1 kHz, stereo), which needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiosep.audio.synthetic import tone_and_noise
from audiosep.bench.pictures import rows_figure
from audiosep.errors import AudioSepError, InputError, counted
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.item_evaluation import EvaluationSettings
from audiosep.evaluation.runner import run
from audiosep.evaluation.sets import load_set
from audiosep.evaluation.summary import SystemSummary, summarise
from audiosep.evaluation.systems import LiveSystem, ModelSystem, load_system
from audiosep.inference.stream import Stream
from audiosep.inference.threads import use_threads
from research.pages import put

MODES = ("offline", "0.5", "0.5,quick", "0.3", "0.3,quick", "0.2", "0.1", "0.1,past=2")
_RATE, _CHANNELS, _BLOCK = 44100, 2, 882
_QUERY = "speech"


@dataclass(frozen=True)
class Speed:
    """How fast a model runs.

    Attributes:
        latency: seconds that its output lies behind its input; None for whole recordings.
        window: length of a window, seconds.
        repeated: seconds that are computed per second of sound, because windows overlap.
        real_time_factor: seconds of computation per second of sound, after the start.
    """

    latency: float | None
    window: float
    repeated: float
    real_time_factor: float


@dataclass(frozen=True)
class Cost:
    """Quality and speed of one mode.

    Attributes:
        mode: "offline", or the options of a live stream, as in `MODEL:live=0.3,quick`.
        quality: scores.
        speed: of the computation.
    """

    mode: str
    quality: SystemSummary
    speed: Speed


def measure(
    model: str,
    benchmark: Benchmark,
    folder: Path,
    *,
    modes: Sequence[str] = MODES,
    seconds: float = 20.0,
    progress: Callable[[int, int, str], object] | None = None,
) -> list[Cost]:
    """Measure quality and speed of each mode.

    Args:
        model: name, folder or hub id.
        benchmark: for the quality.
        folder: of the evaluation's results.
        modes: each is "offline", or the options of a live stream, as in `MODEL:live=0.3,quick`.
        seconds: length of the test sound for the speed.
        progress: as in `audiosep.evaluation.runner.run`.

    Raises:
        AudioSepError: a mode that the model does not support, or items that could not be evaluated.
    """
    names = {mode: model if mode == "offline" else f"{model}:live={mode}" for mode in modes}
    speeds = {mode: speed(name, seconds) for mode, name in names.items()}
    outcome = run(list(names.values()), [benchmark], folder, EvaluationSettings(workers=0, examples=0), progress)
    if outcome.failures:
        raise AudioSepError("\n".join(": ".join(filter(None, failure)) for failure in outcome.failures))
    quality = {summary.name: summary for summary in summarise(outcome.rows, benchmark)}
    return [Cost(mode, quality[name], speeds[mode]) for mode, name in names.items()]


def speed(system: str, seconds: float) -> Speed:
    """Time a model, or `MODEL:live=...`, on a test sound.

    Args:
        system: as in `audiosep.evaluation.systems.load_system`.
        seconds: length of the sound.

    Raises:
        InputError: the system is neither.
    """
    loaded = load_system(system)
    if isinstance(loaded, LiveSystem):
        stream = loaded.separator.stream(_QUERY, sample_rate=_RATE, channels=_CHANNELS, **loaded.options)
        return _speed(stream, _steady_factor(stream, seconds), stream.latency / _RATE)
    if isinstance(loaded, ModelSystem):
        sound = tone_and_noise(round(seconds * _RATE), _RATE)
        loaded.separate(sound[:, :_RATE], _QUERY, sample_rate=_RATE)  # the first pass of a network is slower
        began = time.perf_counter()
        loaded.separate(sound, _QUERY, sample_rate=_RATE)
        taken = time.perf_counter() - began
        stream = loaded.separator.stream(_QUERY, sample_rate=_RATE, channels=_CHANNELS)
        return _speed(stream, taken / seconds, None)
    raise InputError(f"{system} cannot be run as a stream: name a model")


def _speed(stream: Stream, factor: float, latency: float | None) -> Speed:
    windows = stream.windows
    return Speed(latency, windows.size / stream.model_rate, windows.size / windows.stride, factor)


def _steady_factor(stream: Stream, seconds: float) -> float:
    """The real-time factor after the start, where windows are shorter and the first passes slower."""
    start = round((stream.windows.size / stream.model_rate + 1) * _RATE)
    sound = tone_and_noise(start + round(seconds * _RATE), _RATE)
    began = 0.0
    for at in range(0, sound.shape[1], _BLOCK):
        if at < start:
            began = time.perf_counter()
        stream.push(sound[:, at : at + _BLOCK])
    return (time.perf_counter() - began) / seconds


def table(costs: Sequence[Cost], benchmark: Benchmark, threads: int) -> str:
    """The costs as a Markdown table, a row for each mode."""
    groups = [name for name in costs[0].quality.groups if name and "si_sdri" in costs[0].quality.groups[name]]
    head = ["latency", "window, s", "computed, s/s", "real-time factor", "SI-SDRi, dB", "better", *groups]
    lines = [" | ".join(head), "|".join(["---", *["---:"] * (len(head) - 1)])]
    for cost in costs:
        stats = cost.quality.stats
        gain = stats["si_sdri"]
        cells = [
            _mode_label(cost),
            f"{cost.speed.window:.2f}",
            f"{cost.speed.repeated:.1f}",
            f"{cost.speed.real_time_factor:.3f}",
            f"{gain.mean:.2f} ({gain.low:.2f} to {gain.high:.2f})",
            f"{100 * stats['better'].mean:.0f}%",
            *(f"{cost.quality.groups[name]['si_sdri'].mean:.2f}" for name in groups),
        ]
        lines.append(" | ".join(cells))
    mixtures = f"{counted(len(benchmark.items), 'mixture')} ({benchmark.description})"
    notes = [f"{mixtures}, {counted(threads, 'thread')}.", "SI-SDRi: 95% interval."]
    notes += [f"{name}: {benchmark.groups[name]}." for name in groups if name in benchmark.groups]
    return "\n".join([*(f"| {line} |" for line in lines), "", *textwrap.wrap(" ".join(notes), 120)]) + "\n"


def _mode_label(cost: Cost) -> str:
    if cost.speed.latency is None:
        return "whole recording"
    _, *options = cost.mode.split(",")
    said = [f"past {option.removeprefix('past=')} s" if option.startswith("past=") else option for option in options]
    return ", ".join([f"{1000 * cost.speed.latency:.0f} ms", *said])


def draw(costs: Sequence[Cost], path: Path) -> None:
    """Draw SI-SDRi with its interval beside the real-time factor, a row for each mode.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = rows_figure(len(costs))
    quality, computation = figure.subplots(1, 2, sharey=True)
    rows = list(range(len(costs)))
    gains = [cost.quality.stats["si_sdri"] for cost in costs]
    spread = [[gain.mean - gain.low for gain in gains], [gain.high - gain.mean for gain in gains]]
    quality.errorbar([gain.mean for gain in gains], rows, xerr=spread, fmt="o", capsize=3)
    quality.set_yticks(rows, [_mode_label(cost) for cost in costs])
    quality.invert_yaxis()
    quality.set_xlabel("SI-SDRi, dB")
    computation.barh(rows, [cost.speed.real_time_factor for cost in costs])
    computation.set_xlabel("seconds of computation per second of sound")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line, see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="NAME=PATH[,OPTION=VALUE...], as for audiosep evaluate")
    parser.add_argument(
        "modes",
        nargs="*",
        default=MODES,
        help=f"offline, or SECONDS[,past=SECONDS][,thorough|,quick] ({' '.join(MODES)})",
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--limit", type=int, help="items of the set")
    parser.add_argument("--seconds", type=float, default=20.0, help="sound that speed is measured on (20)")
    parser.add_argument("--threads", type=int, help="CPU threads (the CPUs that this process may use)")
    parser.add_argument("--results", type=Path, default=Path("evaluation"), help="a stopped run goes on from it")
    parser.add_argument("--into", type=Path, help="page of documentation that gets the table")
    parser.add_argument("--plot", type=Path, help="a PNG picture to draw")
    args = parser.parse_args(arguments)
    threads = use_threads(args.threads)
    benchmark = load_set(args.set, limit=args.limit)
    costs = measure(
        args.model,
        benchmark,
        args.results,
        modes=args.modes,
        seconds=args.seconds,
        progress=lambda done, total, name: print(f"{done} of {total}: {name}", file=sys.stderr),
    )
    text = table(costs, benchmark, threads)
    if args.into is not None:
        put(text, args.into, "latency")
    if args.plot is not None:
        draw(costs, args.plot)
    print(text, end="")


if __name__ == "__main__":
    main()
