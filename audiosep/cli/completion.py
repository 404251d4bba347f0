"""`audiosep completion`: completion of verbs, options and some of their values in bash, zsh and fish."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, get_args

import typer
import typer.main

from audiosep.cli import VERBS, common
from audiosep.cli.choices import DEVICES, choice
from audiosep.cli.usage import part_of
from audiosep.errors import InputError
from audiosep.inference.options import Engine

app = common.application()

# They ask this verb for the words that fit, and fall back on the names of files.
_SCRIPTS = {
    "bash": """\
_audiosep() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(audiosep completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" \\
    -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _audiosep audiosep
""",
    "zsh": """\
#compdef audiosep
_audiosep() {
  local -a found
  found=(${(f)"$(audiosep completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  compadd -a found
  _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _audiosep audiosep
""",
    "fish": """\
complete -c audiosep -a "(audiosep completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)"
""",
}


@app.command()
@common.guarded
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]", help="For the scripts: with `words`, what was typed.")
    ] = None,
) -> None:
    """Write the script that completes verbs and options in a shell.

    echo 'eval "$(audiosep completion bash)"' >> ~/.bashrc

    echo 'eval "$(audiosep completion zsh)"' >> ~/.zshrc

    audiosep completion fish > ~/.config/fish/completions/audiosep.fish
    """
    if shell == "words":
        for word in candidates(words or [""]):
            common.say(word)
        return
    try:
        name = choice(*_SCRIPTS)(shell)
    except ValueError as error:
        raise InputError(f"no completion for this shell: {error}") from error
    print(_SCRIPTS[name], end="")


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word; nothing where only a name of a file may.

    Args:
        words: of the command line behind `audiosep`; the last one is being typed, and may be empty.
    """
    *before, typed = words
    if not before:
        found: Sequence[str] = [*VERBS, "--help", "--version"]
    elif before[0] not in VERBS:
        found = []
    elif before[-1] in ("-f", "--format", "-m", "--model", "--device", "--engine"):
        found = _values(before[-1])
    else:
        found = _options(before)
    return [word for word in found if word.startswith(typed)]


def _values(option: str) -> Sequence[str]:
    if option in ("-f", "--format"):
        from audiosep.audio.formats import FORMATS
        from audiosep.audio.stem_file import STEM_FILE

        return [*FORMATS, STEM_FILE]
    if option in ("-m", "--model"):
        from audiosep.weights.catalogue import MODELS, downloaded

        return [*MODELS, *downloaded()]
    return get_args(Engine) if option == "--engine" else DEVICES


def _options(before: Sequence[str]) -> list[str]:
    """The options of a verb, or its parts, as of `data build`."""
    command = typer.main.get_command(importlib.import_module(f"audiosep.cli.{before[0]}").app)
    command = part_of(command, before[1:])
    if parts := getattr(command, "commands", None):
        return list(parts)
    names = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    return sorted(name for name in names if name.startswith("--"))
