# SPDX-License-Identifier: Apache-2.0
"""One attempt of a batch in a process of its own, which may be killed: ``python -m tests.batch.attempt ARGUMENTS``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


def start(**arguments: Any) -> subprocess.Popen[str]:
    """Start an attempt; ``arguments`` are the operator's."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batch.attempt", json.dumps(arguments)],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told(process: subprocess.Popen[str], seconds: float = 240.0) -> dict[str, Any]:
    """Wait for an attempt's end; return what it told and its ``output``. ``error`` is None where it succeeded."""
    output, _ = process.communicate(timeout=seconds)
    lines = [line for line in output.splitlines() if line.startswith("TOLD ")]
    assert lines, output[-6000:]
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("TOLD "))
    return result | {"output": output}


def _run(arguments: dict[str, Any]) -> None:
    from airflow_provider_bfl.operators.batch import BflBatchOperator
    from tests.airflow_fixtures import TaskInstance

    operator = BflBatchOperator(task_id="generate", **arguments)
    ti = TaskInstance("generate", {}, try_number=1, max_tries=3)
    try:
        result, error, words = operator.execute({"ti": ti}), None, ""
    except Exception as failure:  # noqa: BLE001 - it is told
        result, error, words = None, type(failure).__name__, str(failure)
    print("TOLD " + json.dumps({"result": result, "error": error, "words": words}), flush=True)


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]))
