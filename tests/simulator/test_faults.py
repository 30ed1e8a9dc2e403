# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from typing import Any

import pytest

from airflow_provider_bfl.simulator.faults import Fault, FaultBook, fault_from_json


def statuses(book: FaultBook, count: int, **request: Any) -> list[int | None]:
    return [book.take("submit", **request).status for _ in range(count)]


class TestWhichRequestIsHit:
    def test_the_next_so_many(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", times=2, status=500))
        assert statuses(book, 4) == [500, 500, None, None]

    def test_after_those_that_are_skipped(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", skip=2, status=500))
        assert statuses(book, 4) == [None, None, 500, None]

    def test_all_without_a_number(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", times=None, status=500))
        assert statuses(book, 50) == [500] * 50

    def test_the_oldest_first(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", status=500))
        book.add(Fault("submit", status=503))
        assert statuses(book, 3) == [500, 503, None]

    def test_other_kinds_models_prompts_and_tasks_pass_and_use_nothing_up(self) -> None:
        book = FaultBook()
        book.add(Fault("poll", status=500, model="flux-dev", task_id="t", prompt="kite"))
        right = {"model": "flux-dev", "task_id": "t", "prompt": "a red kite"}
        assert book.take("delivery", **right).status is None
        for name in right:
            assert book.take("poll", **right | {name: "other"}).status is None
        assert book.take("poll", **right).status == 500

    def test_none_once_cleared(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", times=None, status=500))
        book.clear()
        assert statuses(book, 1) == [None]

    def test_what_is_left_is_counted(self) -> None:
        book = FaultBook()
        book.add(Fault("submit", times=2, status=500))
        book.take("submit")
        assert book.left == 1
        book.take("submit")
        assert book.left == 0


class TestNonsenseIsRefused:
    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            ({"on": "submit", "statsu": 500}, "statsu"),
            ({"status": 500}, "'on'"),
            ({"on": "download"}, "download"),
            ({"on": "poll", "times": 0}, "times=0"),
            ({"on": "submit", "final_status": "Error"}, "final_status"),
            ({"on": "task", "drop": True}, "drop"),
            ({"on": "poll", "accept": True}, "accept"),
            ({"on": "submit", "cut_after": 0.5}, "cut_after"),
            ({"on": "delivery", "cut_after": 1.5}, "cut_after"),
            ({"on": "delivery", "framing": "json"}, "json"),
        ],
    )
    def test_with_the_name_of_what_is_wrong(self, document: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            fault_from_json(document)


def test_bytes_travel_as_base64() -> None:
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert fault_from_json({"on": "delivery", "content": encoded}).content == b"\x00\xff"
