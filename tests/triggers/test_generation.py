# SPDX-License-Identifier: Apache-2.0
"""The trigger asks, says once how it went, and can do nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from airflow_provider_bfl.hooks.bfl import BflHook
from airflow_provider_bfl.triggers.generation import BflGenerationTrigger
from tests.airflow_fixtures import CANARY_KEY, World, only_event, rebuilt


@pytest.fixture
def submitted(bfl: World) -> dict[str, Any]:
    """A generation that somebody submitted."""
    return bfl.submit()


def trigger_for(submitted: dict[str, Any], **changes: Any) -> BflGenerationTrigger:
    arguments = {
        "polling_url": submitted["polling_url"],
        "bfl_conn_id": "bfl_default",
        "deadline": time.time() + 60,
        "model": submitted["model"],
        "submitted_at": time.time(),
        "poll_interval": 0.02,
        "not_before": 0.0,
    }
    return BflGenerationTrigger(**arguments | changes)


class Clock:
    """Time that passes only in the event loop's sleeps, and then at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        really_now, self._really_sleep = time.time, asyncio.sleep
        monkeypatch.setattr(time, "time", lambda: really_now() + self.passed)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.passed += max(0.0, seconds)
        await self._really_sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class TestWhatTheDatabaseKeeps:
    def test_is_enough_to_go_on_elsewhere(self, submitted: dict[str, Any]) -> None:
        trigger = trigger_for(submitted, not_before=7.0)

        classpath, kwargs = trigger.serialize()
        again = rebuilt(classpath, json.loads(json.dumps(kwargs)))

        assert type(again) is BflGenerationTrigger
        assert again.serialize() == (classpath, kwargs)

    def test_has_no_secret_and_no_signed_url(self, submitted: dict[str, Any]) -> None:
        trigger = trigger_for(submitted)
        only_event(trigger)

        assert CANARY_KEY not in str([trigger.serialize(), vars(trigger), repr(trigger)])
        assert set(trigger.serialize()[1]) == {
            "polling_url",
            "bfl_conn_id",
            "deadline",
            "model",
            "submitted_at",
            "poll_interval",
            "not_before",
        }


class TestTheOneEvent:
    @pytest.mark.parametrize("status", ["Ready", "Error", "Failed", "Request Moderated", "Content Moderated"])
    def test_says_how_the_generation_ended_and_nothing_more(self, bfl: World, status: str) -> None:
        bfl.simulator.fault("task", final_status=status)
        submitted = bfl.submit()

        assert only_event(trigger_for(submitted)) == {"id": submitted["id"], "status": status}

    def test_says_timeout_at_the_deadline(self, bfl: World) -> None:
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()

        event = only_event(trigger_for(submitted, deadline=time.time() + 0.2))

        assert event == {"id": submitted["id"], "status": "timeout"}

    def test_says_unreachable_after_five_failures(self, bfl: World, submitted: dict[str, Any], clock: Clock) -> None:
        bfl.simulator.fault("poll", status=500, body={"detail": "busy"}, times=5)

        assert only_event(trigger_for(submitted))["status"] == "unreachable"
        assert bfl.simulator.ledger.faults_left == 0

    def test_says_task_not_found_only_after_the_grace(self, bfl: World, clock: Clock) -> None:
        bfl.simulator.fault("task", wrong_polling_host=True)
        submitted = bfl.submit()

        assert only_event(trigger_for(submitted, poll_interval=1.0))["status"] == "Task not found"
        assert clock.passed > 29

    def test_rides_out_an_unknown_status(self, bfl: World, submitted: dict[str, Any]) -> None:
        bfl.simulator.fault("poll", status_body="Upscaling", times=3)

        assert only_event(trigger_for(submitted))["status"] == "Ready"


class TestItNeverRaises:
    @pytest.mark.parametrize(
        "changes",
        [
            {"bfl_conn_id": "no_such_connection"},
            {"bfl_conn_id": "bfl_broken"},
            {"polling_url": "https://evil.example/v1/get_result?id=7"},
            {"polling_url": "not a URL"},
            {"polling_url": "https://[broken/v1/get_result?id=7"},
            {"polling_url": ""},
        ],
    )
    def test_but_says_error(
        self, bfl: World, submitted: dict[str, Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_BFL_BROKEN", '{"conn_type": "bfl", "password": "***"}')

        assert only_event(trigger_for(submitted, **changes))["status"] == "error"

    def test_when_the_url_is_a_strangers_who_hears_nothing(self, bfl: World, submitted: dict[str, Any]) -> None:
        url = f"{bfl.simulator.canary_url}/v1/get_result?id=7"

        assert only_event(trigger_for(submitted, polling_url=url)) == {"id": "7", "status": "error"}
        assert bfl.simulator.ledger.of_role("canary") == ()

    def test_when_something_breaks_that_nobody_thought_of(
        self, submitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(BflHook, "async_client", broken)

        assert only_event(trigger_for(submitted))["status"] == "error"

    async def test_but_lets_a_cancellation_through(self, bfl: World) -> None:
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()
        wait = asyncio.create_task(trigger_for(submitted)._wait())
        await asyncio.sleep(0.2)

        wait.cancel()

        with pytest.raises(asyncio.CancelledError):
            await wait


class TestTheFirstEvent:
    def test_comes_five_seconds_after_the_deferral_at_the_soonest(
        self, bfl: World, submitted: dict[str, Any], clock: Clock
    ) -> None:
        trigger = trigger_for(submitted, not_before=None)

        assert only_event(trigger)["status"] == "Ready"

        assert clock.passed >= 4.9

    @pytest.mark.parametrize("trouble", [{"bfl_conn_id": "no_such_connection"}, {"polling_url": "not a URL"}])
    def test_comes_no_sooner_when_it_is_an_error(
        self, submitted: dict[str, Any], clock: Clock, trouble: dict[str, Any]
    ) -> None:
        assert only_event(trigger_for(submitted, not_before=None, **trouble))["status"] == "error"

        assert clock.passed >= 4.9

    def test_is_not_delayed_again_in_another_triggerer(self, submitted: dict[str, Any], clock: Clock) -> None:
        classpath, kwargs = trigger_for(submitted, not_before=None).serialize()
        clock.passed = 100.0

        only_event(rebuilt(classpath, kwargs))

        assert clock.passed < 102


class TestRunningTwice:
    def test_one_after_the_other_says_the_same_and_pays_nothing(self, bfl: World, submitted: dict[str, Any]) -> None:
        classpath, kwargs = trigger_for(submitted).serialize()

        events = [only_event(rebuilt(classpath, kwargs)) for _ in range(2)]

        assert events[0] == events[1]
        assert bfl.posts_received == 1

    async def test_at_the_same_time_does_too(self, bfl: World, submitted: dict[str, Any]) -> None:
        async def drain(trigger: BflGenerationTrigger) -> list[Any]:
            return [event.payload async for event in trigger.run()]

        first, second = await asyncio.gather(*(drain(trigger_for(submitted)) for _ in range(2)))

        assert first == second == [{"id": submitted["id"], "status": "Ready"}]
        assert bfl.posts_received == 1


class TestTheDeadline:
    def test_is_absolute_and_not_extended_by_a_move(self, bfl: World, clock: Clock) -> None:
        bfl.simulator.fault("task", stuck=True)
        classpath, kwargs = trigger_for(bfl.submit(), deadline=time.time() + 600, poll_interval=5.0).serialize()
        clock.passed += 500
        begun = clock.passed

        assert only_event(rebuilt(classpath, kwargs))["status"] == "timeout"
        assert clock.passed - begun < 120

    def test_that_has_passed_still_allows_one_question(self, bfl: World, submitted: dict[str, Any]) -> None:
        time.sleep(0.1)

        assert only_event(trigger_for(submitted, deadline=time.time() - 1))["status"] == "Ready"


class TestTheConnection:
    def test_is_never_read_with_a_blocking_call_in_the_loop(
        self, submitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        really_get = BflHook.get_connection

        def get_connection(conn_id: str) -> Any:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return really_get(conn_id)

        monkeypatch.setattr(BflHook, "get_connection", staticmethod(get_connection))

        assert only_event(trigger_for(submitted))["status"] == "Ready"


class TestTheSession:
    @pytest.fixture
    def sessions(self, monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
        opened: list[aiohttp.ClientSession] = []
        really_init = aiohttp.ClientSession.__init__

        def init(session: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> None:
            really_init(session, *args, **kwargs)
            opened.append(session)

        monkeypatch.setattr(aiohttp.ClientSession, "__init__", init)
        return opened

    def test_is_one_for_all_polls_and_closed_at_the_end(
        self, bfl: World, submitted: dict[str, Any], sessions: list[aiohttp.ClientSession]
    ) -> None:
        bfl.simulator.fault("poll", status_body="Pending", times=5)

        only_event(trigger_for(submitted))

        assert [session.closed for session in sessions] == [True]
        assert bfl.simulator.ledger.tasks[0].polls >= 6

    def test_is_closed_after_an_error(
        self, bfl: World, submitted: dict[str, Any], sessions: list[aiohttp.ClientSession]
    ) -> None:
        only_event(trigger_for(submitted, polling_url=f"{bfl.simulator.canary_url}/?id=7"))

        assert [session.closed for session in sessions] == [True]

    async def test_is_closed_on_cancellation(self, bfl: World, sessions: list[aiohttp.ClientSession]) -> None:
        bfl.simulator.fault("task", stuck=True)
        wait = asyncio.create_task(trigger_for(bfl.submit())._wait())
        await asyncio.sleep(0.2)
        wait.cancel()
        await asyncio.wait([wait])

        assert [session.closed for session in sessions] == [True]


class TestPolling:
    def test_asks_only_the_host_the_url_names(self, bfl: World) -> None:
        for _ in range(2):
            only_event(trigger_for(bfl.submit()))

        ledger = bfl.simulator.ledger
        asked = {(row.host, row.path.partition("id=")[2]) for row in ledger.requests if row.method == "GET"}
        assert asked == {(task.region, task.id) for task in ledger.tasks}
        assert {row.role for row in ledger.requests if row.method == "GET"} == {"poll"}

    def test_adapts_to_the_model_unless_told_otherwise(self, bfl: World, clock: Clock) -> None:
        bfl.simulator.fault("task", latency_seconds=12.0)
        submitted = bfl.submit()

        only_event(trigger_for(submitted, poll_interval=None))

        assert bfl.simulator.ledger.tasks[0].polls <= 5
        assert clock.passed < 12 * 1.2
