"""`audiosep live`: separation of a pipe or a sound card while the sound comes in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.audio.limits import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiosep.cli import common
from audiosep.cli.choices import choice
from audiosep.cli.standard_error import Terminal
from audiosep.errors import InputError, counted
from audiosep.query.stem_words import stem_of

if TYPE_CHECKING:
    from audiosep.inference.stream import Stream
    from audiosep.live.loop import LiveStatistics, LiveTarget

app = common.application()

_ENCODING = "s16le"  # of the pipes


@app.command()
@common.guarded
def live(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="The sound to separate, in words.")] = None,
    stem: Annotated[
        str | None, typer.Option("--stem", metavar="NAME", help="A stem of the model, instead of a query.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option("--not", metavar="TEXT", help="A sound to keep out of the target.")
    ] = None,
    rest: Annotated[bool, typer.Option("--rest", help="Write the mixture without the target.")] = False,
    latency: Annotated[float, typer.Option(metavar="SECONDS", help="How far the output lies behind the input.")] = 0.5,
    past: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How far windows reach into the past [default: as there is time for]."),
    ] = None,
    thorough: Annotated[
        bool | None,
        typer.Option(
            "--thorough/--quick", help="Compute as much as for recordings, or least [default: thorough from 0.3 s]."
        ),
    ] = None,
    rate: Annotated[
        int,
        typer.Option("--rate", "-r", metavar="HZ", min=MIN_RATE, max=MAX_RATE, help="Sample rate of input and output."),
    ] = 44100,
    channels: Annotated[
        int,
        typer.Option("--channels", "-c", metavar="N", min=1, max=MAX_CHANNELS, help="Channels of input and output."),
    ] = 2,
    encoding: Annotated[
        str,
        typer.Option(
            "--encoding",
            "-e",
            metavar="NAME",
            parser=choice("s16le", "f32le"),
            help="Samples in the pipes: s16le or f32le.",
        ),
    ] = _ENCODING,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime", help="Drop input that cannot be separated in time, instead of making the pipe wait."
        ),
    ] = False,
    sound_card: Annotated[
        str | None,
        typer.Option(
            "--sound-card", metavar="NAME", help="Use a sound card (name, number, or default) instead of pipes."
        ),
    ] = None,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
    *,
    chosen: common.ModelOptions,
) -> int:
    """Separate sound as it arrives: raw samples from pipe to pipe, or a sound card. Ctrl-C ends it.

    arecord -f cd -t raw | audiosep live speech | aplay -f cd -t raw

    audiosep live --stem vocals --rest --sound-card default
    """
    import torch

    from audiosep.inference.threads import use_threads
    from audiosep.live.loop import BLOCK_SECONDS, LiveTarget, threads_needed, warm_up
    from audiosep.query.query import Query

    if (query is None) == (stem is None):
        raise InputError("name what to separate: one query, or one --stem")
    if stem is not None and negative:
        raise InputError("--not keeps sounds out of a query, and a stem has none: leave one of them out")
    if sound_card is not None and (realtime or encoding != _ENCODING):
        option = "--realtime" if realtime else "--encoding"
        raise InputError(f"{option} is for pipes, and --sound-card takes their place: leave one of them out")
    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    separator = chosen.load()
    if stem is not None:
        named = (stem_of(stem) or stem).casefold()
        stem = next((name for name in separator.stem_names if name.casefold() == named), stem)
    wanted = None if query is None else Query(text=query, negative=tuple(negative or ()) or None)

    def open_stream() -> Stream:
        return separator.stream(
            wanted, sample_rate=rate, channels=channels, latency=latency, past=past, thorough=thorough
        )

    target = LiveTarget(open_stream, stem, rest=rest)
    by_torch = separator.device.type == "cpu" and separator.engine == "torch"  # OpenVINO keeps the number of its trial
    if by_torch and chosen.threads is None and "OMP_NUM_THREADS" not in os.environ:
        use_threads(threads_needed(open_stream, torch.get_num_threads()))
    warm_up(open_stream)
    if not quiet:
        reached = target.statistics.latency / rate
        behind = f"{reached:.3f} s behind the input" + (
            " (the most that the model uses)" if reached < 0.9 * latency else ""
        )
        terminal.print(f"{separator.name} on {separator.device} by {separator.engine}, {behind}; Ctrl-C ends")
    block = max(1, round(BLOCK_SECONDS * rate))
    with _ending() as stop:
        if sound_card is None:
            statistics = _pipes(target, encoding, channels, block, realtime, stop, _watch(terminal, quiet))
        else:
            statistics = _card(target, sound_card, block, stop, _watch(terminal, quiet))
    if not quiet:
        terminal.print(_summary(statistics))
    return common.DONE


def _pipes(
    target: LiveTarget,
    encoding: str,
    channels: int,
    block: int,
    realtime: bool,
    stop: threading.Event,
    watch: Callable[[LiveStatistics], None],
) -> LiveStatistics:
    """Separate standard input to standard output."""
    from audiosep.live.loop import separate_live
    from audiosep.live.pipe import PipeInput, PipeOutput, RawFormat

    raw = RawFormat(encoding, channels)
    if any(stream is None or stream.isatty() for stream in (sys.stdin, sys.stdout)):
        raise InputError("live reads and writes raw samples: connect both ends with pipes, or use --sound-card default")
    # Without a buffer a read returns what is there, and no lock of a buffer can block the exit.
    with open(0, "rb", buffering=0, closefd=False) as stdin, open(1, "wb", closefd=False) as stdout:
        try:
            return separate_live(
                PipeInput(stdin, raw, block),
                PipeOutput(stdout, raw),
                target,
                slack=max(0.5, target.statistics.latency / target.statistics.sample_rate) if realtime else None,
                stop=stop,
                watch=watch,
            )
        except BrokenPipeError:
            # The reader of the output has closed it: end as with Ctrl-C, and let nothing else be written there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return target.statistics


def _card(
    target: LiveTarget, name: str, block: int, stop: threading.Event, watch: Callable[[LiveStatistics], None]
) -> LiveStatistics:
    """Separate what a sound card records, and play it there."""
    from audiosep.live.loop import separate_live
    from audiosep.live.sound_card import SoundCard

    statistics = target.statistics
    device = None if name == "default" else int(name) if name.isdecimal() else name
    # Time for the computation: half the latency, which is enough for real-time factors below 0.5.
    delay = statistics.latency + block + statistics.latency // 2
    with SoundCard(statistics.sample_rate, target.channels, delay, block=block, device=device) as card:
        separate_live(card, card, target, slack=delay / statistics.sample_rate, stop=stop, watch=watch)
        statistics.missed = card.missed
    return statistics


@contextlib.contextmanager
def _ending() -> Iterator[threading.Event]:
    """An event that the first SIGINT (Ctrl-C) or SIGTERM sets; the second raises KeyboardInterrupt."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(terminal: Terminal, quiet: bool) -> Callable[[LiveStatistics], None]:
    """Print the counts once a second on a terminal, elsewhere only when blocks were dropped."""
    shown = {"time": time.monotonic(), "dropped": 0.0}

    def watch(statistics: LiveStatistics) -> None:
        now = time.monotonic()
        if not quiet and now - shown["time"] >= 1 and (terminal.is_terminal or statistics.dropped > shown["dropped"]):
            shown.update(time=now, dropped=statistics.dropped)
            terminal.print(_summary(statistics), end="\r" if terminal.is_terminal else "\n")

    return watch


def _summary(statistics: LiveStatistics) -> str:
    factor = statistics.real_time_factor
    parts = [
        f"{statistics.received / statistics.sample_rate:.1f} s",
        f"real-time factor {'-' if factor is None else f'{factor:.3f}'}",
        f"latency {statistics.latency / statistics.sample_rate:.3f} s",
        f"{statistics.dropped} of {counted(statistics.blocks, 'block')} dropped",
    ]
    parts += [f"{statistics.missed / statistics.sample_rate:.2f} s played as silence"] if statistics.missed else []
    parts += [f"{counted(statistics.clipped, 'sample')} clipped"] if statistics.clipped else []
    return ", ".join(parts)
