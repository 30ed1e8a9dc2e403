# SPDX-License-Identifier: Apache-2.0
"""The grid, printed: for a terminal, and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.faults.rows import GROUPS
from tests.faults.world import Cell, Form, Mode

COLUMNS: tuple[tuple[Form, Mode], ...] = (
    ("one task", "sync"),
    ("one task", "deferrable"),
    ("three tasks", "sync"),
    ("three tasks", "deferrable"),
)

PAGE = Path(__file__).parents[2] / "docs" / "faults.rst"

#: Fault, form and mode of a cell, and whether it came out as declared.
Results = dict[tuple[str, ...], bool]

_PAGE = """\
.. SPDX-License-Identifier: Apache-2.0

What every fault leads to
=========================

Each cell of this table is a test (``make faults`` runs them and writes this page): every attempt is a process that is
really killed, against a local BFL that counts what it would bill. The durable record is the task state store of
Airflow 3.3; the rows of killed workers are run with ``[bfl] journal_path`` too, and Airflow 2.11 runs all of them with
that. "One task" is ``BflGenerationOperator(wait_for_completion=True, destination=…)``, "three tasks" are the operator,
the sensor and a transfer, with ``retries=2`` unless the row says otherwise. "A whole attempt" means all of the repeats
inside it.

A cell says:

* how many POSTs BFL accepted, that is, what it would bill;
* the tries used, of each task;
* how it ended: *landed*, or the error and what its message says about money; *re-attached* and *maybe billed twice* are
  ``reattached`` and ``possibly_billed_twice`` of the result or the record;
* ✓ when it came out like that, ✗ when it did not; n/a where the fault cannot happen.
"""


def all_right() -> Results:
    """Return the results of a run in which every cell came out as declared."""
    return {
        (row.fault, form, mode): True
        for rows in GROUPS.values()
        for row in rows
        for form, mode in COLUMNS
        if row.cell(form, mode) is not None
    }


def as_page(results: Mapping[tuple[str, ...], bool]) -> str:
    """Return the grid as reStructuredText."""
    directive = ["", ".. list-table::", "   :header-rows: 1", "   :widths: 32 17 17 17 17", ""]
    lines = [_PAGE]
    for group, rows in _texts(results):
        lines += [group, "-" * len(group), *directive]
        for row in (("Fault", *map(", ".join, COLUMNS)), *rows):
            lines += [f"   {'*' if index == 0 else ' '} - {text}".rstrip() for index, text in enumerate(row)]
        lines.append("")
    return "\n".join(lines)


def as_text(results: Mapping[tuple[str, ...], bool]) -> str:
    """Return the grid for a terminal."""
    groups = list(_texts(results))
    header = ("", *map(", ".join, COLUMNS))
    widths = [max(len(row[index]) for _, rows in groups for row in (header, *rows)) for index in range(len(header))]
    lines = [_line(header, widths)]
    for group, rows in groups:
        lines += ["", group.upper(), *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _texts(results: Mapping[tuple[str, ...], bool]) -> Iterable[tuple[str, list[tuple[str, ...]]]]:
    for group, rows in GROUPS.items():
        yield (
            group,
            [
                (row.fault, *(_cell(row.cell(*column), results.get((row.fault, *column))) for column in COLUMNS))
                for row in rows
            ],
        )


def _cell(cell: Cell | None, right: bool | None) -> str:
    if cell is None:
        return "n/a"
    tries = "+".join(map(str, cell.tries))
    end = f'{cell.error}: "{cell.says}"' if cell.error else "landed"
    flags = ["re-attached"] * cell.reattached + ["maybe billed twice"] * cell.twice
    mark = {True: "✓", False: "✗", None: "(not run)"}[right]
    return ", ".join([_counted(cell.posts, "POST"), f"{tries} {'try' if tries == '1' else 'tries'}", end, *flags, mark])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()
