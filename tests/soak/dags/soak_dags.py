# SPDX-License-Identifier: Apache-2.0
"""
One Dag for each way to use the provider. Prompts are ``<workload> <run id> <number>``, so a generation can be told.

A run is asked for by its run id; every one of its generations is a workload's, which is the task's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_bfl.operators.batch import BflBatchOperator
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

DESTINATION = os.environ["SOAK_DESTINATION"]
MAPPED, BATCH = int(os.environ["SOAK_MAPPED"]), int(os.environ["SOAK_BATCH"])

#: Many, because misfortunes are drawn at random and may meet one task again and again.
RETRIES: Mapping[str, Any] = {"retries": 12, "retry_delay": timedelta(seconds=1)}
COMMON: Mapping[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 32,
}


def prompt(workload: str, number: int = 0) -> str:
    """Return the template of a prompt."""
    return f"{workload} {{{{ run_id }}}} {number}"


def landing(workload: str) -> dict[str, Any]:
    """Return the arguments of a task that waits for its generation and lands it."""
    destination = f"{DESTINATION}{workload}/"
    return {"wait_for_completion": True, "destination": destination, "on_moderated": "skip", **RETRIES}


with DAG("soak_single", **COMMON):
    for name, deferrable in (("single-sync", False), ("single-deferred", True)):
        BflGenerationOperator(task_id=name, prompt=prompt(name), deferrable=deferrable, **landing(name))

with DAG("soak_mapped", **COMMON):
    BflGenerationOperator.partial(task_id="mapped", model="flux-2-flex", **landing("mapped")).expand_kwargs(
        [{"prompt": prompt("mapped", number), "deferrable": number % 4 != 0} for number in range(MAPPED)]
    )

with DAG("soak_three", **COMMON):
    for name, deferrable in (("three-sync", False), ("three-deferred", True)):
        submit = BflGenerationOperator(
            task_id=f"{name}-submit", model="flux-2-flex", prompt=prompt(name), deferrable=deferrable, **RETRIES
        )
        polling_url = f"{{{{ ti.xcom_pull(task_ids='{name}-submit', key='polling_url') }}}}"
        wait = BflGenerationSensor(
            task_id=f"{name}-wait", polling_url=polling_url, deferrable=deferrable, on_moderated="skip", **RETRIES
        )
        store = BflToObjectStorageOperator(
            task_id=name,
            polling_url=polling_url,
            generation=submit.output,
            destination=f"{DESTINATION}{name}/",
            deferrable=deferrable,
            **RETRIES,
        )
        submit >> wait >> store

with DAG("soak_batch", **COMMON):
    BflBatchOperator(
        task_id="batch",
        model="flux-2-klein-4b",
        requests=[prompt("batch", number) for number in range(BATCH)],
        destination=f"{DESTINATION}batch/{{{{ run_id }}}}/",
        on_moderated="skip",
        **RETRIES,
    )
