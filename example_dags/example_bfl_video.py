# SPDX-License-Identifier: Apache-2.0
"""
A video with FLUX 3, from a prompt to an mp4 in storage.

It takes a minute or more, so the task waits in the triggerer and holds no worker slot. BFL settles the price of a video
when it is made: ``cost`` is in the result and not yet in the submit's. An account has five active videos at most; the
pool keeps further ones from asking.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")
POOL = os.environ.get("BFL_EXAMPLE_POOL", "bfl_video")

with DAG(
    dag_id="bfl_video",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START video]
    BflGenerationOperator(
        task_id="generate",
        model="flux-3-video",
        prompt="A paper boat drifts down a rain gutter, camera follows close behind",
        parameters={"mode": "t2v", "duration": 5, "resolution": "hd", "aspect_ratio": "16:9"},
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        timeout=3600,
        pool=POOL,
        retries=2,
    )
    # [END video]
