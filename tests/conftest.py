# SPDX-License-Identifier: Apache-2.0
"""Gives each test process an Airflow of its own, before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_SCRATCH = Path(tempfile.mkdtemp(prefix="airflow-provider-bfl-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
(_SCRATCH / "dags").mkdir()

# Settings and credentials of the person who runs the tests must neither steer nor be reached by them.
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW_", "AWS_", "BFL_", "BOTO_", "GCP_", "GOOGLE_", "OPENLINEAGE_")):
        del os.environ[_name]

os.environ.update(
    AIRFLOW_HOME=str(_SCRATCH),
    AIRFLOW__CORE__DAGS_FOLDER=str(_SCRATCH / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
    AIRFLOW__OPENLINEAGE__DISABLED="True",
    AWS_EC2_METADATA_DISABLED="true",
    NO_PROXY="127.0.0.1,localhost",
    no_proxy="127.0.0.1,localhost",
)

pytest_plugins = ["airflow_provider_bfl.simulator.pytest_plugin", "tests.airflow_fixtures", "tests.storage_servers"]
