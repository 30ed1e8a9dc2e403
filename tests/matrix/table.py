# SPDX-License-Identifier: Apache-2.0
"""The matrix, printed: for a terminal, and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "matrix.inc"

_HEADER = ("Airflow", "Python", "What was checked", "Tests", "Seconds", "Result")
_INTRODUCTION = """\
.. SPDX-License-Identifier: Apache-2.0

.. list-table:: Written by the last ``make matrix`` in which all was right
   :header-rows: 1
"""


@dataclass(frozen=True)
class Result:
    """How one check of one Airflow ended."""

    airflow: str
    python: str
    what: str
    seconds: float
    passed: int
    skipped: int
    right: bool

    @property
    def outcome(self) -> str:
        """One word."""
        return "passed" if self.right else "FAILED"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        tests = f"{self.passed}" + (f" ({self.skipped} skipped)" if self.skipped else "")
        return self.airflow, self.python, self.what, tests, f"{self.seconds:.0f}", self.outcome


def as_text(results: Sequence[Result]) -> str:
    """Return the table for a terminal."""
    rows = [_HEADER, *(result.cells for result in results)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def as_page(results: Sequence[Result]) -> str:
    """Return the table as reStructuredText."""
    lines = [_INTRODUCTION]
    for row in (_HEADER, *(result.cells for result in results)):
        lines += [f"   {'*' if index == 0 else ' '} - {cell}" for index, cell in enumerate(row)]
    return "\n".join(lines) + "\n"
