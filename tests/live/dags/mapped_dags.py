# SPDX-License-Identifier: Apache-2.0
"""Sixty mapped generations, more than the account has slots."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

GENERATIONS = 60

#: One of them stays in its worker for a while, where a test can kill it.
LINGERING = 0
LINGERING_SECONDS = 25

with DAG("live_mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    BflGenerationOperator.partial(
        task_id="generate",
        model="flux-2-klein-4b",
        wait_for_completion=True,
        destination=f"{os.environ['LIVE_DESTINATION']}mapped/",
        deferrable=True,
        retries=2,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(
        [
            {"prompt": f"mapped generation {number}", "inline_wait": LINGERING_SECONDS if number == LINGERING else 0}
            for number in range(GENERATIONS)
        ]
    )
