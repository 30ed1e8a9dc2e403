# SPDX-License-Identifier: Apache-2.0
"""What a row found: numbers with their baseline and goal, as a table, as JSON, and in the documentation."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "performance.rst"

_TIMES = "\N{MULTIPLICATION SIGN}"

_BEGIN = ".. results of ``make bench`` begin; do not edit by hand: {row}"
_END = ".. results end: {row}"

_SHOWN_VERSIONS = (
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-google",
    "apache-airflow-providers-http",
    "aiohttp",
)


@dataclass(frozen=True)
class Finding:
    """
    One number of a row.

    :param what: What was measured.
    :param value: This provider's, in ``unit``.
    :param baseline: The other's in the same run, or None where the goal is absolute.
    :param compared_with: What the other is.
    :param goal: The most, or the least, that ``judged`` may be; None for a number that is only told.
    :param bound: Whether the goal is the most or the least.
    :param judged: What is held against the goal: the value, or the ratio to the baseline.
    :param runs: How many runs the median is of.
    :param note: What a reader needs to know beside it.
    """

    what: str
    value: float
    unit: str
    baseline: float | None = None
    compared_with: str = ""
    goal: float | None = None
    bound: Literal["most", "least"] = "most"
    judged: Literal["value", "ratio"] = "ratio"
    runs: int = 1
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """This provider's value over the baseline's."""
        return None if not self.baseline else self.value / self.baseline

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        judged = self.value if self.judged == "value" else self.ratio
        if self.goal is None or judged is None:
            return None
        return judged <= self.goal if self.bound == "most" else judged >= self.goal

    def cells(self) -> list[str]:
        """Return the row of the table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} {_TIMES}"
        baseline = "" if self.baseline is None else f"{_shown(self.baseline)} {self.unit} ({self.compared_with})"
        verdict = {True: "yes", False: "**no**", None: ""}[self.reached]
        return [self.what, f"{_shown(self.value)} {self.unit}", baseline, ratio, self._goal(), verdict]

    def _goal(self) -> str:
        if self.goal is None:
            return ""
        sign = "≤" if self.bound == "most" else "≥"
        return f"{sign} {self.goal:g} {_TIMES if self.judged == 'ratio' else self.unit}"


HEADINGS = ("What", "Here", "Baseline", "Ratio", "Goal", "Reached")


def as_text(findings: Sequence[Finding]) -> str:
    """Return a table for a terminal, notes below."""
    rows = [list(HEADINGS), *(each.cells() for each in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"  {each.what}: {each.note}" for each in findings if each.note]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *notes])


def as_rst(findings: Sequence[Finding]) -> str:
    """Return a ``list-table``."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [list(HEADINGS), *(each.cells() for each in findings)]:
        lines += [f"   {'* -' if not index else '  -'} {cell}".rstrip() for index, cell in enumerate(row)]
    runs = sorted({each.runs for each in findings})
    counted = f"Medians of {runs[0]} runs." if len(runs) == 1 and runs[0] > 1 else ""
    notes = [f"{each.what}: {each.note}." for each in findings if each.note]
    return "\n".join([*lines, "", " ".join([counted, *notes]).strip()]).rstrip()


def environment() -> dict[str, Any]:
    """Return what the numbers depend on and a reader can compare with."""
    return {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "versions": {name: version(name) for name in _SHOWN_VERSIONS},
    }


def read(path: Path = RESULTS) -> dict[str, list[Finding]]:
    """Return the findings of every row that was measured so far."""
    if not path.exists():
        return {}
    known = {each.name for each in fields(Finding)}
    rows = json.loads(path.read_text())["rows"]
    return {
        row: [Finding(**{name: value for name, value in each.items() if name in known}) for each in told]
        for row, told in rows.items()
    }


def write(rows: dict[str, list[Finding]], path: Path = RESULTS) -> None:
    """Write the findings; rows that were not measured now keep what was found before."""
    kept = {row: [_told(each) for each in findings] for row, findings in (read(path) | rows).items()}
    path.write_text(json.dumps({"environment": environment(), "rows": kept}, indent=1, ensure_ascii=False) + "\n")


def write_page(rows: dict[str, list[Finding]], page: Path = PAGE) -> None:
    """Put the tables between their marks in the documentation."""
    text = page.read_text()
    for row, findings in rows.items():
        begin, end = _BEGIN.format(row=row), _END.format(row=row)
        before, found, rest = text.partition(begin)
        if found:
            text = f"{before}{begin}\n\n{as_rst(findings)}\n\n{end}{rest.partition(end)[2]}"
    page.write_text(text)


def tables_on(page: Path = PAGE) -> dict[str, str]:
    """Return the tables that are in the documentation, by row."""
    text, tables = page.read_text(), {}
    for row in read():
        begin, end = _BEGIN.format(row=row), _END.format(row=row)
        if begin in text:
            tables[row] = text.partition(begin)[2].partition(end)[0].strip()
    return tables


def unreached(findings: Iterable[Finding]) -> list[Finding]:
    """Return those whose goal was missed."""
    return [each for each in findings if each.reached is False]


def _told(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"ratio": finding.ratio, "reached": finding.reached}


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
