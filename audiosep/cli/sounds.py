"""`audiosep sounds`: the sounds with names of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosep.cli import common
from audiosep.errors import InputError, counted

if TYPE_CHECKING:
    from audiosep.query.own_sound import OwnSound
    from audiosep.query.sounds import Sounds

app = common.application("List, show, forget, export and import sounds with names of your own.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a sound; `audiosep sounds list` shows all.")]


@app.command("list")
@common.guarded
def list_sounds(sounds: common.SoundsFile = None, as_json: common.AsJson = False) -> None:
    """List the sounds, with the number of their examples."""
    entries = [_about(sound) for sound in _sounds(sounds).values()]
    if as_json:
        common.emit(entries)
        return
    for entry in entries:
        common.say(f"{entry['name']}  {counted(len(entry['examples']), 'example')}")


@app.command()
@common.guarded
def show(name: Name, sounds: common.SoundsFile = None, as_json: common.AsJson = False) -> None:
    """Show a sound: its examples, and when the last one was added."""
    found = _sounds(sounds)
    found.check([name])
    entry = _about(found[name])
    if as_json:
        common.emit(entry)
        return
    common.say(f"{entry['name']}, {entry['when']}")
    for example in entry["examples"]:
        kept = f", {example['kept'] / 1000:.0f} kB kept" if example["kept"] else ""
        common.say(f"  {example['file'] or '-'} at {example['start']:g} s, {example['seconds']:.2f} s{kept}")


@app.command()
@common.guarded
def forget(name: Name, sounds: common.SoundsFile = None, as_json: common.AsJson = False) -> None:
    """Forget a sound."""
    _sounds(sounds).forget(name)
    if as_json:
        common.emit({"forgotten": name})


@app.command("export")
@common.guarded
def export_sounds(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="The sounds; all by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    sounds: common.SoundsFile = None,
    as_json: common.AsJson = False,
) -> None:
    """Write sounds to a file, for another machine or user."""
    if str(file) == "-":
        raise InputError("sounds are written to a file: name one, such as sounds.safetensors")
    count = _sounds(sounds).export(file, names or (), overwrite=overwrite)
    if as_json:
        common.emit({"file": str(file), "sounds": count})
    else:
        common.say(str(file))


@app.command("import")
@common.guarded
def import_sounds(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="From `audiosep sounds export`.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace sounds of the same names.")] = False,
    sounds: common.SoundsFile = None,
    as_json: common.AsJson = False,
) -> None:
    """Add the sounds of a file."""
    names = _sounds(sounds).add(file, overwrite=overwrite)
    if as_json:
        common.emit({"sounds": names})
        return
    for name in names:
        common.say(name)


def _sounds(path: Path | None) -> Sounds:
    from audiosep.query.sounds import Sounds

    return Sounds(path)


def _about(sound: OwnSound) -> dict[str, Any]:
    """A sound for JSON."""
    examples = [
        {"file": one.file, "start": one.start, "seconds": round(one.seconds, 3), "kept": len(one.audio)}
        for one in sound.examples
    ]
    return {"name": sound.name, "when": sound.when, "examples": examples}
