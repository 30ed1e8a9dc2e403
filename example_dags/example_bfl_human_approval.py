# SPDX-License-Identifier: Apache-2.0
"""
Nobody sees a picture before a person has approved it (Airflow 3.1 and later).

The picture lands in a folder for review, a person looks at it and approves or rejects it under *Required Actions*, and
only an approved one is copied to where it is published from. What is copied is the stored object: BFL keeps a result
for minutes, and a person may take days.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowOptionalProviderFeatureException,
    ObjectStoragePath,
    task,
)

from airflow_provider_bfl.operators.generation import BflGenerationOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):  # before Airflow 3.1: this file then has no Dag
    ApprovalOperator = None  # type: ignore[assignment,misc]

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")

if ApprovalOperator is not None:
    with DAG(
        dag_id="bfl_human_approval",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags=["bfl", "example"],
        doc_md=__doc__,
    ) as dag:
        # [START human_approval]
        picture = BflGenerationOperator(
            task_id="generate",
            model="flux-2-pro",
            prompt="A street market at dusk, paper lanterns, 35 mm film",
            wait_for_completion=True,
            destination=f"{DESTINATION}review/",
            deferrable=True,
            retries=2,
        )
        approve = ApprovalOperator(
            task_id="approve",
            subject="Publish this picture?",
            body="""
{% set picture = ti.xcom_pull(task_ids='generate') %}
* object: `{{ picture['uri'] }}`
* model {{ picture['model'] }}, seed {{ picture['seed'] }}, {{ picture['cost'] }} credits
""",
            response_timeout=timedelta(days=7),
        )

        @task
        def publish(landed: Any) -> str:
            """Copy the approved picture and return where it is now."""
            reviewed = ObjectStoragePath(landed["uri"])
            published = ObjectStoragePath(f"{DESTINATION}published/{reviewed.name}")
            published.parent.mkdir(parents=True, exist_ok=True)
            reviewed.copy(published)
            return str(published)

        picture >> approve >> publish(picture.output)
        # [END human_approval]
