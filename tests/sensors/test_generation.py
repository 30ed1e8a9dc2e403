# SPDX-License-Identifier: Apache-2.0
"""The sensor waits for a generation somebody else submitted."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowSkipException, PokeReturnValue

from airflow_provider_bfl.api import polling
from airflow_provider_bfl.exceptions import (
    BflAuthenticationError,
    BflConfigError,
    BflContentModeratedError,
    BflGenerationFailedError,
    BflModeratedError,
    BflTaskNotFoundError,
    BflTimeoutError,
    BflUntrustedUrlError,
)
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from tests.airflow_fixtures import LogRecorder, TaskInstance, World


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look in the worker, two seconds otherwise, is over soon."""
    monkeypatch.setattr("airflow_provider_bfl.operators.waiting.FIRST_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("airflow_provider_bfl.operators.waiting._RESUME_WAIT_SECONDS", 0.1)


def sense(bfl: World, polling_url: Any, **arguments: Any) -> Any:
    return bfl.run(BflGenerationSensor, **{"polling_url": polling_url, "poll_interval": 0.02, **arguments})


class TestAGenerationThatBecomesReady:
    def test_is_waited_for(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("task", latency_seconds=0.5)
        submitted = bfl.submit()
        run = sense(bfl, submitted["polling_url"], deferrable=deferrable)

        result = run.attempt()

        (task,) = bfl.simulator.ledger.tasks
        assert (result["id"], result["status"], result["seed"]) == (task.id, "Ready", task.seed)
        assert set(result) == {"id", "status", "seed", "cost"}
        assert bool(run.deferrals) is deferrable
        assert bfl.posts_received == 1

    def test_needs_no_deferral_where_it_is_ready_already(self, bfl: World) -> None:
        submitted = bfl.submit()
        time.sleep(0.1)
        run = sense(bfl, submitted["polling_url"], deferrable=True)

        assert run.attempt()["status"] == "Ready"
        assert run.deferrals == []

    def test_can_be_sensed_again(self, bfl: World, deferrable: bool) -> None:
        run = sense(bfl, bfl.submit()["polling_url"], deferrable=deferrable)

        assert run.attempt() == run.attempt()
        assert bfl.posts_received == 1


class TestADeferral:
    @pytest.fixture
    def slow(self, bfl: World) -> dict[str, Any]:
        bfl.simulator.fault("task", stuck=True)
        return bfl.submit()

    def test_takes_its_deadline_along(self, bfl: World, slow: dict[str, Any]) -> None:
        run = sense(bfl, slow["polling_url"], deferrable=True, timeout=0.6)
        run.on_deferral = lambda deferral: {"status": "Pending"}

        with pytest.raises(BflTimeoutError):
            run.attempt()

        assert len({deferral.method_kwargs["deadline"] for deferral in run.deferrals}) == 1
        assert {deferral.method_kwargs["deadline"] for deferral in run.deferrals} == {
            deferral.kwargs["deadline"] for deferral in run.deferrals
        }

    def test_survives_the_loss_of_what_was_deferred(self, bfl: World, slow: dict[str, Any]) -> None:
        bfl.simulator.finish(slow["id"])
        run = sense(bfl, slow["polling_url"], deferrable=True)

        assert run.resume("execute_complete")["status"] == "Ready"

    @pytest.mark.parametrize(
        "event", [{"id": "foreign", "status": "Failed"}, {"status": "timeout"}, {"status": "error"}, {}]
    )
    def test_is_not_decided_by_the_event(self, bfl: World, slow: dict[str, Any], event: dict[str, Any]) -> None:
        run = sense(bfl, slow["polling_url"], deferrable=True)

        def finish_first(deferral: Any) -> Any:
            bfl.simulator.finish(slow["id"])
            return event

        run.on_deferral = finish_first

        assert run.attempt()["status"] == "Ready"

    def test_ends_with_airflows_timeout_later_than_with_ours(self, bfl: World, slow: dict[str, Any]) -> None:
        run = sense(bfl, slow["polling_url"], deferrable=True, timeout=100.0)
        run.on_deferral = lambda deferral: bfl.simulator.finish(slow["id"])

        run.attempt()

        assert run.deferrals[0].timeout.total_seconds() > 160


class TestAGenerationThatEndsBadly:
    def test_fails_the_task(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("task", final_status="Failed")

        with pytest.raises(BflGenerationFailedError):
            sense(bfl, bfl.submit()["polling_url"], deferrable=deferrable).attempt()

    @pytest.mark.parametrize("status", ["Request Moderated", "Content Moderated"])
    def test_is_moderated(self, bfl: World, deferrable: bool, status: str) -> None:
        bfl.simulator.fault("task", final_status=status)
        url = bfl.submit()["polling_url"]

        with pytest.raises(BflModeratedError):
            sense(bfl, url, deferrable=deferrable).attempt()
        with pytest.raises(AirflowSkipException, match="was moderated"):
            sense(bfl, url, deferrable=deferrable, on_moderated="skip").attempt()

    @pytest.mark.parametrize("latency", [0.0, 0.4])
    def test_skips_with_soft_fail(self, bfl: World, deferrable: bool, latency: float) -> None:
        bfl.simulator.fault("task", final_status="Failed", latency_seconds=latency)

        with pytest.raises(AirflowSkipException):
            sense(bfl, bfl.submit()["polling_url"], deferrable=deferrable, soft_fail=True).attempt()

    def test_is_late(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("task", stuck=True)
        url = bfl.submit()["polling_url"]

        with pytest.raises(BflTimeoutError):
            sense(bfl, url, deferrable=deferrable, timeout=0.3).attempt()
        with pytest.raises(AirflowSkipException):
            sense(bfl, url, deferrable=deferrable, timeout=0.3, soft_fail=True).attempt()


class TestRescheduleMode:
    def poke(self, bfl: World, url: str, **arguments: Any) -> Any:
        run = sense(bfl, url, mode="reschedule", **arguments)
        return run.make().poke(run.context)

    def test_asks_once_at_a_time(self, bfl: World) -> None:
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()

        assert not self.poke(bfl, submitted["polling_url"])
        bfl.simulator.finish(submitted["id"])
        done = self.poke(bfl, submitted["polling_url"])

        assert isinstance(done, PokeReturnValue)
        assert done.is_done
        assert done.xcom_value is not None
        assert (done.xcom_value["id"], done.xcom_value["status"]) == (submitted["id"], "Ready")
        assert bfl.simulator.ledger.tasks[0].polls == 2

    @pytest.mark.parametrize("trouble", [{"status": 500}, {"drop": True}])
    def test_asks_again_after_a_failure(self, bfl: World, trouble: dict[str, Any], log: LogRecorder) -> None:
        url = bfl.submit()["polling_url"]
        body = {"body": {"detail": "busy"}} if "status" in trouble else {}
        bfl.simulator.fault("poll", **trouble, **body)

        assert not self.poke(bfl, url)
        assert len(log.about("asking again at the next poke")) == 1

    def test_fails_where_the_generation_did(self, bfl: World) -> None:
        bfl.simulator.fault("task", final_status="Content Moderated")
        url = bfl.submit()["polling_url"]
        time.sleep(0.1)

        with pytest.raises(BflContentModeratedError):
            self.poke(bfl, url)
        with pytest.raises(AirflowSkipException):
            self.poke(bfl, url, on_moderated="skip")

    @pytest.fixture
    def sooner(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What takes half a minute is over soon."""
        monkeypatch.setattr(polling, "MIN_INTERVAL_SECONDS", 0.01)
        monkeypatch.setattr(polling, "NOT_FOUND_GRACE_SECONDS", 0.2)

    @pytest.mark.usefixtures("sooner")
    def test_ends_where_the_key_is_refused_for_good(self, bfl: World) -> None:
        url = bfl.submit()["polling_url"]
        bfl.simulator.fault("poll", status=401, body={"detail": "no"}, times=None)

        with pytest.raises(BflAuthenticationError, match="pays nothing"):
            self.poke(bfl, url)

    @pytest.mark.usefixtures("sooner")
    def test_goes_on_where_the_key_is_refused_once(self, bfl: World) -> None:
        url = bfl.submit()["polling_url"]
        bfl.simulator.fault("poll", status=403, body={"detail": "no"}, times=2)

        assert isinstance(self.poke(bfl, url), PokeReturnValue)

    @pytest.mark.usefixtures("sooner")
    def test_ends_where_bfl_does_not_know_the_generation(self, bfl: World) -> None:
        bfl.simulator.fault("task", hidden_polls=10_000)

        with pytest.raises(BflTaskNotFoundError, match="billed once"):
            self.poke(bfl, bfl.submit()["polling_url"])

    @pytest.mark.usefixtures("sooner")
    def test_goes_on_where_bfl_comes_to_know_it(self, bfl: World) -> None:
        bfl.simulator.fault("task", hidden_polls=4)

        assert isinstance(self.poke(bfl, bfl.submit()["polling_url"]), PokeReturnValue)

    @pytest.mark.usefixtures("sooner")
    def test_gives_its_slot_back_while_all_this_is_not_settled(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_bfl.sensors.generation._SETTLE_SECONDS", 0.1)
        bfl.simulator.fault("task", hidden_polls=2, stuck=True)

        assert self.poke(bfl, bfl.submit()["polling_url"]) is False

    def test_asks_less_often_than_a_wait_unless_told_otherwise(self, bfl: World) -> None:
        assert sense(bfl, "x", mode="reschedule", poll_interval=None).make().poke_interval == 15
        assert sense(bfl, "x", mode="reschedule", poll_interval=3.5).make().poke_interval == 3.5

    @pytest.mark.airflow3
    def test_gives_its_slot_back_and_does_not_defer(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TaskInstance, "get_first_reschedule_date", lambda ti, context: None, raising=False)
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()
        run = sense(bfl, submitted["polling_url"], mode="reschedule", deferrable=True)

        with pytest.raises(AirflowRescheduleException):
            run.attempt()
        bfl.simulator.finish(submitted["id"])

        assert run.attempt()["status"] == "Ready"
        assert run.deferrals == []


class TestThePollingUrl:
    def test_is_a_template_that_reads_the_submits_xcom(self, bfl: World) -> None:
        submit = bfl.generation(wait_for_completion=False, destination=None)
        submit.attempt()
        template = "{{ ti.xcom_pull(task_ids='generate', key='polling_url') }}"
        sensor = sense(bfl, template).make()

        sensor.render_template_fields({"ti": submit.context["ti"]})

        assert sensor.polling_url == submit.xcom["polling_url"]
        assert sensor.execute(submit.context)["status"] == "Ready"

    @pytest.mark.parametrize("mode", ["poke", "reschedule"])
    @pytest.mark.parametrize(
        "url",
        [
            "{canary}/v1/get_result?id=7",
            "https://api.bfl.ai.evil.example/v1/get_result?id=7",
            "https://api.bfl.ai@evil.example/v1/get_result?id=7",
            "http://api.bfl.ai/v1/get_result?id=7",
            "None",
            None,
            "",
        ],
    )
    def test_of_a_stranger_gets_nothing(self, bfl: World, deferrable: bool, url: Any, mode: str) -> None:
        polling_url = url.format(canary=bfl.simulator.canary_url) if url else url
        run = sense(bfl, polling_url, deferrable=deferrable, mode=mode)

        with pytest.raises(BflUntrustedUrlError, match="may not get the API key"):
            run.make().poke(run.context) if mode == "reschedule" else run.attempt()

        assert bfl.simulator.ledger.requests == ()


class TestArguments:
    def test_that_are_none_of_the_choices_are_refused_at_parse(self) -> None:
        with pytest.raises(BflConfigError, match="on_moderated='ignore'"):
            BflGenerationSensor(task_id="wait", polling_url="x", on_moderated="ignore")  # type: ignore[arg-type]
