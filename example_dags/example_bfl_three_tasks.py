# SPDX-License-Identifier: Apache-2.0
"""
Submit, wait, store: one generation in three tasks.

The sensor waits in the triggerer and holds no worker slot meanwhile. Each task can be retried alone: the wait and the
transfer ask for the same generation again and never pay.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")

with DAG(
    dag_id="bfl_three_tasks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START three_tasks]
    submit = BflGenerationOperator(
        task_id="submit",
        model="flux-2-pro",
        prompt="A lighthouse on a basalt cliff at dawn, long exposure",
        parameters={"width": 1024, "height": 768, "output_format": "png"},
        retries=2,
    )
    wait = BflGenerationSensor(
        task_id="wait",
        polling_url="{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}",
        deferrable=True,
        retries=2,
    )
    store = BflToObjectStorageOperator(
        task_id="store",
        polling_url="{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}",
        generation=submit.output,
        destination=DESTINATION,
        retries=2,
    )
    submit >> wait >> store
    # [END three_tasks]
