# SPDX-License-Identifier: Apache-2.0
"""
One generation in one task: submit, wait in the triggerer, land.

A retry re-attaches to the generation that was submitted: it is paid once.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")

with DAG(
    dag_id="bfl_one_operator",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    params={"subject": "A cat in a space suit reading the newspaper"},
    doc_md=__doc__,
) as dag:
    # [START one_operator]
    BflGenerationOperator(
        task_id="generate",
        model="flux-2-pro",
        prompt="{{ params.subject }}, watercolour, morning light",
        parameters={"width": 1024, "height": 1024},
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        retries=2,
    )
    # [END one_operator]
