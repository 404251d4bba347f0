"""A hook of MkDocs (`mkdocs.yml`): pages that are files of the repository's root, whose links begin with `docs/`."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_INCLUDED = re.compile(r'^--8<-- "(\w+\.md)"$', re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put files of the root in the place of the lines that include them, with links as they are in `docs/`.

    Args:
        markdown: of a page.
    """
    return _INCLUDED.sub(lambda line: _page(_ROOT / line[1]), markdown)


def _page(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("](docs/", "](")
