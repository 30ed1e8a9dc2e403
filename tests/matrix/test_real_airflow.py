# SPDX-License-Identifier: Apache-2.0
"""A real scheduler, triggerer and API server of this Airflow: generations in each form, and the connection form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from packaging.version import Version
from PIL import Image

from airflow_provider_bfl.simulator import Simulator
from demo.airflow_api import FinishedRun, StateChange
from demo.local_airflow import LocalAirflow
from tests.airflow_fixtures import CANARY_KEY
from tests.matrix.form import FormField, shown_form

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

DAGS = ("matrix_sync", "matrix_deferrable", "matrix_killed", "matrix_three_tasks")
RUN_SECONDS = 400

RELEASE = Version(version("apache-airflow")).release[:2]

#: Airflow keeps the record itself; before, it is a file below ``[bfl] journal_path``.
HAS_STATE_STORE = RELEASE >= (3, 3)

#: Airflow 3.0 fails a task whose process was killed, whatever its ``retries``.
RETRIES_THE_KILLED = RELEASE != (3, 0)

#: What every Airflow writes into the log of a task that goes to the triggerer.
DEFERRED = "as DEFERRED"


@dataclass(frozen=True)
class Ran:
    """
    The finished runs, and what BFL saw of them.

    :param journal: The directory of ``[bfl] journal_path``.
    """

    journal: Path
    airflow: LocalAirflow
    simulator: Simulator
    runs: dict[str, FinishedRun]
    posts: int

    def result(self, dag_id: str, task_id: str = "generate") -> dict[str, Any]:
        """Return what a task returned; the run has succeeded, or its logs are shown."""
        run = self.runs[dag_id]
        assert run.state == "success", self.log(dag_id, "*")
        result: dict[str, Any] = self.airflow.api.xcom(dag_id, run.run_id, task_id)
        return result

    def log(self, dag_id: str, task_id: str = "generate") -> str:
        """Return the log of all tries."""
        found = sorted(self.airflow.home.glob(f"logs/dag_id={dag_id}/*/task_id={task_id}/**/*.log"))
        return "\n".join(path.read_text(errors="replace") for path in found)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("matrix")
    environment = {
        "MATRIX_DESTINATION": f"file://{root}/landed/",
        "AIRFLOW__BFL__JOURNAL_PATH": f"file://{root}/journal",
    }
    with (
        Simulator(latency_scale=0.5, jitter=0.0) as simulator,
        LocalAirflow(root / "airflow", dags_folder=Path(__file__).parent / "dags", environment=environment) as airflow,
    ):
        api = airflow.api
        api.put_connection("bfl_default", **simulator.connection(api_key=CANARY_KEY))
        for dag_id in DAGS:
            api.wait_for_dag(dag_id, timeout_seconds=RUN_SECONDS)
            api.unpause(dag_id)
        # On a slow machine it would be ready when the sensor looks first, and nothing be left to wait for.
        simulator.fault("task", prompt="three tasks", stuck=True)
        started = {dag_id: api.trigger(dag_id) for dag_id in DAGS}

        def release(change: StateChange) -> None:
            if (change.task_id, change.state) == ("wait", "deferred"):
                simulator.finish(api.xcom("matrix_three_tasks", started["matrix_three_tasks"], "submit", "id"))

        runs = {
            dag_id: api.wait_run(dag_id, run_id, timeout_seconds=RUN_SECONDS, on_change=release)
            for dag_id, run_id in started.items()
        }
        if not RETRIES_THE_KILLED:
            assert runs["matrix_killed"].state == "failed"
            api.clear("matrix_killed", started["matrix_killed"], ["generate"])
            runs["matrix_killed"] = api.wait_run("matrix_killed", started["matrix_killed"], timeout_seconds=RUN_SECONDS)
        yield Ran(root / "journal", airflow, simulator, runs, simulator.ledger.posts)


def recorded(ran: Ran, dag_id: str, task_id: str) -> str:
    """Return the id of the generation that this Airflow keeps the record of."""
    if HAS_STATE_STORE:
        path = f"/dags/{dag_id}/dagRuns/{quote(ran.runs[dag_id].run_id, safe='')}/taskInstances/{task_id}/state-store"
        (record,) = [each["value"] for each in ran.airflow.api.call("GET", path)["task_state_store"]]
    else:
        kept = [json.loads(path.read_text()) for path in ran.journal.glob("*.json")]
        task = {"dag_id": dag_id, "run_id": ran.runs[dag_id].run_id, "task_id": task_id, "map_index": -1}
        (record,) = [each["record"] for each in kept if each["task_instance"] == task]
    return str(record["id"])


def assert_landed(result: dict[str, Any]) -> None:
    path = Path(result["uri"].removeprefix("file://"))
    with Image.open(path) as image:
        image.verify()
    assert json.loads(Path(f"{path}.json").read_text())["id"] == result["id"]


class TestAGeneration:
    def test_in_one_task_that_waits_in_the_worker(self, ran: Ran) -> None:
        assert_landed(ran.result("matrix_sync"))
        assert DEFERRED not in ran.log("matrix_sync")

    def test_in_one_task_that_waits_in_the_triggerer(self, ran: Ran) -> None:
        assert_landed(ran.result("matrix_deferrable"))
        assert DEFERRED in ran.log("matrix_deferrable")

    def test_in_three_tasks_of_which_the_second_is_deferred(self, ran: Ran) -> None:
        assert_landed(ran.result("matrix_three_tasks", "store"))
        assert DEFERRED in ran.log("matrix_three_tasks", "wait")
        assert ran.result("matrix_three_tasks", "store")["id"] == ran.result("matrix_three_tasks", "submit")["id"]

    def test_is_gone_on_with_by_the_next_try_after_a_killed_worker(self, ran: Ran) -> None:
        result = ran.result("matrix_killed")
        assert_landed(result)
        assert (result["reattached"], result["possibly_billed_twice"]) == (True, False)

    @pytest.mark.parametrize("dag_id", ["matrix_sync", "matrix_deferrable", "matrix_killed"])
    def test_has_its_record_where_this_airflow_keeps_it(self, ran: Ran, dag_id: str) -> None:
        assert recorded(ran, dag_id, "generate") == ran.result(dag_id)["id"]
        assert ran.journal.exists() != HAS_STATE_STORE

    def test_is_paid_once_each(self, ran: Ran) -> None:
        assert ran.posts == len(DAGS)
        assert ran.simulator.ledger.leaks == ()

    def test_leaves_the_key_in_no_log(self, ran: Ran) -> None:
        logs = [path for path in ran.airflow.home.rglob("*.log") if CANARY_KEY in path.read_text(errors="replace")]
        assert logs == []


@pytest.fixture(scope="module")
def form(ran: Ran) -> dict[str, FormField]:
    return shown_form(ran.airflow)


class TestTheConnectionForm:
    def test_masks_the_key_and_calls_it_one(self, form: dict[str, FormField]) -> None:
        assert form["password"] == FormField("API key", masked=True)

    def test_hides_what_has_no_use(self, form: dict[str, FormField]) -> None:
        assert {"schema", "login", "port"}.isdisjoint(form)

    def test_offers_the_regions_as_a_choice(self, form: dict[str, FormField]) -> None:
        assert form["region"].choices == ("global", "eu", "us")

    def test_says_of_each_field_what_it_is_for(self, form: dict[str, FormField]) -> None:
        for name in ("region", "timeout", "trusted_hosts", "delivery_hosts"):
            assert re.search(r"\w{3,}.*\.", form[name].help), name


def answer_to(ran: Ran, connection: dict[str, Any]) -> dict[str, Any]:
    """Press the button: have Airflow test a connection."""
    body = {"connection_id": "bfl_tested", **connection, "extra": json.dumps(connection["extra"])}
    answer: dict[str, Any] = ran.airflow.api.call("POST", "/connections/test", body=body)
    return answer


class TestTheTestOfAConnection:
    def test_says_how_many_credits_there_are(self, ran: Ran) -> None:
        connection = ran.simulator.connection(api_key=CANARY_KEY)
        answer = answer_to(ran, connection)
        assert answer["status"], answer
        assert "credits" in answer["message"]

    def test_says_that_the_key_is_wrong(self, ran: Ran) -> None:
        answer = answer_to(ran, ran.simulator.connection(api_key="wrong"))
        assert not answer["status"]
        assert "wrong" not in answer["message"]
