"""`audiosep live`: separation of what comes in now."""

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

from audiosep.cli import common
from audiosep.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from audiosep.inference.stream import Stream
    from audiosep.live.session import Live, Report

app = common.application()


@app.command()
@common.guarded
def live(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="The sound to separate, in words.")] = None,
    stem: Annotated[str | None, typer.Option("--stem", metavar="NAME", help="A fixed stem instead of a query.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option("--not", metavar="TEXT", help="A sound to keep out of the target.")
    ] = None,
    rest: Annotated[bool, typer.Option("--rest", help="Give everything but the target.")] = False,
    latency: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds that the output lies behind the input.")
    ] = 0.5,
    past: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Past that is heard again with each new piece [what there is time for]."),
    ] = None,
    thorough: Annotated[
        bool | None,
        typer.Option("--thorough/--quick", help="Ask as for recordings, or once [thorough from 0.3 s of latency on]."),
    ] = None,
    rate: Annotated[int, typer.Option("--rate", "-r", metavar="HZ", help="Sample rate.")] = 44100,
    channels: Annotated[int, typer.Option("--channels", "-c", metavar="N", help="Channels.")] = 2,
    encoding: Annotated[
        str, typer.Option("--encoding", "-e", metavar="NAME", help="Samples in the pipes: s16le or f32le.")
    ] = "s16le",
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Drop what cannot be separated in time instead of making the pipe wait.")
    ] = False,
    sound_card: Annotated[
        str | None,
        typer.Option(
            "--sound-card", metavar="NAME", help="A sound card, by name or number, or default; instead of pipes."
        ),
    ] = None,
    model: common.Model = "mini",
    adapter: Annotated[str | None, typer.Option(metavar="FILE", help="Made by `audiosep finetune`.")] = None,
    device: common.Device = "auto",
    precision: common.Precision = "auto",
    threads: common.Threads = None,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> int:
    """Separate while it sounds: raw samples from pipe to pipe, or what a sound card hears. Ctrl-C ends it.

    arecord -f cd -t raw | audiosep live speech | aplay -f cd -t raw

    audiosep live --stem vocals --rest --sound-card default
    """
    # Threads that spin while they wait would take the CPU from the programs at both ends of the pipe.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from audiosep.api import load
    from audiosep.inference.threads import use_threads
    from audiosep.live.session import BLOCK_SECONDS, Live, warm_up
    from audiosep.query.query import Query

    if (query is None) == (stem is None):
        raise InputError("name what to separate: one query, or one --stem")
    terminal = common.console()
    common.logs_to(terminal, verbose, quiet)
    use_threads(threads)
    separator = load(model, device, precision, adapter)
    wanted = None if query is None else Query(text=query, negative=tuple(negative or ()) or None)

    def open_stream() -> Stream:
        return separator.stream(
            wanted, sample_rate=rate, channels=channels, latency=latency, past=past, thorough=thorough
        )

    target = Live(open_stream, stem, rest=rest)
    warm_up(open_stream)
    if not quiet:
        terminal.print(
            f"{separator.name} on {separator.where}, {target.report.latency / rate:.3f} s behind; Ctrl-C ends"
        )
    block = max(1, round(BLOCK_SECONDS * rate))
    with _ending() as stop:
        if sound_card is None:
            report = _pipes(target, encoding, channels, block, realtime, stop, _watch(terminal, quiet))
        else:
            report = _card(target, sound_card, block, stop, _watch(terminal, quiet))
    if not quiet:
        terminal.print(_summary(report))
    return common.DONE


def _pipes(
    target: Live,
    encoding: str,
    channels: int,
    block: int,
    realtime: bool,
    stop: threading.Event,
    watch: Callable[[Report], None],
) -> Report:
    """Standard input to standard output."""
    from audiosep.live.session import Pcm, PipeSink, PipeSource, separate_live

    pcm = Pcm(encoding, channels)
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise InputError("live reads and writes raw samples: connect both ends with pipes, or use --sound-card default")
    # Without a buffer: a read gives what is there, and no lock keeps the program from ending.
    with open(0, "rb", buffering=0, closefd=False) as heard, open(1, "wb", closefd=False) as said:
        try:
            return separate_live(
                PipeSource(heard, pcm, block),
                PipeSink(said, pcm),
                target,
                slack=max(0.5, target.report.latency / target.report.sample_rate) if realtime else None,
                stop=stop,
                watch=watch,
            )
        except BrokenPipeError:
            # Whoever listened has gone: that ends a session like Ctrl-C does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return target.report


def _card(target: Live, name: str, block: int, stop: threading.Event, watch: Callable[[Report], None]) -> Report:
    """What a sound card hears, back to it."""
    from audiosep.live.session import SoundCard, separate_live

    report = target.report
    device = None if name == "default" else int(name) if name.isdecimal() else name
    # Room for the computation itself: half the latency, as the real-time factor should be below a half.
    delay = report.latency + block + report.latency // 2
    with SoundCard(report.sample_rate, target.channels, delay, block=block, device=device) as card:
        separate_live(card, card, target, slack=delay / report.sample_rate, stop=stop, watch=watch)
        report.missed = card.missed
    return report


@contextlib.contextmanager
def _ending() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or polite kill sets; the second interrupts."""
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


def _watch(terminal: Console, quiet: bool) -> Callable[[Report], None]:
    """Once a second on a terminal, and whenever blocks were dropped."""
    shown = {"time": time.monotonic(), "dropped": 0.0}

    def watch(report: Report) -> None:
        now = time.monotonic()
        if not quiet and now - shown["time"] >= 1 and (terminal.is_terminal or report.dropped > shown["dropped"]):
            shown.update(time=now, dropped=report.dropped)
            terminal.print(_summary(report), end="\r" if terminal.is_terminal else "\n")

    return watch


def _summary(report: Report) -> str:
    factor = report.real_time_factor
    parts = [
        f"{report.received / report.sample_rate:.1f} s",
        f"real-time factor {'-' if factor is None else f'{factor:.3f}'}",
        f"latency {report.latency / report.sample_rate:.3f} s",
        f"{report.dropped} of {report.blocks} blocks dropped",
    ]
    parts += [f"{report.missed / report.sample_rate:.2f} s played as silence"] if report.missed else []
    parts += [f"{report.clipped} samples saturated"] if report.clipped else []
    return ", ".join(parts)
