"""`audiosep studio`: a page in the browser that separates recordings and mixes the tracks."""

from __future__ import annotations

import dataclasses
import secrets
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.cli import common
from audiosep.cli.standard_error import Terminal
from audiosep.errors import InputError
from audiosep.weights.catalogue import expand_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from audiosep.separator import Separator

app = common.application()

_MIB = 2**20


@app.command()
@common.guarded
def studio(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others than this machine need the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any free one.")] = 7860,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="NAME", help="A further model or adapter to choose on the page; repeatable."),
    ] = None,
    stems_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of the stems, and of words such as drums; none: --model [default: your configuration].",
        ),
    ] = None,
    max_upload: Annotated[int, typer.Option(metavar="MIB", min=1, help="Largest file.")] = 1024,
    max_seconds: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="Longest recording.")] = 3600.0,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve the Model Context Protocol.")] = False,
    open_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
    *,
    chosen: common.ModelOptions,
) -> int:
    """Separate recordings and mix the tracks on a page in the browser. Ctrl-C ends it.

    audiosep studio

    audiosep studio --also my_sounds.safetensors --port 0

    audiosep studio --stems-model htdemucs

    audiosep studio --host 0.0.0.0 --no-browser
    """
    from audiosep.studio.app import Studio
    from audiosep.studio.guard import LOOPBACK
    from audiosep.studio.server import address_of, is_loopback, listen_on, make_server, serve
    from audiosep.studio.studio_limits import Limits

    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    if not max_seconds < float("inf"):
        raise InputError(f"--max-seconds must be a number of seconds, got {max_seconds}")
    limits = dataclasses.replace(Limits(), upload_bytes=max_upload * _MIB, seconds=max_seconds)
    here = is_loopback(host)
    token = None if here else secrets.token_urlsafe(24)
    models = _models(chosen, also or [], stems_model)
    listening = listen_on(host, port)
    listening.listen()  # a browser that comes early waits
    hosts = LOOPBACK | {host} if here else None
    made = Studio(models, limits=limits, hosts=hosts, token=token, mcp=mcp, threads=chosen.threads)
    configured = stems_model is None and chosen.stems_from(None) is not None
    with common.stems_of_configuration(configured):
        made.work.compute(made.work.separator)  # fails here if it cannot be loaded, and the first request need not wait
    address = address_of(listening, host, token)

    # A quiet studio says it too: nobody can guess its token, or a free port.
    terminal.print(address if quiet else f"The studio is at {address} ; Ctrl-C ends it")
    if open_browser and here and sys.stdout is not None and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(address)
    serve(made, make_server(made), listening)
    return common.DONE


def _models(
    chosen: common.ModelOptions, also: list[str], stems_model: str | None
) -> dict[str, Callable[[], Separator]]:
    """Name on the page -> loads a separator: the chosen model, then the further ones.

    Raises:
        InputError: a name twice, or an adapter that is not there.
        ModelError: a model that is not on this machine.
        ConfigError: the user's configuration file is damaged.
    """
    models: dict[str, Callable[[], Separator]] = {}
    for name in (None, *also):
        if name is None or name.endswith(".safetensors"):
            options = chosen if name is None else dataclasses.replace(chosen, adapter=expand_home(name))
            stems = options.stems_from(stems_model)
        else:
            options, stems = dataclasses.replace(chosen, model=name, adapter=None), None
        options.check()
        if stems is not None:
            with common.stems_of_configuration(stems_model is None):
                dataclasses.replace(chosen, model=stems, adapter=None).check()
        shown = " + ".join([options.model, *([] if options.adapter is None else [options.adapter.stem])])
        shown += "" if stems is None else f", stems by {stems}"
        if shown in models:
            raise InputError(f"the studio has {shown!r} already: leave out {name}")
        models[shown] = partial(options.load, stems=stems)
    return models
