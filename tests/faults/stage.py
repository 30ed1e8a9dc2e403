# SPDX-License-Identifier: Apache-2.0
"""
The process from which workers and triggerers are forked.

Airflow is imported in it once, so that a fork is cheap, and nothing else ever runs in it: it has no threads, and
nothing of what other tests leave behind in theirs.
"""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from airflow_provider_bfl.simulator import SimulatorClient
from tests.faults.rows import GROUPS
from tests.faults.world import Cell, Form, Mode, Place, Row, World

_ROOT = Path(__file__).parents[2]

#: What workers and triggerers import while they run.
_WORKING_SET = (
    "aiohttp",
    "asgiref.sync",
    "cryptography.fernet",
    "jsonschema",
    "requests",
    "airflow.models.dag",
    "airflow.providers.common.compat.connection",
    "airflow.providers.standard.triggers.temporal",
    "airflow_provider_bfl.operators.flow",
    "airflow_provider_bfl.operators.generation",
    "airflow_provider_bfl.sensors.generation",
    "airflow_provider_bfl.landing.files",
    "airflow_provider_bfl.transfers.bfl_to_object_storage",
    "airflow_provider_bfl.transport.aio",
    "airflow_provider_bfl.transport.sync",
    "airflow_provider_bfl.triggers.generation",
)

#: The same, of what either Airflow 2 or Airflow 3 has.
_OF_ONE_AIRFLOW = (
    "airflow.decorators",
    "airflow.macros",
    "airflow.models.serialized_dag",
    "airflow.models.taskinstancehistory",
    "airflow.sdk.execution_time.supervisor",
    "airflow.serialization.serialized_objects",
)


class Stage:
    """The process, as the tests see it; a context manager."""

    def __enter__(self) -> Self:
        self._line, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.faults.stage", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=_ROOT, pass_fds=(theirs.fileno(),))
        theirs.close()
        self._messages = self._line.makefile("rw")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without a partner it ends by itself.
        self._messages.close()
        self._line.close()
        self._process.wait()

    def play(self, row: Row, form: Form, mode: Mode, *, place: Place, simulator: SimulatorClient, root: Path) -> Cell:
        """
        Run one cell of the grid and return what came of it.

        :raises AssertionError: something happened that no row allows.
        """
        told = [row.fault, form, mode, place, simulator.control_url, str(root)]
        print(json.dumps(told), file=self._messages, flush=True)
        answer = json.loads(self._messages.readline())
        assert isinstance(answer, dict), answer
        return Cell(**answer | {"tries": tuple(answer["tries"])})


def main() -> None:
    """Play what the other end of the line asks for, until it hangs up."""
    _import_airflow()
    rows = {row.fault: row for rows in GROUPS.values() for row in rows}
    with socket.socket(fileno=int(sys.argv[1])) as line, line.makefile("rw") as messages:
        for message in messages:
            fault, form, mode, place, control_url, root = json.loads(message)
            world = World(rows[fault], form, mode, place=place, simulator=SimulatorClient(control_url), root=Path(root))
            try:
                answer: object = asdict(world.run())
            except Exception:  # noqa: BLE001 - a test fails over there, not this process here
                answer = traceback.format_exc()
            print(json.dumps(answer), file=messages, flush=True)


def _import_airflow() -> None:
    for module in _WORKING_SET:
        importlib.import_module(module)
    for module in _OF_ONE_AIRFLOW:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    from airflow.models import import_all_models
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    import_all_models()  # type: ignore[no-untyped-call]
    # Looks the file systems of all installed providers up.
    ObjectStoragePath("file:///").exists()


if __name__ == "__main__":
    main()
