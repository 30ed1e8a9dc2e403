# SPDX-License-Identifier: Apache-2.0
"""After a deferral: the trigger's event is a hint, BFL's own answer counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bfl.exceptions import BflPollError, BflStorageError, BflTimeoutError, BflUnresolvedSubmitError
from tests.airflow_fixtures import World


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed task that finds nothing defers again at once."""
    monkeypatch.setattr("airflow_provider_bfl.operators.waiting._RESUME_WAIT_SECONDS", 0.1)


def resumed_after(seconds: float, event: dict[str, Any]) -> Callable[[Any], Any]:
    def resume(deferral: Any) -> dict[str, Any]:
        time.sleep(seconds)
        return event

    return resume


class TestTheEvent:
    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"id": "another-generation", "status": "Ready"},
            {"id": "another-generation", "status": "Content Moderated"},
            {"id": None, "status": "Error"},
            {"status": "timeout"},
            {"status": "unreachable"},
            {"status": "error"},
        ],
    )
    def test_decides_nothing_for_a_generation_that_is_ready(self, bfl: World, event: dict[str, Any]) -> None:
        run = bfl.generation(deferrable=True)
        run.on_deferral = lambda deferral: event

        result = run.attempt()

        assert result["id"] == bfl.simulator.ledger.tasks[0].id
        assert result["status"] == "Ready"
        assert bfl.posts_received == 1

    def test_may_be_missing(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        run.on_deferral = lambda deferral: {}
        run.attempt()

        assert run.resume("execute_complete")["status"] == "Ready"

    def test_cannot_bring_a_url_along(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        url = f"{bfl.simulator.canary_url}/x.png"
        run.on_deferral = lambda deferral: {"status": "Ready", "sample": url, "polling_url": url, "url": url}

        run.attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()

    def test_of_a_generation_that_is_not_ready_yet_is_waited_on(self, bfl: World, impatient: None) -> None:
        bfl.simulator.fault("task", stuck=True)
        run = bfl.generation(deferrable=True)

        def early(deferral: Any) -> Any:
            (task,) = bfl.simulator.ledger.tasks
            if len(run.deferrals) == 3:
                bfl.simulator.finish(task.id)
            return {"id": task.id, "status": "Ready"}

        run.on_deferral = early

        assert run.attempt()["status"] == "Ready"
        assert len(run.deferrals) == 3
        assert bfl.posts_received == 1

    def test_error_means_that_the_task_waits_in_the_worker(self, bfl: World, impatient: None) -> None:
        bfl.simulator.fault("task", latency_seconds=0.6)
        run = bfl.generation(deferrable=True)
        run.on_deferral = lambda deferral: {"status": "error"}

        assert run.attempt()["status"] == "Ready"
        assert len(run.deferrals) == 1

    def test_from_an_earlier_attempt_lands_the_one_generation(self, bfl: World) -> None:
        """Airflow 3.0 and 3.1 resume a retry with the event of the attempt before it."""
        run = bfl.generation(deferrable=True)
        (bfl.root / "landed").write_text("in the way")
        with pytest.raises(BflStorageError):
            run.attempt()
        (bfl.root / "landed").unlink()

        run.try_number += 1
        run.xcom.clear()
        result = run.resume("execute_complete", event=run.events[0])

        assert bfl.path_of(result).exists()
        assert bfl.posts_received == 1


class TestTheRecord:
    def test_that_is_gone_ends_the_task_for_good_because_a_retry_would_pay(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        run.on_deferral = lambda deferral: run.store.values.clear()

        with pytest.raises(BflUnresolvedSubmitError, match="submitted and is billed") as lost:
            run.attempt()

        assert isinstance(lost.value, AirflowFailException)
        assert bfl.simulator.ledger.tasks[0].id in str(lost.value)
        assert bfl.posts_received == 1


class TestDeadlines:
    def test_the_deferrals_own_timeout_comes_later_than_ours(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, timeout=100.0)

        run.attempt()

        (deferral,) = run.deferrals
        assert deferral.timeout is not None
        assert deferral.timeout > timedelta(seconds=100 + 60)
        assert abs(deferral.kwargs["deadline"] - time.time() - 100) < 10

    def test_the_deadline_is_the_submits_and_does_not_move_with_deferrals(self, bfl: World, impatient: None) -> None:
        bfl.simulator.fault("task", stuck=True)
        run = bfl.generation(deferrable=True, timeout=1.5)
        run.on_deferral = resumed_after(0.3, {"status": "Pending"})

        with pytest.raises(BflTimeoutError, match="It is billed once"):
            run.attempt()

        assert len({deferral.kwargs["deadline"] for deferral in run.deferrals}) == 1
        assert bfl.posts_received == 1

    def test_a_result_that_is_there_is_taken_however_late_the_resume(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, timeout=0.2)
        run.on_deferral = resumed_after(0.4, {"status": "timeout"})

        assert run.attempt()["status"] == "Ready"

    def test_a_retry_has_a_deadline_of_its_own(self, bfl: World, deferrable: bool, impatient: None) -> None:
        bfl.simulator.fault("task", stuck=True)
        run = bfl.generation(deferrable=deferrable, timeout=0.3)
        with pytest.raises(BflTimeoutError):
            run.attempt()
        first = run.record["deadline"]
        bfl.simulator.finish(bfl.simulator.ledger.tasks[0].id)

        assert run.attempt()["reattached"] is True
        assert run.record["deadline"] > first
        assert bfl.posts_received == 1


class TestWhereATaskWaitsAtFirst:
    def test_a_quick_model_is_awaited_in_the_worker(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, model="flux-2-klein-4b", inline_wait=None)

        run.attempt()

        assert run.deferrals == []

    def test_a_slow_one_defers_at_once(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, model="flux-2-max", inline_wait=None)
        seen: list[int] = []
        run.on_deferral = lambda deferral: seen.append(bfl.simulator.ledger.tasks[0].polls)

        run.attempt()

        assert seen == [0]

    def test_a_reattached_one_is_looked_at_first(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, model="flux-2-max", inline_wait=None, destination=None)
        run.attempt()
        deferrals = len(run.deferrals)

        assert run.attempt()["status"] == "Ready"
        assert len(run.deferrals) == deferrals

    def test_the_user_decides_otherwise(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, model="flux-2-max", inline_wait=20.0)

        run.attempt()

        assert run.deferrals == []

    def test_sync_never_defers(self, bfl: World) -> None:
        run = bfl.generation(deferrable=False, inline_wait=0.0)

        run.attempt()

        assert run.deferrals == []


class TestPollingThatFailsInTheTriggerer:
    def test_is_judged_again_in_the_worker(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_bfl.api.polling._MAX_BACKOFF_SECONDS", 0.01)
        bfl.simulator.fault("poll", status=500, body={"detail": "busy"}, times=5)
        run = bfl.generation(deferrable=True)

        assert run.attempt()["status"] == "Ready"
        assert [event["status"] for event in run.events] == ["unreachable"]

    def test_for_good_keeps_the_record(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_bfl.api.polling._MAX_BACKOFF_SECONDS", 0.01)
        bfl.simulator.fault("poll", status=500, body={"detail": "busy"}, times=None)
        run = bfl.generation(deferrable=True)

        with pytest.raises(BflPollError):
            run.attempt()

        assert run.record["state"] == "submitted"
