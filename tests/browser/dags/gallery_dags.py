# SPDX-License-Identifier: Apache-2.0
"""Dags that fill the gallery; where they store comes from the environment."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_provider_bfl.operators.batch import BflBatchOperator
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from tests.browser.prompts import CATALOGUE, SHOTS

DESTINATION = os.environ["BROWSER_DESTINATION"]
STORAGE_CONN_ID = os.environ.get("BROWSER_STORAGE_CONN_ID") or None
COMMON = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=1)},
}
LAND = {"wait_for_completion": True, "destination": DESTINATION, "storage_conn_id": STORAGE_CONN_ID}

with DAG("product_photos", **COMMON):
    BflGenerationOperator.partial(task_id="shoot", **LAND).expand_kwargs(
        [
            {
                "model": model,
                "prompt": prompt,
                "parameters": {"width": size[0], "height": size[1], "seed": 700 + number},
            }
            for number, (model, prompt, size) in enumerate(SHOTS)
        ]
    )

with DAG("spring_campaign", **COMMON):
    submit = BflGenerationOperator(
        task_id="submit",
        prompt="A meadow of poppies at first light, 35 mm",
        parameters={"width": 1440, "height": 960, "output_format": "png"},
    )
    BflToObjectStorageOperator(
        task_id="store",
        polling_url="{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}",
        generation=submit.output,
        destination=DESTINATION,
        storage_conn_id=STORAGE_CONN_ID,
    )

with DAG("teasers", **COMMON):
    BflGenerationOperator(
        task_id="film",
        model="flux-3-video",
        prompt="A slow pan over a harbour at dusk",
        parameters={"mode": "t2v"},
        **LAND,
    )
    BflGenerationOperator(task_id="refused", prompt="Something that is moderated", **{**LAND, "retries": 0})

with DAG("secret_campaign", **COMMON):
    BflGenerationOperator(task_id="unveil", model="flux-2-klein-4b", prompt="UNANNOUNCED product on a pedestal", **LAND)

with DAG("nightly_catalogue", **COMMON):
    BflBatchOperator(
        task_id="render",
        requests=[
            {"name": f"sku-{1040 + number}", "prompt": f"{thing} on a seamless grey background, product shot"}
            for number, thing in enumerate(CATALOGUE)
        ],
        model="flux-2-klein-9b",
        destination=f"{DESTINATION}catalogue/{{{{ run_id }}}}/",
        storage_conn_id=STORAGE_CONN_ID,
        fail_on="none",
    )

# What the tests write to its XComs is what anybody who may write a Dag can write there.
with DAG("scribbles", **COMMON):
    for number in range(10):
        EmptyOperator(task_id=f"note_{number}")
