"""`audiosep remember`: a sound with a name of one's own, by examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common
from audiosep.cli.standard_error import Terminal
from audiosep.cli.times import spans
from audiosep.errors import counted

app = common.application()


@app.command()
@common.guarded
def remember(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you will call the sound.")],
    examples: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings of the sound and little else, or folders.")
    ],
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="START-END", help="The part of a single file that is meant; repeatable."),
    ] = None,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Keep the examples in the file, so that other models can hear them.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Forget what the name had before.")] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
    *,
    chosen: common.ModelOptions,
) -> None:
    """Give a sound a name of your own: queries of that name are answered with its examples.

    audiosep remember "my kettle" kettle1.wav kettle2.flac

    audiosep remember "our bell" evening.mp3 --at 3.2-4.1 --at 1:02-1:04
    """
    from audiosep.query.sounds import Sounds

    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    files = [file for path in examples for file in _files(path)]
    parts = spans(at, "--at")
    sounds = Sounds(chosen.sounds)
    separator = chosen.load(own_names=False)
    before = 0 if replace or name not in sounds else len(sounds[name].examples)
    sound = sounds.remember(name, files, separator, at=parts, keep_audio=keep_audio, replace=replace)
    hides = separator.prototypes is not None and separator.prototypes.has(name)
    if as_json:
        common.emit({"name": sound.name, "examples": len(sound.examples), "file": str(sounds.path), "hides": hides})
        return
    print(sounds.path)
    if not quiet:
        more = "was added to" if len(sound.examples) > before else "had these examples already"
        done = more if before else "is remembered"
        terminal.print(f"{sound.name!r} {done}: {counted(len(sound.examples), 'example')}")
        if hides:
            terminal.print(
                f"{separator.name} knows {sound.name!r} itself: from now on your examples answer instead "
                f"(audiosep sounds forget {sound.name!r})",
            )


def _files(path: Path) -> list[Path]:
    """The recordings of a folder, or the file.

    Raises:
        InputError: a folder without recordings.
    """
    from audiosep.output.recordings import recordings_in, without_recordings

    if not path.is_dir():
        return [path]
    found = recordings_in(path)
    if not found:
        raise without_recordings(path)
    return found
