# SPDX-License-Identifier: Apache-2.0
"""
Submit, wait, and store in an S3 bucket under a name of one's own, encrypted.

The transfer goes through Airflow's S3Hook: it takes boto3's upload arguments, and every connection the Amazon provider
takes, one to an S3-compatible store too.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.sensors.generation import BflGenerationSensor
from airflow_provider_bfl.transfers.bfl_to_s3 import BflToS3Operator

BUCKET = os.environ.get("BFL_EXAMPLE_BUCKET", "my-bucket")

with DAG(
    dag_id="bfl_to_s3",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START to_s3]
    submit = BflGenerationOperator(
        task_id="submit",
        model="flux-2-pro",
        prompt="A ceramic teapot on a linen cloth, window light",
        parameters={"output_format": "webp"},
        retries=2,
    )
    wait = BflGenerationSensor(
        task_id="wait",
        polling_url="{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}",
        deferrable=True,
        retries=2,
    )
    store = BflToS3Operator(
        task_id="store",
        polling_url="{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}",
        generation=submit.output,
        s3_bucket=BUCKET,
        s3_key="flux/{{ ds_nodash | default('manual') }}/teapot.webp",
        extra_args={"ServerSideEncryption": "AES256", "CacheControl": "max-age=86400"},
        metadata={"campaign": "autumn"},
        retries=2,
    )
    submit >> wait >> store
    # [END to_s3]
