# SPDX-License-Identifier: Apache-2.0
"""The example Dags that need a person, a schedule by assets, or a look at them from outside; and one with a link."""

from __future__ import annotations

import os
import runpy
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_bfl.operators.generation import BflGenerationOperator

os.environ.setdefault("BFL_EXAMPLE_DESTINATION", os.environ["LIVE_DESTINATION"])

for _name in ("example_bfl_human_approval", "example_bfl_asset_driven"):
    _module = runpy.run_path(str(Path(__file__).parents[3] / "example_dags" / f"{_name}.py"))
    globals().update({each.dag_id: each for each in _module.values() if isinstance(each, DAG)})

with DAG("live_links", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    BflGenerationOperator(
        task_id="generate",
        prompt="a red fox with a link",
        wait_for_completion=True,
        destination="gs://gcs_on_loopback@{{ dag_run.conf['bucket'] }}/links/",
        deferrable=True,
        inline_wait=0,
    )
