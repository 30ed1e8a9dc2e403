# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_bfl.simulator.tasks import Artwork, Outcome, Quote, Task, jittered

TASK = Task(
    id="t",
    model="flux-2-pro",
    account="a",
    region="eu",
    artwork=Artwork("a kite", 7, 1024, 1024, "jpeg"),
    quote=Quote(3.0, echoed=True),
    submitted_at=100.0,
    latency_seconds=10.0,
    prompt_shown="a kite, rewritten",
)


def body(task: Task, now: float) -> dict[str, object]:
    return task.poll_body(now, "https://sample")


class TestStatusFollowsTheClock:
    def test_pending_until_its_time_is_over(self) -> None:
        assert [TASK.status(now) for now in (100.0, 109.9, 110.0, 999.0)] == ["Pending", "Pending", "Ready", "Ready"]

    def test_a_stuck_task_never_ends(self) -> None:
        assert replace(TASK, latency_seconds=float("inf")).status(1e12) == "Pending"

    @pytest.mark.parametrize("model", ["flux-3-video", "flux-3-image"])
    def test_flux_3_reasons_and_generates_on_the_way(self, model: str) -> None:
        task = replace(TASK, model=model)
        seen = [task.status(100 + second) for second in range(11)]
        assert list(dict.fromkeys(seen)) == ["Pending", "Reasoning", "Generating", "Ready"]

    def test_an_invented_status_is_reported_as_given(self) -> None:
        assert replace(TASK, outcome=Outcome("Queued For Review")).status(200) == "Queued For Review"


class TestProgress:
    def test_flux_dev_ticks_to_one_and_then_says_nothing_while_still_pending(self) -> None:
        task = replace(TASK, model="flux-dev", latency_seconds=120.0)
        ticks = [task.progress(100 + second) for second in range(0, 120, 10)]
        assert ticks == [None, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, None]
        assert task.status(219) == "Pending"

    def test_flux_2_says_nothing(self) -> None:
        assert {TASK.progress(100 + second) for second in range(10)} == {None}


class TestPollBody:
    def test_pending_names_every_field_and_fills_none(self) -> None:
        assert body(TASK, 101) == {
            "id": "t",
            "status": "Pending",
            "result": None,
            "progress": None,
            "details": None,
            "preview": None,
        }

    def test_ready_reports_sample_seed_and_the_rewritten_prompt(self) -> None:
        assert body(TASK, 110)["result"] == {
            "start_time": 100.0,
            "sample": "https://sample",
            "prompt": "a kite, rewritten",
            "seed": 7,
        }

    def test_flux_1_adds_end_time_and_duration(self) -> None:
        result = body(replace(TASK, model="flux-dev"), 110)["result"]
        assert isinstance(result, dict)
        assert (result["end_time"], result["duration"]) == (110.0, 10.0)

    def test_flux_3_has_no_seed(self) -> None:
        result = body(replace(TASK, model="flux-3-image"), 110)["result"]
        assert isinstance(result, dict)
        assert set(result) == {"sample", "prompt", "duration"}

    @pytest.mark.parametrize(
        ("status", "details"),
        [
            ("Error", {"error": "The generation failed."}),
            ("Request Moderated", {"Moderation Reasons": ["Content Policy Violation"]}),
            ("Content Moderated", {"Moderation Reasons": ["Safety Filter"]}),
            ("Task not found", None),
        ],
    )
    def test_a_bad_end_has_no_result_and_says_why(self, status: str, details: object) -> None:
        told = body(replace(TASK, outcome=Outcome(status)), 110)
        assert (told["result"], told["details"]) == (None, details)

    def test_scripted_details_win(self) -> None:
        task = replace(TASK, outcome=Outcome("Content Moderated", {"Moderation Reasons": ["Violence"]}))
        assert body(task, 110)["details"] == {"Moderation Reasons": ["Violence"]}

    def test_details_are_not_told_before_the_end(self) -> None:
        assert body(replace(TASK, outcome=Outcome("Error")), 101)["details"] is None


class TestSettledCost:
    VIDEO = replace(TASK, model="flux-3-video", quote=Quote(85.0, settled=True))

    def test_is_named_only_at_the_end(self) -> None:
        assert "cost" not in body(self.VIDEO, 101)
        assert body(self.VIDEO, 110)["cost"] == 85.0

    def test_is_nothing_for_a_moderated_task(self) -> None:
        assert body(replace(self.VIDEO, outcome=Outcome("Content Moderated")), 110)["cost"] == 0.0


class TestJitter:
    def test_is_the_same_for_the_same_task_and_stays_within_bounds(self) -> None:
        spread = [jittered(10, jitter=0.2, task_id=str(n)) for n in range(50)]
        assert spread == [jittered(10, jitter=0.2, task_id=str(n)) for n in range(50)]
        assert 8 <= min(spread) < max(spread) <= 12
