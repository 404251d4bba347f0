"""`python -m audiosep` is the `audiosep` command."""

from audiosep.cli import command

command()
