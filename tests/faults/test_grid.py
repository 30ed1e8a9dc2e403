# SPDX-License-Identifier: Apache-2.0
"""Every fault, in every form of the way: what BFL would bill, how many tries it takes, how it ends."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest

from airflow_provider_bfl.simulator import SimulatorClient
from tests.faults.rows import GROUPS, KILLS
from tests.faults.stage import Stage
from tests.faults.table import COLUMNS, PAGE, all_right, as_page
from tests.faults.world import Form, Mode, Place, Row

#: Airflow before 3.3 has no task state store.
_HAS_STORE = tuple(map(int, version("apache-airflow").split(".")[:2])) >= (3, 3)
_PLACES: tuple[Place, ...] = ("task_state_store", "journal_path") if _HAS_STORE else ("journal_path",)


def cells() -> list[Any]:
    return [
        pytest.param(row, form, mode, place, id=f"{row.fault} - {form}, {mode}, {place}")
        for rows in GROUPS.values()
        for row in rows
        for form, mode in COLUMNS
        if row.cell(form, mode) is not None
        for place in (_PLACES if row in KILLS else _PLACES[:1])
    ]


@pytest.mark.parametrize(("row", "form", "mode", "place"), cells())
def test_cell(
    row: Row,
    form: Form,
    mode: Mode,
    place: Place,
    stage: Stage,
    simulator: SimulatorClient,
    tmp_path: Path,
    record_property: Any,
) -> None:
    record_property("cell", [row.fault, form, mode])
    expected = row.cell(form, mode)
    assert expected is not None

    seen = stage.play(row, form, mode, place=place, simulator=simulator, root=tmp_path)

    assert seen == replace(expected, says=seen.says)
    assert expected.says in seen.says


class TestThePage:
    def test_is_what_these_tests_found(self) -> None:
        assert PAGE.read_text() == as_page(all_right()), "`make faults` writes docs/faults.rst"


class TestTheGrid:
    def test_names_every_fault_once(self) -> None:
        faults = [row.fault for rows in GROUPS.values() for row in rows]
        assert len(faults) == len(set(faults))

    def test_says_of_every_error_whether_it_was_billed(self) -> None:
        for row in (row for rows in GROUPS.values() for row in rows):
            for form in get_args(Form):
                for mode in get_args(Mode):
                    cell = row.cell(form, mode)
                    assert cell is None or bool(cell.error) == bool(cell.says), row.fault
