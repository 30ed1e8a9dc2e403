# SPDX-License-Identifier: Apache-2.0
"""
Airflow imports operator modules whenever it parses a Dag file, so they must cost next to nothing.

Measured in a process that already has what any Dag file has: Airflow's own base classes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

#: Airflow imports it only for a Dag file that uses decorators.
DECORATOR = "decorators.bfl"

MODULES = (
    DECORATOR,
    "links.bfl",
    "operators.batch",
    "operators.generation",
    "sensors.credits",
    "sensors.generation",
    "transfers.bfl_to_s3",
    "transfers.bfl_to_gcs",
    "transfers.bfl_to_object_storage",
)

BUDGET_MS = 15.0

#: What must not come along: HTTP libraries, cloud SDKs, the picture library, the schema validator.
HEAVY = {"requests", "aiohttp", "boto3", "botocore", "s3fs", "gcsfs", "google.cloud", "PIL", "jsonschema"}

#: Rooms of this provider that only a running task needs.
LATER = {"batch", "hooks", "landing", "durable", "transport", "api", "simulator"}

# A module is imported several times over, everything it brought along being forgotten in between; the least time is
# the module's own, the others are a busy machine's. Processor time, for the same reason.
_MEASURE = """
import importlib, json, sys, time
import airflow
try:
    from airflow.sdk import BaseOperator, BaseSensorOperator
except ImportError:
    from airflow.models.baseoperator import BaseOperator
    from airflow.sensors.base import BaseSensorOperator
if "decorators.bfl" in sys.argv:
    from airflow.providers.common.compat.sdk import DecoratedOperator
before = set(sys.modules)
told = {}
for name in sys.argv[1:]:
    times = []
    for _ in range(9):
        begun = time.process_time()
        importlib.import_module(f"airflow_provider_bfl.{name}")
        times.append(time.process_time() - begun)
        new = set(sys.modules) - before
        told.setdefault(name, {"new": sorted(new)})
        for module in new:
            del sys.modules[module]
    told[name]["ms"] = min(times) * 1000
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    """What each module costs and brings along."""
    return measure(DECORATOR) | measure(*(module for module in MODULES if module != DECORATOR))


def measure(*modules: str) -> dict[str, dict[str, Any]]:
    """Measure the modules in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *modules], check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("module", MODULES)
class TestImportingAModuleThatDagFilesUse:
    def test_takes_no_time_worth_noticing(self, measured: dict[str, dict[str, Any]], module: str) -> None:
        assert measured[module]["ms"] <= BUDGET_MS

    def test_loads_no_heavy_library(self, measured: dict[str, dict[str, Any]], module: str) -> None:
        new = set(measured[module]["new"])

        assert {name for name in new if name in HEAVY or name.split(".")[0] in HEAVY} == set()

    def test_loads_nothing_that_only_a_running_task_needs(
        self, measured: dict[str, dict[str, Any]], module: str
    ) -> None:
        new = [name.split(".") for name in measured[module]["new"] if name.startswith("airflow_provider_bfl.")]

        assert {parts[1] for parts in new} & LATER == set()
