# SPDX-License-Identifier: Apache-2.0
"""Generations in a real Airflow 3: what a user sees, what a crash does, what stays secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from demo.airflow_api import FinishedRun, wait_until
from tests.live import evidence
from tests.live.conftest import CANARY_KEY, Stack

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

RUN_SECONDS = 120


def run_to_the_end(stack: Stack, dag_id: str, run_id: str) -> FinishedRun:
    run = stack.airflow.api.wait_run(dag_id, run_id, timeout_seconds=RUN_SECONDS)
    assert run.state == "success", stack.airflow.api.log(dag_id, run_id, "generate")
    return run


def start(stack: Stack, dag_id: str) -> str:
    stack.airflow.api.wait_for_dag(dag_id)
    stack.airflow.api.unpause(dag_id)
    return stack.airflow.api.trigger(dag_id)


def landed_image(uri: str) -> Path:
    path = Path(uri.removeprefix("file://"))
    with Image.open(path) as image:
        image.verify()
    assert json.loads(Path(f"{path}.json").read_text())["uri"] == uri
    return path


class TestThreeTasks:
    """Submit, deferrable sensor and transfer, as a user writes them."""

    def test_the_sensor_is_deferred_and_the_image_lands_for_one_post(self, stack: Stack) -> None:
        before = stack.simulator.ledger
        run_id = start(stack, "live_three_tasks")
        states: set[str] = set()
        kwargs: list[str] = []

        def deferred() -> bool:
            rows = stack.query(
                "select ti.state, t.kwargs from task_instance ti left join trigger t on t.id = ti.trigger_id "
                "where ti.run_id = ? and ti.task_id = 'wait'",
                run_id,
            )
            states.update(state for state, _ in rows if state)
            kwargs.extend(text for _, text in rows if text)
            return "deferred" in states and bool(kwargs)

        wait_until(deferred, RUN_SECONDS, "the sensor to be deferred", interval_seconds=0.1)
        running = stack.query("select count(*) from task_instance where state = 'running' and run_id = ?", run_id)
        assert running == [(0,)], "a deferred sensor holds no worker slot"
        trigger_row = kwargs[0]
        polling_url = stack.airflow.api.xcom("live_three_tasks", run_id, "submit", "polling_url")
        assert polling_url in trigger_row
        assert CANARY_KEY not in trigger_row

        run_to_the_end(stack, "live_three_tasks", run_id)
        stored = stack.airflow.api.xcom("live_three_tasks", run_id, "store", "return_value")
        submitted = stack.airflow.api.xcom("live_three_tasks", run_id, "submit", "return_value")
        landed_image(stored["uri"])
        assert (stored["id"], stored["cost"], stored["model"]) == (submitted["id"], 3.0, "flux-2-pro")
        after = stack.simulator.ledger
        assert after.posts - before.posts == 1
        poll_hosts = {
            row.host for row in after.of_role("poll")[len(before.of_role("poll")) :] if submitted["id"] in row.path
        }
        assert len(poll_hosts) == 1, "only the host that the polling URL names is asked"


class TestKilledWorker:
    """The process dies after the POST was paid for; the next try goes on with the same generation."""

    @pytest.mark.parametrize("dag_id", ["live_worker", "live_deferrable"])
    @pytest.mark.parametrize("supervisor", [False, True], ids=["task killed", "task and supervisor killed"])
    def test_the_retry_reattaches_and_pays_nothing(self, stack: Stack, dag_id: str, supervisor: bool) -> None:
        posts = stack.simulator.ledger.posts
        run_id = start(stack, dag_id)
        api = stack.airflow.api
        wait_until(lambda: "reattached" in api.xcom_keys(dag_id, run_id, "generate"), RUN_SECONDS, "the submit")
        generation_id = api.xcom(dag_id, run_id, "generate", "id")
        stack.airflow.kill_task(dag_id, run_id, "generate", supervisor=supervisor)

        run_to_the_end(stack, dag_id, run_id)
        result = api.xcom(dag_id, run_id, "generate", "return_value")
        assert stack.simulator.ledger.posts - posts == 1
        assert result["id"] == generation_id
        assert (result["reattached"], result["possibly_billed_twice"]) == (True, False)
        landed_image(result["uri"])
        assert len(api.tries(dag_id, run_id, "generate")) == 2
        assert "Re-attached to generation" in api.log(dag_id, run_id, "generate", try_number=2)


class TestClearedTask:
    """Clearing a task that has succeeded."""

    def test_it_lands_nothing_and_pays_nothing_again(self, stack: Stack) -> None:
        run_id = start(stack, "live_worker")
        run_to_the_end(stack, "live_worker", run_id)
        first = stack.airflow.api.xcom("live_worker", run_id, "generate", "return_value")
        requests = len(stack.simulator.ledger.requests)
        stack.airflow.api.clear("live_worker", run_id, ["generate"])
        run_to_the_end(stack, "live_worker", run_id)
        second = stack.airflow.api.xcom("live_worker", run_id, "generate", "return_value")
        assert second == {**first, "reattached": True}
        assert len(stack.simulator.ledger.requests) == requests, "the object is there, so BFL is not even asked"


class TestModeratedGeneration:
    """BFL refuses the content."""

    def test_it_fails_once_with_the_reason_and_without_a_charge(self, stack: Stack) -> None:
        before = stack.simulator.ledger
        stack.simulator.fault("task", final_status="Request Moderated", details={"Moderation Reasons": ["Violence"]})
        run_id = start(stack, "live_moderated")
        run = stack.airflow.api.wait_run("live_moderated", run_id, timeout_seconds=RUN_SECONDS)
        assert run.state == "failed"
        log = stack.airflow.api.log("live_moderated", run_id, "generate")
        assert "was moderated" in log
        assert "Violence" in log
        assert "does not charge" in log
        assert stack.simulator.ledger.spent == before.spent


class TestSecretsOfTheWholeRun:
    """Runs last in this file: what the kills above left is searched; the rest is ``test_canary``'s."""

    def test_neither_key_nor_signature_was_written_anywhere(self, stack: Stack) -> None:
        assert stack.simulator.ledger.of_role("delivery"), "something was downloaded, so there was a signature"
        written = [*evidence.files(stack), evidence.database(stack)]
        assert any(b"Re-attached to generation" in each.content for each in written)
        assert evidence.holding({CANARY_KEY} | evidence.minted_signatures(stack.simulator), written) == []
        assert evidence.signed(written) == []

    def test_the_key_reached_bfl_alone(self, stack: Stack) -> None:
        assert stack.simulator.ledger.leaks == ()
