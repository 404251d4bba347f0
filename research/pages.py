"""Tables that commands write into pages of documentation, so that no number there is copied by hand."""

from __future__ import annotations

import re
from pathlib import Path

from audiosep.atomic import write_text
from audiosep.errors import InputError


def put(text: str, path: Path, name: str) -> None:
    """Replace the text of a page between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Args:
        text: Markdown that ends with a line break.
        path: the page.
        name: of the place.

    Raises:
        InputError: the page has no such place.
    """
    start, end = find_place(path, name)
    page = path.read_text(encoding="utf-8")
    write_text(path, page[:start] + text + page[end:])


def find_place(path: Path, name: str) -> tuple[int, int]:
    """Where the text of a place begins and ends.

    Args:
        path: the page.
        name: of the place.

    Returns:
        Start and end, in characters of the page.

    Raises:
        InputError: the page has no such place.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    place = re.search(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", path.read_text(encoding="utf-8"), re.DOTALL)
    if place is None:
        raise InputError(f"{path} has no lines {begin} and {end} to put the table between")
    return place.span()
