# SPDX-License-Identifier: Apache-2.0
"""One generation in each form, and one whose worker dies after the submit; they are read by every Airflow."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.hooks.bfl import BflHook
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

DESTINATION = os.environ["MATRIX_DESTINATION"]
POLLING_URL = "{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}"
COMMON: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}
RETRY: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=1)}
LAND: dict[str, Any] = {"task_id": "generate", "wait_for_completion": True, "destination": DESTINATION, **RETRY}


def die(*_: Any, **__: Any) -> NoReturn:
    """End the process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class DyingOperator(BflGenerationOperator):
    """Its first try is killed once the generation is submitted and recorded."""

    def execute(self, context: Any) -> Any:
        """Run, or die instead of waiting."""
        if context["ti"].try_number == 1:
            BflHook.wait = die  # type: ignore[method-assign]
        return super().execute(context)


with DAG("matrix_sync", **COMMON):
    BflGenerationOperator(prompt="sync", **LAND)

with DAG("matrix_deferrable", **COMMON):
    BflGenerationOperator(prompt="deferrable", deferrable=True, inline_wait=0, **LAND)

with DAG("matrix_killed", **COMMON):
    DyingOperator(prompt="killed", **LAND)

with DAG("matrix_three_tasks", **COMMON):
    # Without a figure of the cost: BFL need not give one.
    submit = BflGenerationOperator(task_id="submit", model="flux-kontext-pro", prompt="three tasks", **RETRY)
    wait = BflGenerationSensor(task_id="wait", polling_url=POLLING_URL, deferrable=True, **RETRY)
    store = BflToObjectStorageOperator(
        task_id="store", polling_url=POLLING_URL, generation=submit.output, destination=DESTINATION, **RETRY
    )
    submit >> wait >> store
