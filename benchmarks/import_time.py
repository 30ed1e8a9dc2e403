# SPDX-License-Identifier: Apache-2.0
"""What importing the operators costs a Dag file, in a fresh process each time."""

from __future__ import annotations

import importlib
import sys
import time
from functools import partial

from benchmarks import processes
from benchmarks.results import Finding

TITLE = "Import of the operators"

_MODULES = ("operators.generation", "operators.batch", "sensors.generation", "transfers.bfl_to_s3")

#: What any Dag file has imported before it imports an operator.
_DAG_FILE = "a Dag file's own imports"


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the processor time that each module adds to what a Dag file imports anyway."""
    # The rest of a run is the same for both, so they are read from one process.
    told = processes.in_turns(
        {
            name: partial(processes.measured, "benchmarks.import_time", {"module": name}, processes.environment())
            for name in (_MODULES[:1] if tiny else _MODULES)
        },
        runs,
    )
    return [
        Finding(
            f"{name}: added by its import",
            processes.median(numbers, "added_ms"),
            "ms",
            processes.median(numbers, "dag_file_ms"),
            _DAG_FILE,
            goal=15.0,
            judged="value",
            runs=runs,
        )
        for name, numbers in told.items()
    ]


def _import(module: str) -> processes.Numbers:
    begun = time.process_time()
    importlib.import_module("airflow.sdk")
    sdk = importlib.import_module("airflow.sdk")
    sdk.DAG, sdk.BaseOperator, sdk.BaseSensorOperator  # noqa: B018 - Airflow imports them when they are first used
    dag_file = time.process_time() - begun
    begun = time.process_time()
    importlib.import_module(f"airflow_provider_bfl.{module}")
    return {"dag_file_ms": 1000 * dag_file, "added_ms": 1000 * (time.process_time() - begun)}


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    processes.tell(_import(processes.arguments()["module"]))
