# SPDX-License-Identifier: Apache-2.0
"""What people and other Dags meet of a generation in a real Airflow 3: links, asset events, a request for approval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.airflow_api import wait_until
from tests.live.conftest import Stack
from tests.live.test_generations import landed_image, run_to_the_end, start

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

DASHBOARD = {"BFL dashboard": "https://dashboard.bfl.ai"}
CONSOLE = "https://console.cloud.google.com/storage/browser"


def links(stack: Stack, dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    """Return the links that have an address, as the UI asks for them."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
    found = stack.airflow.api.call("GET", path, params={"map_index": -1})["extra_links"]
    return {name: url for name, url in found.items() if url}


def executor_reported(stack: Stack, run_id: str, task_id: str) -> bool:
    """Whether the scheduler has been told that a process of the task ended."""
    lines = stack.airflow.component_log("scheduler").read_text(errors="replace").splitlines()
    return any("Received executor event" in line and run_id in line and f"'{task_id}'" in line for line in lines)


class TestTheLinksOfATask:
    def test_are_there_while_it_is_deferred_and_at_its_end(self, stack: Stack) -> None:
        if stack.gcs is None:
            pytest.skip("there is no Google Cloud Storage to land in")
        bucket = stack.gcs.new_bucket()
        stack.simulator.fault("task", prompt="a red fox with a link", stuck=True)
        stack.airflow.api.wait_for_dag("live_links")
        stack.airflow.api.unpause("live_links")
        run_id = stack.airflow.api.trigger("live_links", conf={"bucket": bucket}, run_id="links")

        stack.airflow.api.wait_task("live_links", run_id, "generate", {"deferred"}, timeout_seconds=120)
        place = {"Stored object": f"{CONSOLE}/{bucket}/links/"}
        wait_until(lambda: links(stack, "live_links", run_id, "generate") == DASHBOARD | place, 60, "both links")
        stack.simulator.finish(stack.airflow.api.xcom("live_links", run_id, "generate", key="id"))
        run_to_the_end(stack, "live_links", run_id)

        key = stack.airflow.api.xcom("live_links", run_id, "generate")["uri"].removeprefix(f"gs://{bucket}/")
        landed = {"Stored object": f"{CONSOLE}/_details/{bucket}/{key}"}
        assert links(stack, "live_links", run_id, "generate") == DASHBOARD | landed


class TestAnAssetOfATask:
    def test_starts_the_dag_that_waits_for_it_and_tells_it_the_facts(self, stack: Stack) -> None:
        api = stack.airflow.api
        api.wait_for_dag("bfl_hero_image_published")
        api.unpause("bfl_hero_image_published")
        run_id = start(stack, "bfl_hero_image")
        run_to_the_end(stack, "bfl_hero_image", run_id)
        result = api.xcom("bfl_hero_image", run_id, "generate")
        started: list[dict[str, Any]] = []

        def is_started() -> bool:
            started[:] = api.call("GET", "/dags/bfl_hero_image_published/dagRuns")["dag_runs"]
            return bool(started)

        wait_until(is_started, 120, "a run of the Dag that waits for the asset")
        (published,) = started
        api.wait_run("bfl_hero_image_published", published["dag_run_id"], timeout_seconds=120)

        facts = {name: result[name] for name in ("id", "uri", "model", "seed", "cost", "sha256")}
        assert api.xcom("bfl_hero_image_published", published["dag_run_id"], "publish") == [facts]
        events = api.call("GET", "/assets/events", params={"source_dag_id": "bfl_hero_image"})["asset_events"]
        assert [event["extra"] for event in events] == [facts]
        landed_image(result["uri"])


class TestAPersonsApproval:
    @pytest.mark.parametrize(("answer", "publishes"), [("Approve", True), ("Reject", False)])
    def test_decides_whether_the_picture_is_published(self, stack: Stack, answer: str, publishes: bool) -> None:
        api, dag_id = stack.airflow.api, "bfl_human_approval"
        run_id = start(stack, dag_id)
        asked = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve"
        # "deferred" before Airflow 3.3
        api.wait_task(dag_id, run_id, "approve", {"awaiting_input", "deferred"}, timeout_seconds=180)
        result = api.xcom(dag_id, run_id, "generate")
        assert result["uri"] in api.call("GET", f"{asked}/-1/hitlDetails")["body"]

        # Airflow fails a task that goes on before its executor has reported that its former process ended.
        wait_until(lambda: executor_reported(stack, run_id, "approve"), 120, "the executor's report")
        api.call("PATCH", f"{asked}/-1/hitlDetails", body={"chosen_options": [answer], "params_input": {}})
        api.wait_run(dag_id, run_id, timeout_seconds=120)

        states = {each["task_id"]: each["state"] for each in api.task_instances(dag_id, run_id)}
        assert states == {"generate": "success", "approve": "success", "publish": "success" if publishes else "skipped"}
        published = stack.landed / "published" / Path(result["uri"]).name
        assert published.exists() is publishes
