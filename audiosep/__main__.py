"""`python -m audiosep` is the `audiosep` command."""

from audiosep.cli import command

if __name__ == "__main__":
    command()
