# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bfl.landing.names import object_stem, safe_part

TASK = {"dag_id": "my_dag", "run_id": "run-1", "task_id": "group.paint", "map_index": -1}

ANY_TEXT = st.text(st.characters(codec=None), max_size=300) | st.sampled_from(
    ["..", ".", "", "a/../b", "\\..\\", "a\0b"]
)


class TestANameIsReadable:
    def test_ids_that_are_safe_are_used_as_they_are(self) -> None:
        assert object_stem(TASK, "3f2a-9") == "my_dag/run-1/group.paint/3f2a-9"

    def test_a_mapped_task_has_its_map_index(self) -> None:
        assert object_stem({**TASK, "map_index": 0}, "g") == "my_dag/run-1/group.paint/0/g"

    def test_what_is_unknown_is_left_out(self) -> None:
        assert object_stem({"dag_id": "my_dag", "run_id": None}, "g") == "my_dag/g"
        assert object_stem({}, "g") == "g"

    def test_a_run_id_keeps_its_date(self) -> None:
        stem = object_stem({**TASK, "run_id": "manual__2026-01-01T00:00:00+00:00"}, "g")
        assert re.fullmatch(r"my_dag/manual__2026-01-01T00_00_00_00_00-[0-9a-f]{10}/group\.paint/g", stem)


class TestAnIdIsData:
    @given(ANY_TEXT)
    def test_it_is_one_safe_segment(self, text: str) -> None:
        part = safe_part(text)
        assert re.fullmatch(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*", part)
        assert len(part) <= 120

    @given(ANY_TEXT)
    def test_it_is_the_same_every_time(self, text: str) -> None:
        assert safe_part(text) == safe_part(text)

    @given(st.lists(ANY_TEXT, min_size=2, max_size=2, unique=True))
    def test_two_ids_never_share_a_segment(self, texts: list[str]) -> None:
        assert safe_part(texts[0]) != safe_part(texts[1])

    def test_it_cannot_leave_the_directory(self) -> None:
        stem = object_stem({"dag_id": "..", "run_id": "../../etc", "task_id": "/abs"}, "../../../passwd")
        assert ".." not in stem.split("/")
        assert len(stem.split("/")) == 4
        assert not stem.startswith("/")
