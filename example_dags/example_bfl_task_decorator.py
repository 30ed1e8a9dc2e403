# SPDX-License-Identifier: Apache-2.0
"""
A function says what to generate.

``@task.bfl`` generates what the function returns: a prompt, or a dict of the request's fields. What it returned is kept
with the task's record: a retry goes on with the same request and does not call the function again.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")
SEASONS = ("spring", "autumn")

with DAG(
    dag_id="bfl_task_decorator",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START task_decorator]
    @task.bfl(model="flux-2-klein-4b", wait_for_completion=True, destination=DESTINATION, deferrable=True, retries=2)
    def banner(season: str) -> dict[str, Any]:
        """Return the request for one season's banner."""
        light = {"spring": "soft morning light", "autumn": "low golden light"}[season]
        return {"prompt": f"A wide meadow in {season}, {light}, no people", "width": 1024, "height": 512}

    @task
    def total_cost(banners: Any) -> float:
        """Return what the banners cost, in credits."""
        return float(sum(each["cost"] for each in banners))

    total_cost(banner.expand(season=SEASONS))
    # [END task_decorator]
