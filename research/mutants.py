"""Mutation testing of changed lines: break a line, see whether a test fails, restore it.

    python -m research.mutants --since v0.1.0 --count 10 --seed 0 audiosep/models audiosep/inference audiosep/output

Lines are drawn at random from those that were added or changed since a revision and hold something to break: a
comparison, an operator, a number, a truth value, `not`, `min`/`max`. First the test files that name the module run,
then all others but the slow ones. Works on a copy of the checkout, and stops if a test fails there with nothing broken.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip
NAMES = {"min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """One broken line.

    Attributes:
        path: of the file, relative to the checkout.
        line: its number.
        before: the line as it is.
        after: the line broken.
    """

    path: Path
    line: int
    before: str
    after: str


def changed_lines(since: str, folders: Sequence[str]) -> Iterator[tuple[Path, int]]:
    """Files and numbers of the lines that were added or changed since a revision; moved files count as unchanged."""
    diff = subprocess.run(
        ["git", "diff", "-M", "-U0", since, "--", *folders], check=True, capture_output=True, text=True
    ).stdout
    path: Path | None = None
    for text in diff.splitlines():
        if text.startswith("+++ "):
            path = Path(text[6:]) if text.endswith(".py") else None
        elif path is not None and (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", text)):
            start, count = int(hunk[1]), int(hunk[2] or 1)
            yield from ((path, number) for number in range(start, start + count))


def mutants(path: Path) -> dict[int, list[Mutant]]:
    """The ways to break each line of a file."""
    source = path.read_text(encoding="utf-8")
    lines, found = source.splitlines(), dict[int, list[Mutant]]()
    for node in _expressions(ast.parse(source)):
        if (broken := _broken(node)) is None or node.lineno != node.end_lineno:
            continue
        line = lines[node.lineno - 1]
        # Columns of the syntax tree count bytes.
        head, tail = line.encode()[: node.col_offset].decode(), line.encode()[node.end_col_offset :].decode()
        after = f"{head}{broken}{tail}"
        found.setdefault(node.lineno, []).append(Mutant(path, node.lineno, line.strip(), after))
    return found


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """All expressions but those in f-strings, whose places the syntax tree does not know, and the -1 of `reshape`.

    NumPy takes any negative size for the unknown one.
    """
    for child in ast.iter_child_nodes(node):
        match node, child:
            case ast.Call(ast.Attribute(attr="reshape")), ast.UnaryOp(ast.USub()):
                continue
        if isinstance(child, ast.expr):
            yield child
        if not isinstance(child, ast.JoinedStr):
            yield from _expressions(child)


def _broken(node: ast.expr) -> str | None:
    """The source of an expression with its outermost operation changed; None where there is nothing to change."""
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in COMPARE:
            return ast.unparse(ast.Compare(left, [COMPARE[type(operator)]()], [right]))
        case ast.BinOp(left, operator, right) if type(operator) in BINARY:
            return f"({ast.unparse(ast.BinOp(left, BINARY[type(operator)](), right))})"
        case ast.Constant(bool() as value):
            return str(not value)
        case ast.Constant(int() | float() as value):
            return str(value + 1)
        case ast.UnaryOp(ast.Not(), operand):
            return f"({ast.unparse(operand)})"
        case ast.Call(ast.Name(name), arguments, keywords) if name in NAMES:
            return ast.unparse(ast.Call(ast.Name(NAMES[name]), arguments, keywords))
    return None


def killer(mutant: Mutant, checkout: Path) -> str | None:
    """The first test that fails with a mutant in a copy of the checkout; None if none does."""
    path = checkout / mutant.path
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    path.write_text("".join(lines), encoding="utf-8")
    try:
        module = ".".join(mutant.path.with_suffix("").parts)
        tests = sorted((checkout / "tests").glob("test_*.py"))
        near = [test for test in tests if module in test.read_text(encoding="utf-8")]
        others = [test for test in tests if test not in near]
        return next((failed for group in (near, others) if group and (failed := first_failure(group, checkout))), None)
    finally:
        path.write_text(source, encoding="utf-8")


def first_failure(tests: Sequence[Path], checkout: Path) -> str | None:
    """The first of some test files' tests that fails, or what pytest says if it cannot run them; None if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    failed = re.search(r"^(FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failed[2] if failed else done.stdout.strip().splitlines()[-1]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--since", required=True, help="revision; lines changed after it are candidates")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    changed = set(changed_lines(options.since, options.folders))
    choices = [
        ways
        for path in sorted({path for path, _ in changed})
        for line, ways in sorted(mutants(path).items())
        if (path, line) in changed
    ]
    draw = random.Random(options.seed)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="audiosep-mutants-") as folder:
        checkout = Path(folder) / "checkout"
        shutil.copytree(Path.cwd(), checkout, ignore=shutil.ignore_patterns(".venv*", ".git", "out", "site", "runs"))
        if failed := first_failure(sorted((checkout / "tests").glob("test_*.py")), checkout):
            raise SystemExit(f"with nothing broken {failed} fails: mend it first")
        for ways in draw.sample(choices, min(options.count, len(choices))):
            mutant = draw.choice(ways)
            test = killer(mutant, checkout)
            survivors += test is None
            fate = "SURVIVED" if test is None else f"killed by {test}"
            print(f"{mutant.path}:{mutant.line} {fate}\n    {mutant.before}\n    {mutant.after.strip()}", flush=True)
    print(f"{survivors} of {min(options.count, len(choices))} survived, drawn from {len(choices)} lines")


if __name__ == "__main__":
    main()
