# SPDX-License-Identifier: Apache-2.0
"""
One mapped task for each prompt, sharing the account's slots through a pool.

The pool keeps most tasks from asking at all while the account is full; what still meets a 429 waits for a free slot
and is not a failure. Create it once, with fewer slots than the account's 24 and counting deferred tasks:
``airflow pools set bfl 20 "BFL active tasks" --include-deferred``
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")
POOL = os.environ.get("BFL_EXAMPLE_POOL", "bfl")
ANIMALS = ("heron", "otter", "lynx", "badger")

with DAG(
    dag_id="bfl_mapped_prompts",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START mapped_prompts]
    BflGenerationOperator.partial(
        task_id="generate",
        model="flux-2-klein-4b",
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        pool=POOL,
        retries=2,
    ).expand(prompt=[f"An etching of a {animal} by a river" for animal in ANIMALS])
    # [END mapped_prompts]
