# SPDX-License-Identifier: Apache-2.0
"""
A Dag that starts when a picture has landed.

The event of the asset carries the facts of the generation: id, uri, model, seed, cost and sha256. So the Dag that is
started knows which object it is about without looking for it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")

# [START asset_driven]
HERO_IMAGE = Asset(uri="s3://my-bucket/flux/hero")

with DAG(
    dag_id="bfl_hero_image",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as made:
    BflGenerationOperator(
        task_id="generate",
        model="flux-2-pro",
        prompt="A wooden rowing boat on a still lake, mist, wide shot",
        parameters={"width": 1536, "height": 640},
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        retries=2,
        outlets=[HERO_IMAGE],
    )

with DAG(
    dag_id="bfl_hero_image_published",
    schedule=[HERO_IMAGE],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as published:

    @task
    def publish(**context: Any) -> list[dict[str, Any]]:
        """Return the facts of the pictures that started this run; none when a person started it."""
        # Airflow 2 says dataset for what Airflow 3 calls an asset.
        started_by = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        return [event.extra for events in started_by.values() for event in events]

    publish()
# [END asset_driven]
