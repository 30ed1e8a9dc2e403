# SPDX-License-Identifier: Apache-2.0
"""
Edit a product photo that lies in object storage.

Inputs are named by URI. They are read when the request is about to be sent, so neither XCom nor the rendered fields
ever hold an image. A local ``file://`` input needs ``[bfl] allow_local_files``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

DESTINATION = os.environ.get("BFL_EXAMPLE_DESTINATION", "s3://my-bucket/flux/")
PRODUCT_PHOTO = os.environ.get("BFL_EXAMPLE_INPUT", "s3://my-bucket/products/chair.jpg")

with DAG(
    dag_id="bfl_edit_images",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START edit_images]
    BflGenerationOperator(
        task_id="studio_background",
        model="flux-kontext-pro",
        prompt="Put the product on a light grey studio background, keep its shape and colours",
        parameters={"input_image": PRODUCT_PHOTO, "aspect_ratio": "1:1", "output_format": "png"},
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        retries=2,
    )
    # [END edit_images]
