"""The networks of the literature side by side.

    python -m research.backbones sizes --into docs/backbones.md
    python -m research.backbones compare manifest.jsonl --captions captions.safetensors -o runs/backbones \
        --minutes 20 --into docs/backbones.md

`compare` trains each network for the same processor time, one after the other on one thread, and measures each at its
published size. What is done already is not done again: stop it and start it at any time, also with `--only`. `--table`
trains nothing and prints what is finished.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from audiosep.errors import AudioSepError
from research.backbones import page
from research.backbones.comparison import Source, compare
from research.backbones.entries import ENTRIES
from research.pages import find_place, put

NAMES = [entry.family for entry in ENTRIES]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sizes = commands.add_parser("sizes", help="parameters beside the published ones")
    side = commands.add_parser("compare", help="train and measure every network")
    side.add_argument("manifest", type=Path, help="of a corpus with songs")
    side.add_argument("--captions", type=Path, required=True, help="embeddings of its captions")
    side.add_argument("--out", "-o", type=Path, required=True, help="folder of the comparison")
    side.add_argument("--families", default="music,instrument", help="of the clips that are used [%(default)s]")
    side.add_argument("--minutes", type=float, default=20.0, help="processor time of each training [%(default)s]")
    side.add_argument("--only", default=",".join(NAMES), help="some of the networks, by family")
    side.add_argument("--no-full", action="store_true", help="do not measure the published sizes")
    side.add_argument("--table", action="store_true", help="only print what is finished")
    for command, name in ((sizes, "sizes"), (side, "comparison")):
        command.add_argument("--into", type=Path, help=f"page with <!-- {name} --> and <!-- end of {name} -->")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = "sizes" if args.command == "sizes" else "comparison"
    try:
        if args.into is not None:
            find_place(args.into, name)  # fails now, not after hours of training
        text = page.sizes() if args.command == "sizes" else _comparison(args, parser)
    except (AudioSepError, OSError) as error:
        parser.exit(1, f"{error}\n")
    if args.into is not None:
        put(text, args.into, name)
    print(text, end="")


def _comparison(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    names = args.only.split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"{unknown[0]!r} is not one of {', '.join(NAMES)}")
    source = Source(args.manifest, args.captions, tuple(args.families.split(",")), args.minutes)
    if not args.table:
        entries = [entry for entry in ENTRIES if entry.family in names]
        compare(entries, source, args.out, full=not args.no_full)
    return page.comparison(page.read(args.out))


if __name__ == "__main__":
    main()
