# SPDX-License-Identifier: Apache-2.0
"""
Edit a product photo that lies in object storage: on a studio background with FLUX.1 Kontext, in a room with FLUX.2.

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
ROOM_PHOTO = os.environ.get("BFL_EXAMPLE_INPUT", "s3://my-bucket/rooms/living-room.jpg")

with DAG(
    dag_id="bfl_edit_images",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bfl", "example"],
    doc_md=__doc__,
) as dag:
    # [START edit_images]
    studio = BflGenerationOperator(
        task_id="studio_background",
        model="flux-kontext-pro",
        prompt="Put the product on a light grey studio background, keep its shape and colours",
        parameters={"input_image": PRODUCT_PHOTO, "aspect_ratio": "1:1", "output_format": "png"},
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        retries=2,
    )
    BflGenerationOperator(
        task_id="in_a_living_room",
        model="flux-2-pro",
        prompt="The product of image 1 in the room of image 2, same light as in the room",
        parameters={
            "input_image": "{{ ti.xcom_pull(task_ids='studio_background')['uri'] }}",
            "input_image_2": ROOM_PHOTO,
            "output_format": "png",
        },
        wait_for_completion=True,
        destination=DESTINATION,
        deferrable=True,
        retries=2,
    ).set_upstream(studio)
    # [END edit_images]
