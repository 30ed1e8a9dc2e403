# SPDX-License-Identifier: Apache-2.0
"""A user ends a task while its generation goes on at BFL."""

from __future__ import annotations

import pytest

from demo.airflow_api import wait_until
from tests.live.conftest import Stack
from tests.live.test_generations import RUN_SECONDS, start

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

DAG_ID = "live_deferrable"


class TestMarkedFailedWhileDeferred:
    def test_it_says_what_goes_on_and_a_clear_reattaches_without_paying(self, stack: Stack) -> None:
        posts = stack.simulator.ledger.posts
        stack.simulator.fault("task", stuck=True)
        run_id = start(stack, DAG_ID)
        api = stack.airflow.api
        wait_until(
            lambda: api.task_instance(DAG_ID, run_id, "generate")["state"] == "deferred", RUN_SECONDS, "the deferral"
        )
        generation_id = api.xcom(DAG_ID, run_id, "generate", "id")

        def polls() -> int:
            return sum(generation_id in row.path for row in stack.simulator.ledger.of_role("poll"))

        # Airflow tells a trigger that its task was killed only once it runs; a deferred task polls nowhere else.
        polls_of_worker = polls()
        wait_until(lambda: polls() > polls_of_worker, RUN_SECONDS, "a poll by the trigger")
        api.set_task_state(DAG_ID, run_id, "generate", "failed")

        said = f"generation {generation_id} cannot be cancelled"
        logs = stack.airflow.home / "logs" / f"dag_id={DAG_ID}"
        wait_until(lambda: any(said in log.read_text() for log in logs.rglob("*.log")), RUN_SECONDS, said)
        stack.simulator.finish(generation_id)

        api.clear(DAG_ID, run_id, ["generate"])
        run = api.wait_run(DAG_ID, run_id, timeout_seconds=RUN_SECONDS)
        result = api.xcom(DAG_ID, run_id, "generate", "return_value")
        assert run.state == "success"
        assert (result["id"], result["reattached"]) == (generation_id, True)
        assert stack.simulator.ledger.posts - posts == 1
