# SPDX-License-Identifier: Apache-2.0
"""Dags of the live tests; where they store comes from the environment the test gives to Airflow."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

DESTINATION = os.environ["LIVE_DESTINATION"]
COMMON = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=1)}
POLLING_URL = "{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}"

with DAG("live_three_tasks", **COMMON):
    submit = BflGenerationOperator(task_id="submit", prompt="three tasks", **RETRIES)
    wait = BflGenerationSensor(task_id="wait", polling_url=POLLING_URL, deferrable=True, **RETRIES)
    store = BflToObjectStorageOperator(
        task_id="store", polling_url=POLLING_URL, generation=submit.output, destination=DESTINATION, **RETRIES
    )
    submit >> wait >> store

with DAG("live_worker", **COMMON):
    BflGenerationOperator(
        task_id="generate", prompt="in the worker", wait_for_completion=True, destination=DESTINATION, **RETRIES
    )

with DAG("live_deferrable", **COMMON):
    BflGenerationOperator(
        task_id="generate",
        prompt="deferred",
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        # Time for the test to kill the worker between the POST and the deferral.
        inline_wait=3,
        **RETRIES,
    )

with DAG("live_moderated", **COMMON):
    BflGenerationOperator(
        task_id="generate", prompt="refused", wait_for_completion=True, destination=DESTINATION, deferrable=True
    )
