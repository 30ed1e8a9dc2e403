# SPDX-License-Identifier: Apache-2.0
"""
One Dag with every operator, sync and deferrable, and every way to fail that has a secret near it.

The prompt is put together by a template and the webhook's secret comes from a variable, so neither is in this file.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_bfl.decorators.bfl import bfl_task
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_gcs import BflToGCSOperator
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from airflow_provider_bfl.transfers.bfl_to_s3 import BflToS3Operator

DESTINATION = os.environ["LIVE_DESTINATION"]
QUICK = "flux-2-klein-4b"
POLLING_URL = "{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}"
UNTRUSTED_URL = "{{ ti.xcom_pull(task_ids='stranger') }}"
OUTLETS: list[Any] = [Asset(uri="s3://live/canary"), AssetAlias("live_canary_results")]
RETRY: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(seconds=1)}


def generate(case: str, *, model: str = QUICK, **arguments: Any) -> BflGenerationOperator:
    """Return a task whose prompt names its case, for the simulator's faults to find."""
    return BflGenerationOperator(task_id=case, model=model, prompt=f"{{{{ 'CANARY' ~ 'prompt' }}}} {case}", **arguments)


def land(case: str, *, destination: str = DESTINATION, **arguments: Any) -> BflGenerationOperator:
    """Return a task that waits for its generation and lands it."""
    return generate(case, wait_for_completion=True, destination=destination, **arguments)


with DAG("live_canary", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    land("sync", outlets=OUTLETS)
    land("deferred", model="flux-2-pro", deferrable=True, inline_wait=0, outlets=OUTLETS)

    @bfl_task(model=QUICK, wait_for_completion=True, destination=DESTINATION, deferrable=True, inline_wait=0)
    def decorated() -> str:
        """Return the prompt, put together here for the same reason."""
        return "CANARY" + "prompt decorated"

    decorated()
    webhook = {
        "webhook_url": "{{ dag_run.conf['canary'] }}/hook",
        "webhook_secret": "{{ var.value.bfl_word }}",
    }
    generate("webhook", parameters=webhook)

    submit = generate("submit", model="flux-2-pro")
    sensor = BflGenerationSensor(task_id="sensor", polling_url=POLLING_URL)
    sensor_deferred = BflGenerationSensor(task_id="sensor_deferred", polling_url=POLLING_URL, deferrable=True)
    to_files = BflToObjectStorageOperator(
        task_id="to_files",
        polling_url=POLLING_URL,
        generation=submit.output,
        destination=DESTINATION,
        deferrable=True,
        outlets=OUTLETS,
    )
    to_s3 = BflToS3Operator(
        task_id="to_s3",
        polling_url=POLLING_URL,
        s3_bucket="{{ dag_run.conf['bucket'] }}",
        s3_key="canary/",
        aws_conn_id="s3_on_loopback",
    )
    submit >> [sensor, sensor_deferred, to_files, to_s3]
    if "STORAGE_EMULATOR_HOST" in os.environ:
        submit >> BflToGCSOperator(
            task_id="to_gcs",
            polling_url=POLLING_URL,
            bucket_name="{{ dag_run.conf['gcs_bucket'] }}",
            object_name="canary/",
            gcp_conn_id="gcs_on_loopback",
        )

    land("key_echoed_at_submit", model="flux-pro-1.1")
    land("key_echoed_at_poll", model="flux-2-pro", deferrable=True, inline_wait=0)
    land("moderated", on_moderated="fail")
    land("moderated_deferred", model="flux-2-pro", deferrable=True, inline_wait=0)
    land("expired")
    land("redirected", deferrable=True)
    land("cut_download")
    land("nowhere_to_store", destination="file:///proc/canary/")
    land("no_bucket", destination="s3://s3_on_loopback@no-such-bucket/canary/")
    land("lost_answer", model="flux-dev", **RETRY)

    @task
    def stranger(**context: Any) -> str:
        """Return a polling URL that BFL never gave."""
        return f"{context['dag_run'].conf['canary']}/v1/get_result?id=x"

    strange = stranger()
    strange >> [
        BflGenerationSensor(task_id="untrusted_sensor", polling_url=UNTRUSTED_URL),
        BflGenerationSensor(task_id="untrusted_sensor_deferred", polling_url=UNTRUSTED_URL, deferrable=True),
        BflToObjectStorageOperator(task_id="untrusted_transfer", polling_url=UNTRUSTED_URL, destination=DESTINATION),
    ]
