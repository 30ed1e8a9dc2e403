# SPDX-License-Identifier: Apache-2.0
"""The docs as the tests read them: their text, their tables and the Dags they show."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "example_dags"
README = (ROOT / "README.md").read_text()

PAGES = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.rst"))}

_TABLE = re.compile(r"^\.\. list-table::(?P<title>[^\n]*)\n(?P<body>(?:\n|[ ]+[^\n]*\n)*)", re.MULTILINE)
_LITERAL = re.compile(r"``(.+?)``")


def tables(page: str) -> list[tuple[str, list[list[str]]]]:
    """Return title and rows of each table of a page, without the header row; a cell is its text on one line."""
    return [(match["title"].strip(), list(_rows(match["body"]))[1:]) for match in _TABLE.finditer(PAGES[page] + "\n")]


def table(page: str, title: str) -> list[list[str]]:
    """Return the rows of the one table of a page that has this title."""
    (rows,) = [rows for found, rows in tables(page) if found == title]
    return rows


def literals(text: str) -> list[str]:
    """Return what is set in code font."""
    return _LITERAL.findall(" ".join(text.split()))


def _rows(body: str) -> Iterator[list[str]]:
    for row in re.split(r"^   \* (?=- )", body, flags=re.MULTILINE)[1:]:
        cells = re.split(r"^(?:     )?- ", row, flags=re.MULTILINE)[1:]
        yield [" ".join(cell.split()) for cell in cells]


def includes() -> Iterator[tuple[str, Path, dict[str, str]]]:
    """Yield page, file and options of each ``literalinclude``."""
    found = re.compile(r"^\.\. literalinclude:: (\S+)\n((?:   :\S+:[^\n]*\n)*)", re.MULTILINE)
    for page, text in PAGES.items():
        for name, options in found.findall(text):
            pairs = re.findall(r":(\S+?):[ ]*([^\n]*)", options)
            yield page, (DOCS / name).resolve(), dict(pairs)


def shown_parts(path: Path) -> list[str]:
    """
    Return the parts of an example Dag between its markers, as a page that is not built shows them.

    What the example reads from the environment is shown as its default.
    """
    text = path.read_text()
    for name, default in re.findall(r'^([A-Z_]+) = os\.environ\.get\("[A-Z_]+", ("[^"]*")\)', text, re.MULTILINE):
        text = re.sub(rf"(?<==){name}\b", default, text)
    parts = re.findall(r"^ *# \[START (\w+)\]\n(.*?)^ *# \[END \1\]", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(part).strip() for _, part in parts]
