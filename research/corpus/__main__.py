"""The public training corpus, see docs/corpus.md.

python -m research.corpus repositories               # what to clone
python -m research.corpus build CLONES OUT           # shards and manifest
python -m research.corpus render CLONES OUT          # songs as stems
python -m research.corpus credits MANIFEST           # for a model card
python -m research.corpus coverage                   # hours, and coverage of everyday sounds
python -m research.corpus add ROWS                   # further recordings for the table
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from audiosep.errors import AudioSepError
from research.assemble import trained_on
from research.corpus.build import build_manifest, build_shards
from research.corpus.clones import Clones
from research.corpus.coverage import coverage, coverage_table, hours_table
from research.corpus.sources import Source, read_rows, read_table, write_table
from research.pages import put


def main() -> None:
    """Run the command line, see the module's description."""
    parser = argparse.ArgumentParser(
        prog="python -m research.corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("repositories", help="list repositories, commits and recordings, the most valuable first")
    _build_arguments(commands.add_parser("build", help="make shards and manifest from a folder of clones"))
    rendered = commands.add_parser("render", help="render songs as stems, with instruments and voices of the corpus")
    rendered.add_argument("clones", type=Path, nargs="+", metavar="CLONES", help="folders of clones or mirrors")
    rendered.add_argument("out", type=Path, metavar="OUT")
    rendered.add_argument("--songs", type=int, default=110, help="number of songs, about a minute each")
    rendered.add_argument("--seed", type=int, default=0, help="of the first song")
    made = commands.add_parser("credits", help="hours, credits and licences of a manifest as Markdown")
    made.add_argument("manifest", type=Path)
    told = commands.add_parser("coverage", help="hours by family and coverage of everyday sounds")
    told.add_argument("--into", type=Path, help="page whose places `hours` and `coverage` are filled")
    added = commands.add_parser("add", help="add recordings to the table")
    added.add_argument("rows", type=Path, nargs="+", metavar="ROWS", help="JSONL, see `sources.read_rows`")
    args = parser.parse_args()
    try:
        _run(args)
    except AudioSepError as error:
        sys.exit(f"error: {error}")


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clones", type=Path, nargs="+", metavar="CLONES", help="folders of clones or mirrors")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--only", nargs="*", default=[], metavar="REPO", help="recordings of these repositories only")
    parser.add_argument("--skip-missing", action="store_true", help="leave out what the clones lack")
    parser.add_argument("--base", type=Path, metavar="MANIFEST", help="manifest to extend; its splits stay")
    parser.add_argument("--test", type=Path, nargs="*", default=[], metavar="FOLDER", help="test material to keep out")


def _run(args: argparse.Namespace) -> None:
    if args.command == "credits":
        from audiosep.data.manifest import read_manifest

        print(trained_on(read_manifest(args.manifest)))
        return
    sources = read_table()
    if args.command == "repositories":
        _list(sources)
    elif args.command == "build":
        _build(args, [s for s in sources if not args.only or s.repo in args.only])
    elif args.command == "render":
        _render(args, sources)
    elif args.command == "add":
        more = [source for path in args.rows for source in read_rows(path)]
        write_table([*sources, *more])
        print(f"{len(read_table()) - len(sources)} recordings added")
    else:
        hours, covered = hours_table(sources), coverage_table(coverage(sources))
        print(f"{hours}\n{covered}")
        if args.into:
            put(hours, args.into, "hours")
            put(covered, args.into, "coverage")


def _list(sources: list[Source]) -> None:
    rows: dict[str, list[Source]] = {}
    for source in sources:
        rows.setdefault(source.repo, []).append(source)
    for repo, members in sorted(rows.items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"{repo} {members[0].commit} {len(members)}")


def _build(args: argparse.Namespace, sources: list[Source]) -> None:
    with Clones(args.clones) as clones:
        problems = build_shards(
            sources, clones, args.out, skip_missing=args.skip_missing, progress=_progress("building")
        )
    left_out = build_manifest(args.out, base=args.base, test=args.test, progress=_progress("comparing"))
    print(f"{len(problems)} recordings missing or broken, {len(left_out)} clips left out: {args.out}")


def _render(args: argparse.Namespace, sources: list[Source]) -> None:
    from research.corpus.songs.library import Library
    from research.corpus.songs.rendering import render_songs

    hours, started = 0.0, time.monotonic()

    def show(seed: int, seconds: float) -> None:
        nonlocal hours
        hours += seconds / 3600
        speed = hours * 3600 / (time.monotonic() - started)
        print(f"song {seed}: {hours:.2f} h of stems, {speed:.0f} x real time", file=sys.stderr, flush=True)

    with Clones(args.clones) as clones:
        render_songs(range(args.seed, args.seed + args.songs), Library(sources, clones.read), args.out, show)


def _progress(what: str) -> Callable[[float], object]:
    def show(done: float) -> None:
        print(f"\r{what} {done:4.0%}", end="\n" if done >= 1 else "", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    main()
