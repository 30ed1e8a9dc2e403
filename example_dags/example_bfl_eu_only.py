# SPDX-License-Identifier: Apache-2.0
"""
Nothing leaves the EU.

The connection says ``region: eu``. Then the submit goes to BFL's EU host, and a polling or delivery host outside the EU
is an error before any request to it; there is no fallback. The bucket's region is the user's to choose.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

EU_DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-eu-bucket/flux/")

with DAG(
    dag_id="bfl_eu_only",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START eu_only]
    BflGenerationOperator(
        task_id="generate",
        bfl_conn_id="bfl_eu",  # extra: {"region": "eu"}
        model="flux-2-pro",
        prompt="A tram in Lisbon, oil on canvas",
        wait_for_completion=True,
        destination=EU_DESTINATION,
        deferrable=True,
        retries=2,
    )
    # [END eu_only]
