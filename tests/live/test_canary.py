# SPDX-License-Identifier: Apache-2.0
"""One run of everything, well and badly; then every place Airflow writes to is searched for what must not be there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import evidence
from tests.live.conftest import CANARY_KEY, Stack
from tests.live.evidence import Writing
from tests.storage_servers import S3Server

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

DAG_ID = "live_canary"
PROMPT = "CANARYprompt"
WEBHOOK_SECRET = "CANARY-webhook-word"
RUN_SECONDS = 200

#: How each task ends, and words of its log: what is not reached proves nothing.
ENDS = {
    "sync": ("success", "Landed generation"),
    "deferred": ("success", "Landed generation"),
    "decorated": ("success", "Landed generation"),
    "webhook": ("success", "Submitted generation"),
    "submit": ("success", "Submitted generation"),
    "sensor": ("success", "Ready"),
    "sensor_deferred": ("success", "Ready"),
    "to_files": ("success", "Landed generation"),
    "to_s3": ("success", "Landed generation"),
    "key_echoed_at_submit": ("failed", "answered the POST to flux-pro-1.1 with 403: Key *** is not allowed"),
    "key_echoed_at_poll": ("failed", "HTTP 401: Key *** is not allowed"),
    "moderated": ("failed", "was moderated"),
    "moderated_deferred": ("failed", "was moderated"),
    "expired": ("failed", "its signed URL had expired"),
    "redirected": ("failed", "may not be downloaded from"),
    "cut_download": ("failed", "could not be had whole"),
    "nowhere_to_store": ("failed", "could not be stored"),
    "no_bucket": ("failed", "could not be stored"),
    "lost_answer": ("success", "possibly_billed_twice"),
    "stranger": ("success", ""),
    "untrusted_sensor": ("failed", "may not get the API key"),
    "untrusted_sensor_deferred": ("failed", "may not get the API key"),
    "untrusted_transfer": ("failed", "may not get the API key"),
}


@dataclass(frozen=True)
class Ran:
    """The finished run."""

    run_id: str
    states: dict[str, str]


@pytest.fixture(scope="module")
def ran(stack: Stack, _s3_process: S3Server) -> Ran:
    api, simulator = stack.airflow.api, stack.simulator
    echo = {"status": 403, "body": {"detail": f"Key {CANARY_KEY} is not allowed"}, "headers": {"x-echo": CANARY_KEY}}
    simulator.fault("submit", model="flux-pro-1.1", times=None, **echo)
    simulator.fault("poll", prompt="key_echoed_at_poll", times=None, **(echo | {"status": 401}))
    simulator.fault("submit", model="flux-dev", accept=True, drop=True)
    moderated = {"final_status": "Content Moderated", "details": {"Reasons": ["Gore"]}}
    simulator.fault("task", prompt="moderated", times=2, **moderated)
    simulator.fault("delivery", prompt="expired", times=None, expired=True)
    stolen = f"{simulator.canary_url}/x?se=1&sig=CANARYredirectsignature"
    simulator.fault("delivery", prompt="redirected", times=None, redirect_to=stolen)
    simulator.fault("delivery", prompt="cut_download", times=None, cut_after=0.5)
    api.call("POST", "/variables", body={"key": "bfl_word", "value": WEBHOOK_SECRET})
    conf = {"canary": simulator.canary_url, "bucket": _s3_process.new_bucket()}
    if stack.gcs is not None:
        conf["gcs_bucket"] = stack.gcs.new_bucket()
    api.wait_for_dag(DAG_ID)
    api.unpause(DAG_ID)
    run_id = api.trigger(DAG_ID, conf=conf)
    api.wait_run(DAG_ID, run_id, timeout_seconds=RUN_SECONDS)
    simulator.clear_faults()
    states = {each["task_id"]: each["state"] for each in api.task_instances(DAG_ID, run_id)}
    return Ran(run_id, states)


@pytest.fixture(scope="module")
def written(stack: Stack, ran: Ran) -> list[Writing]:
    answers = evidence.rest_answers(stack, DAG_ID, ran.run_id)
    return [*evidence.files(stack), evidence.database(stack), *answers]


class TestTheRunReachedWhatItIsFor:
    @pytest.mark.parametrize("task_id", ENDS)
    def test_every_task_ended_as_it_should(self, stack: Stack, ran: Ran, task_id: str) -> None:
        state, words = ENDS[task_id]
        tries = stack.airflow.api.task_instance(DAG_ID, ran.run_id, task_id)["try_number"]
        log = stack.airflow.api.log(DAG_ID, ran.run_id, task_id, try_number=tries)
        assert ran.states[task_id] == state, log
        assert words in log

    def test_the_bucket_of_google_too(self, stack: Stack, ran: Ran) -> None:
        assert ran.states.get("to_gcs") == ("success" if stack.gcs else None)

    def test_everything_that_is_searched_is_there(self, stack: Stack, ran: Ran, written: list[Writing]) -> None:
        names = " ".join(each.name for each in written)
        components = ("api-server.log", "scheduler.log", "triggerer.log", "dag-processor.log")
        for part in (*components, "task_id=expired", "lineage", "/links", "/xcomEntries/polling_url"):
            assert part in names
        assert "/v1/get_result?id=" in evidence.database(stack).content.decode()
        assert evidence.holding({PROMPT}, [evidence.database(stack)]), "rendered fields are in the dump"
        assert len(evidence.minted_signatures(stack.simulator)) >= 5

    def test_openlineage_told_of_every_task(self, stack: Stack, ran: Ran) -> None:
        events = [json.loads(line) for path in _lineage(stack) for line in path.read_text().splitlines()]
        told = {event["job"]["name"].removeprefix(f"{DAG_ID}.") for event in events}
        assert told >= set(ENDS)

    def test_openlineage_told_of_what_landed(self, stack: Stack, ran: Ran) -> None:
        events = [json.loads(line) for path in _lineage(stack) for line in path.read_text().splitlines()]
        for task_id in ("sync", "deferred", "decorated", "to_files", "to_s3"):
            told = [each for each in events if each["job"]["name"] == f"{DAG_ID}.{task_id}" and each["outputs"]]
            ends = [each for each in told if each["eventType"] == "COMPLETE"]
            result = stack.airflow.api.xcom(DAG_ID, ran.run_id, task_id)
            assert {each["run"]["facets"]["bfl_generation"]["sha256"] for each in ends} == {result["sha256"]}, task_id

    def test_the_outlets_told_of_what_landed(self, stack: Stack, ran: Ran) -> None:
        events = stack.airflow.api.call("GET", "/assets/events", params={"source_dag_id": DAG_ID, "limit": 100})
        uris = {
            stack.airflow.api.xcom(DAG_ID, ran.run_id, task_id)["uri"] for task_id in ("sync", "deferred", "to_files")
        }
        told = [(each["uri"], each["extra"].get("uri")) for each in events["asset_events"]]
        assert {facts for place, facts in told if place == "s3://live/canary"} == uris
        assert {place for place, facts in told if place == facts} == uris


class TestNothingWasWrittenDown:
    def test_of_the_key(self, written: list[Writing]) -> None:
        assert evidence.holding({CANARY_KEY}, written) == []

    def test_of_the_signatures_of_the_results(self, stack: Stack, written: list[Writing]) -> None:
        assert evidence.holding(evidence.minted_signatures(stack.simulator), written) == []

    def test_of_anything_that_looks_like_a_signature(self, written: list[Writing]) -> None:
        assert evidence.signed(written) == []

    def test_of_the_webhooks_secret(self, written: list[Writing]) -> None:
        assert evidence.holding({WEBHOOK_SECRET}, written) == []

    def test_of_the_prompt_in_an_asset_event_or_in_the_lineage_of_a_generation(self, stack: Stack, ran: Ran) -> None:
        events = stack.airflow.api.call("GET", "/assets/events", params={"source_dag_id": DAG_ID, "limit": 100})
        assert PROMPT not in json.dumps(events)
        lines = [json.loads(line) for path in _lineage(stack) for line in path.read_text().splitlines()]
        ours = [(each["inputs"], each["outputs"], each["run"]["facets"].get("bfl_generation")) for each in lines]
        assert PROMPT not in json.dumps(ours)

    def test_of_the_prompt_in_a_log(self, stack: Stack, ran: Ran) -> None:
        assert evidence.holding({PROMPT}, evidence.logs(stack)) == []


class TestNothingWasSent:
    def test_to_a_host_that_is_none_of_bfls(self, stack: Stack, ran: Ran) -> None:
        assert stack.simulator.ledger.leaks == ()
        assert [row.path for row in stack.simulator.ledger.of_role("canary") if row.path != "/hook"] == []


def _lineage(stack: Stack) -> list[Path]:
    return [path for path in (stack.airflow.home / "lineage").rglob("*") if path.is_file()]
