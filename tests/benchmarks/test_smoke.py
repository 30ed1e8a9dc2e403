# SPDX-License-Identifier: Apache-2.0
"""Every benchmark runs, in the small, and its tables say what was measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import results
from benchmarks.results import Finding

QUICK = [row for row in runner.ROWS if row not in runner.SLOW]


class TestEveryRow:
    @pytest.mark.bench
    @pytest.mark.airflow3
    @pytest.mark.parametrize("row", QUICK)
    def test_runs_and_finds_something(self, row: str) -> None:
        findings = importlib.import_module(f"benchmarks.{row}").measure(tiny=True, runs=1)

        assert findings
        assert all(finding.value >= 0 for finding in findings)

    @pytest.mark.parametrize("row", runner.ROWS)
    def test_says_what_it_is(self, row: str) -> None:
        assert importlib.import_module(f"benchmarks.{row}").TITLE


def finding(**changes: object) -> Finding:
    told = {"what": "Speed", "value": 50.0, "unit": "MB/s", "baseline": 40.0, "compared_with": "another"}
    return Finding(**{**told, **changes})  # type: ignore[arg-type]


class TestAGoal:
    @pytest.mark.parametrize(
        ("changes", "reached"),
        [
            ({}, None),
            ({"goal": 1.3}, True),
            ({"goal": 1.2}, False),
            ({"goal": 1.0, "bound": "least"}, True),
            ({"goal": 1.3, "bound": "least"}, False),
            ({"goal": 64.0, "judged": "value"}, True),
            ({"goal": 49.0, "judged": "value", "baseline": None}, False),
        ],
    )
    def test_is_reached_or_not(self, changes: dict[str, object], reached: bool | None) -> None:
        assert finding(**changes).reached is reached

    def test_that_is_missed_is_seen_in_the_table(self) -> None:
        assert "**no**" in results.as_rst([finding(goal=1.2)])


class TestTheDocumentation:
    def test_shows_what_was_measured_last(self) -> None:
        measured, shown = results.read(), results.tables_on()

        assert set(shown) == set(measured)
        assert {row: results.as_rst(findings) for row, findings in measured.items()} == shown

    def test_gets_new_numbers_between_the_marks_and_nothing_else_changes(self, tmp_path: Path) -> None:
        begin, end = ".. results of ``make bench`` begin; do not edit by hand: a", ".. results end: a"
        page = tmp_path / "page.rst"
        page.write_text(f"Before\n\n{begin}\n\nold\n\n{end}\n\nAfter\n")

        results.write_page({"a": [finding()], "b": [finding()]}, page)

        assert page.read_text() == f"Before\n\n{begin}\n\n{results.as_rst([finding()])}\n\n{end}\n\nAfter\n"

    def test_keeps_rows_that_were_not_measured_again(self, tmp_path: Path) -> None:
        path = tmp_path / "results.json"
        results.write({"a": [finding()]}, path)

        results.write({"b": [finding(goal=1.3)]}, path)

        assert results.read(path) == {"a": [finding()], "b": [finding(goal=1.3)]}
