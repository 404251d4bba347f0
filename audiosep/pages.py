"""Tables that commands put into pages of documentation, so that no number there is copied by hand."""

from __future__ import annotations

import re
from pathlib import Path

from audiosep.errors import InputError


def put(text: str, path: Path, name: str) -> None:
    """Put a text where the page has room for it, between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Args:
        text: Markdown that ends with a line break. path: the page. name: of the place.

    Raises:
        InputError: the page has no such place.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    place = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    page = path.read_text(encoding="utf-8")
    if not place.search(page):
        raise InputError(f"{path} has no lines {begin} and {end} to put the table between")
    path.write_text(place.sub(lambda _: text, page), encoding="utf-8")
