# SPDX-License-Identifier: Apache-2.0
"""Mapped generations, half of them behind a pool, and a batch, all on one account; how many the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_bfl.operators.batch import BflBatchOperator
from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ["DISTRIBUTED_DESTINATION"]
MAPPED = int(os.environ["DISTRIBUTED_MAPPED"])
BATCH = int(os.environ["DISTRIBUTED_BATCH"])
POOL = os.environ["DISTRIBUTED_POOL"]

#: Its typical time is the simulator's true one, so polls come when they would come to BFL's.
MODEL = "flux-2-flex"

#: Every tenth waits in its worker.
SYNC_EVERY = 10

RETRIES: Mapping[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=1)}
COMMON: Mapping[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}


def mapped(task_id: str, generations: int, **arguments: Any) -> None:
    """Map a task over its generations."""
    BflGenerationOperator.partial(
        task_id=task_id,
        model=MODEL,
        wait_for_completion=True,
        destination=f"{DESTINATION}{task_id}/",
        inline_wait=0,
        **RETRIES,
        **arguments,
    ).expand_kwargs(
        [{"prompt": f"{task_id} {number}", "deferrable": number % SYNC_EVERY != 0} for number in range(generations)]
    )


with DAG("distributed_mapped", **COMMON):
    mapped("pooled", MAPPED // 2, pool=POOL)
    mapped("unpooled", MAPPED - MAPPED // 2)

with DAG("distributed_batch", **COMMON):
    BflBatchOperator(
        task_id="generate",
        model=MODEL,
        requests=[f"batch {number}" for number in range(BATCH)],
        destination=f"{DESTINATION}batch/",
        **RETRIES,
    )
