# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one simulator for all live tests."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.simulator import Simulator
from demo.local_airflow import LocalAirflow
from tests.storage_servers import GCSServer, S3Server

CANARY_KEY = "bfl_CANARYkey7f3a9c"

#: flux-2-pro then takes about seven seconds: time to see a state, to kill something, to be found deferred.
LATENCY_SCALE = 0.55


@dataclass(frozen=True)
class Stack:
    """What a live test works with."""

    airflow: LocalAirflow
    simulator: Simulator
    landed: Path
    gcs: GCSServer | None

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the metadata database itself."""
        with closing(sqlite3.connect(f"file:{self.airflow.home}/airflow.db?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(sql, parameters).fetchall()

    def landed_images(self) -> set[Path]:
        """Return the stored results, without their sidecars."""
        return {path for path in self.landed.rglob("*") if path.is_file() and path.suffix != ".json"}


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, _s3_process: S3Server, request: pytest.FixtureRequest
) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("live")
    landed = root / "landed"
    gcs = _gcs(request)
    lineage = {"type": "file", "log_file_path": f"{root}/airflow/lineage/event", "append": False}
    (root / "airflow" / "lineage").mkdir(parents=True)
    with (
        Simulator(latency_scale=LATENCY_SCALE, jitter=0.0) as simulator,
        LocalAirflow(
            root / "airflow",
            dags_folder=Path(__file__).parent / "dags",
            environment={
                "LIVE_DESTINATION": f"file://{landed}/",
                # So that a task whose supervisor was killed too is noticed soon.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "8",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
                "AIRFLOW__API__EXPOSE_CONFIG": "non-sensitive-only",
                "AIRFLOW__OPENLINEAGE__DISABLED": "False",
                "AIRFLOW__OPENLINEAGE__NAMESPACE": "live",
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
            },
        ) as airflow,
    ):
        connection = simulator.connection(api_key=CANARY_KEY)
        airflow.api.put_connection("bfl_default", **connection)
        for store in filter(None, (_s3_process, gcs)):
            airflow.api.put_connection(store.conn_id, **json.loads(os.environ[f"AIRFLOW_CONN_{store.conn_id.upper()}"]))
        yield Stack(airflow, simulator, landed, gcs)


def _gcs(request: pytest.FixtureRequest) -> GCSServer | None:
    try:
        server: GCSServer = request.getfixturevalue("gcs_server")
    except pytest.skip.Exception:
        return None
    return server
