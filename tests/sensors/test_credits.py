# SPDX-License-Identifier: Apache-2.0
"""The sensor waits until somebody has bought credits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_bfl.exceptions import BflAuthenticationError, BflConfigError, BflTimeoutError
from airflow_provider_bfl.sensors.credits import BflCreditsSensor
from tests.airflow_fixtures import CANARY_KEY, LogRecorder, World, only_event


def sense(bfl: World, **arguments: Any) -> Any:
    return bfl.run(BflCreditsSensor, **{"min_credits": 50, "poll_interval": 0.05, "timeout": 20, **arguments})


class TestABalance:
    def test_that_is_enough_ends_the_wait_at_once(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.set_credits(50)
        run = sense(bfl, deferrable=deferrable)

        assert run.attempt() == {"credits": 50.0}
        assert run.deferrals == []

    def test_that_is_too_low_is_waited_for_in_the_triggerer(self, bfl: World) -> None:
        bfl.simulator.set_credits(49.9)
        run = sense(bfl, deferrable=True)
        run.on_deferral = lambda deferral: bfl.simulator.set_credits(60)

        assert run.attempt() == {"credits": 60.0}
        assert len(run.deferrals) == 1
        assert run.events == [{"status": "enough"}]

    def test_that_is_too_low_is_waited_for_in_the_worker(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        bfl.simulator.set_credits(10)
        asked: list[float] = []
        really_ask = BflCreditsSensor.poke

        def poke(self: BflCreditsSensor, context: Any) -> Any:
            asked.append(1)
            if len(asked) == 3:
                bfl.simulator.set_credits(70)
            return really_ask(self, context)

        monkeypatch.setattr(BflCreditsSensor, "poke", poke)

        assert sense(bfl, deferrable=False).attempt() == {"credits": 70.0}
        assert len(asked) == 3

    def test_that_was_spent_again_meanwhile_is_waited_for_further(self, bfl: World) -> None:
        bfl.simulator.set_credits(10)
        run = sense(bfl, deferrable=True)

        def on_deferral(deferral: Any) -> Any:
            if len(run.deferrals) == 1:
                return {"status": "enough"}  # and somebody spent them before the task was back
            bfl.simulator.set_credits(60)
            return None

        run.on_deferral = on_deferral

        assert run.attempt() == {"credits": 60.0}
        assert len(run.deferrals) == 2
        assert len({deferral.kwargs["deadline"] for deferral in run.deferrals}) == 1

    def test_costs_nothing_to_ask_for(self, bfl: World, deferrable: bool) -> None:
        sense(bfl, deferrable=deferrable).attempt()
        assert bfl.posts_received == 0


class TestAWaitThatIsTooLong:
    def test_fails(self, bfl: World) -> None:
        bfl.simulator.set_credits(10)
        with pytest.raises(BflTimeoutError, match="fewer than 50 credits"):
            sense(bfl, deferrable=True, timeout=0.2).attempt()

    def test_may_skip(self, bfl: World) -> None:
        bfl.simulator.set_credits(10)
        with pytest.raises(AirflowSkipException):
            sense(bfl, deferrable=True, timeout=0.2, soft_fail=True).attempt()


class TestTrouble:
    def test_of_the_service_is_waited_out(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("credits", times=3, status=503)
        assert sense(bfl, deferrable=deferrable).attempt()["credits"] >= 50

    def test_with_the_key_is_an_error(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("credits", times=None, status=403)
        with pytest.raises(BflAuthenticationError):
            sense(bfl, deferrable=deferrable).attempt()

    def test_in_the_triggerer_resumes_the_task(self, bfl: World) -> None:
        from airflow_provider_bfl.triggers.credits import BflCreditsTrigger

        trigger = BflCreditsTrigger(
            min_credits=1, bfl_conn_id="no_such_connection", deadline=0.0, poll_interval=1.0, not_before=0.0
        )
        assert only_event(trigger) == {"status": "error"}


class TestTheTrigger:
    def test_holds_no_credential(self, bfl: World) -> None:
        bfl.simulator.set_credits(10)
        run = sense(bfl, deferrable=True, timeout=0.2)
        with pytest.raises(BflTimeoutError):
            run.attempt()

        assert CANARY_KEY not in json.dumps(run.deferrals[0].kwargs)

    def test_gives_the_task_time_to_leave_its_worker(self, bfl: World) -> None:
        bfl.simulator.set_credits(10)
        run = sense(bfl, deferrable=True)
        run.on_deferral = lambda deferral: bfl.simulator.set_credits(60)
        run.attempt()

        (deferral,) = run.deferrals
        assert deferral.kwargs["not_before"] - deferral.at == pytest.approx(5.0, abs=1.0)
        assert deferral.timeout is not None
        assert deferral.timeout.total_seconds() > 100


class TestArguments:
    def test_a_template_is_judged_when_it_is_rendered(self, bfl: World) -> None:
        bfl.simulator.set_credits(60)
        assert sense(bfl, min_credits="50").attempt() == {"credits": 60.0}
        with pytest.raises(BflConfigError, match="min_credits"):
            sense(bfl, min_credits="plenty").attempt()

    @pytest.mark.parametrize("arguments", [{"min_credits": -1}, {"poll_interval": 0}])
    def test_that_cannot_be_used_are_refused_when_the_dag_is_parsed(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(BflConfigError, match=next(iter(arguments))):
            BflCreditsSensor(task_id="c", **{"min_credits": 5, **arguments})

    def test_rescheduling_frees_the_worker_too(self, bfl: World, log: LogRecorder) -> None:
        bfl.simulator.set_credits(10)
        run = sense(bfl, mode="reschedule", poll_interval=60)
        with pytest.raises((AirflowRescheduleException, Exception)) as raised:
            run.attempt()
        assert "Timeout" not in type(raised.value).__name__
