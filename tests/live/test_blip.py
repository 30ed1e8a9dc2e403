# SPDX-License-Identifier: Apache-2.0
"""The metadata database is away for a while, for every part of Airflow at once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from demo.airflow_api import wait_until
from demo.local_airflow import COMMANDS
from tests.live.conftest import Stack
from tests.live.test_generations import RUN_SECONDS, landed_image, run_to_the_end, start

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

DAG_IDS = ("live_worker", "live_deferrable")

#: Longer than Airflow's connections wait for a locked SQLite file here, so that they get errors and not only delays.
BLIP_SECONDS = 40


@contextmanager
def locked_database(stack: Stack) -> Iterator[None]:
    """Keep everyone else from writing to the metadata database, and with SQLite's rollback journal from reading it."""
    with closing(sqlite3.connect(stack.airflow.home / "airflow.db", timeout=60, isolation_level=None)) as database:
        database.execute("begin exclusive")
        try:
            yield
        finally:
            database.execute("rollback")


@pytest.mark.timeout(600)
class TestMetadataDatabaseBlip:
    def test_costs_nothing_and_loses_nothing(self, stack: Stack) -> None:
        posts = stack.simulator.ledger.posts
        stack.simulator.fault("task", times=len(DAG_IDS), stuck=True)
        api = stack.airflow.api
        runs = {dag_id: start(stack, dag_id) for dag_id in DAG_IDS}
        ids = {}
        for dag_id, run_id in runs.items():
            wait_until(lambda d=dag_id, r=run_id: "id" in api.xcom_keys(d, r, "generate"), RUN_SECONDS, "the submit")
            ids[dag_id] = api.xcom(dag_id, run_id, "generate", "id")

        with locked_database(stack):
            time.sleep(BLIP_SECONDS)

        # What ended over it is started again, as a service manager does.
        for component in COMMANDS:
            if not stack.airflow.processes(component):
                stack.airflow.start_component(component)
        stack.airflow.wait_healthy()
        for generation_id in ids.values():
            stack.simulator.finish(generation_id)
        for dag_id, run_id in runs.items():
            run_to_the_end(stack, dag_id, run_id)
            result = api.xcom(dag_id, run_id, "generate")
            assert result["id"] == ids[dag_id]
            landed_image(result["uri"])
        assert stack.simulator.ledger.posts - posts == len(DAG_IDS)
