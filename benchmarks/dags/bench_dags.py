# SPDX-License-Identifier: Apache-2.0
"""The same generations in three ways: this provider's operators, and the http and amazon providers'."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, PokeReturnValue, task_group

from airflow_provider_bfl.operators.generation import BflGenerationOperator

GENERATIONS = int(os.environ["BENCH_GENERATIONS"])
PROMPTS = [f"bench {number}" for number in range(GENERATIONS)]
MODEL = "flux-2-pro"
KEY = {"x-key": "bfl_simulator_key"}
DAG_ARGUMENTS: dict[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "default_args": {"retries": 0},
}

for name, deferrable in (("bench_mapped", False), ("bench_mapped_deferrable", True)):
    with DAG(name, **DAG_ARGUMENTS):
        BflGenerationOperator.partial(
            task_id="generate",
            model=MODEL,
            wait_for_completion=True,
            destination="s3://bench/mapped/",
            deferrable=deferrable,
        ).expand(prompt=PROMPTS)


def _submitted(response: Any) -> dict[str, str]:
    polling = urlsplit(response.json()["polling_url"])
    return {"id": response.json()["id"], "path": f"{polling.path}?{polling.query}"}


def _ready(response: Any) -> PokeReturnValue:
    body = response.json()
    if body["status"] != "Ready":
        return PokeReturnValue(is_done=False)
    sample = urlsplit(body["result"]["sample"])
    return PokeReturnValue(is_done=True, xcom_value=f"{sample.path}?{sample.query}")


with DAG("bench_http", **DAG_ARGUMENTS):

    @task_group
    def one(body: str) -> None:
        """Submit, wait, store."""
        submitted = "ti.xcom_pull(task_ids='one.submit', map_indexes=ti.map_index)"
        submit = HttpOperator(
            task_id="submit",
            http_conn_id="bench_submit",
            endpoint=f"v1/{MODEL}",
            data=body,
            headers={**KEY, "content-type": "application/json"},
            response_filter=_submitted,
        )
        wait = HttpSensor(
            task_id="wait",
            http_conn_id="bench_poll",
            endpoint=f"{{{{ {submitted}['path'] }}}}",
            headers=KEY,
            response_check=_ready,
            poke_interval=1.0,
        )
        store = HttpToS3Operator(
            task_id="store",
            http_conn_id="bench_delivery",
            endpoint="{{ ti.xcom_pull(task_ids='one.wait', map_indexes=ti.map_index) }}",
            s3_bucket="bench",
            s3_key=f"http/{{{{ {submitted}['id'] }}}}",
        )
        submit >> wait >> store

    one.expand(body=[json.dumps({"prompt": prompt}) for prompt in PROMPTS])
