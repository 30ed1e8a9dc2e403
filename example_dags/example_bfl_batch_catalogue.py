# SPDX-License-Identifier: Apache-2.0
"""
A catalogue every night: each row of a CSV becomes a picture, within a budget.

The file has the columns ``name`` and ``prompt``; every other column is one of BFL's fields. A file of a thousand rows
is one task and one worker slot. Whatever happens to the worker, a retry goes on where it was: what is landed stays,
what BFL has is re-attached to, and ``max_cost`` counts over all attempts.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.batch import BflBatchOperator
from airflow_provider_bfl.sensors.credits import BflCreditsSensor

CATALOGUE = os.environ.get("BFL_EXAMPLE_CATALOGUE", "s3://my-bucket/catalogue.csv")
DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")

with DAG(
    dag_id="bfl_batch_catalogue",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START batch_catalogue]
    enough = BflCreditsSensor(task_id="wait_for_credits", min_credits=500, deferrable=True)

    catalogue = BflBatchOperator(
        task_id="generate",
        requests=CATALOGUE,
        destination=DESTINATION + "bfl_batch_catalogue/{{ run_id }}/",
        model="flux-2-klein-4b",
        parameters={"output_format": "png"},
        max_cost=500,
        fail_on=0.05,
        retries=3,
        retry_delay=timedelta(minutes=1),
    )

    enough >> catalogue
    # [END batch_catalogue]
