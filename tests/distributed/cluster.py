# SPDX-License-Identifier: Apache-2.0
"""One Airflow of several machines: CeleryExecutor, Redis, PostgreSQL, and workers and triggerers to kill."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from demo.airflow_api import wait_until
from demo.local_airflow import LocalAirflow
from demo.processes import spawn
from tests.distributed.services import find_programs, postgres, redis

WORKERS = ("worker-1", "worker-2")
SECOND_TRIGGERER = "triggerer-2"
TRIGGERERS = ("triggerer", SECOND_TRIGGERER)

#: Tasks that a worker runs at once. The batch takes one of these slots, however many generations it has in flight.
CONCURRENCY = 4

#: A worker that died is noticed by its tasks' missing heartbeats: late enough for a loaded machine to be only slow.
_SETTINGS = {
    "AIRFLOW__CELERY__RESULT_BACKEND_SQLALCHEMY_ENGINE_OPTIONS": '{"pool_recycle": 1800}',
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # What the dead worker had taken from the queue and not begun is queued again.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}


class Cluster(LocalAirflow):
    """
    What `LocalAirflow` starts, with another triggerer and two Celery workers.

    :param home: AIRFLOW_HOME, shared by all of them as their log folder and Dags.
    :param database: ``user@host:port/name`` of an empty PostgreSQL database.
    :param broker: URL of a Redis.
    """

    def __init__(
        self, home: Path, *, dags_folder: Path, database: str, broker: str, environment: Mapping[str, str]
    ) -> None:
        self._database = database
        storage = {
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql://{database}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
        }
        super().__init__(
            home, dags_folder=dags_folder, environment={**_SETTINGS, **storage, **environment}, parallelism=64
        )

    def start(self) -> None:
        """Create the database and start everything; returns before it is ready."""
        super().start()
        for name in (SECOND_TRIGGERER, *WORKERS):
            self.start_more(name)

    def start_more(self, name: str) -> None:
        """Start a triggerer or worker, for the first time or after `kill`."""
        command = ["triggerer", "--skip-serve-logs"]
        if name in WORKERS:
            command = ["celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@%h"]
            command += ["--pid", str(self.home / f"{name}.pid")]
        (self.home / f"{name}.pid").unlink(missing_ok=True)
        self.sessions[name] = spawn(
            [sys.executable, "-m", "airflow", *command],
            environment=self.environment,
            log=self.component_log(name),
            folder=self.home,
        )

    def kill(self, name: str) -> None:
        """End a triggerer or worker and everything it runs with SIGKILL, as a lost machine does."""
        for process in self.sessions[name].members():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        wait_until(lambda: not self.sessions[name].members(), 30, f"{name} to be gone")

    def wait_workers(self, timeout_seconds: float = 180) -> None:
        """Wait until both workers take tasks."""
        ready = " ready."
        logs = [self.component_log(name) for name in WORKERS]
        wait_until(
            lambda: all(ready in log.read_text(errors="replace") for log in logs), timeout_seconds, "the Celery workers"
        )

    def worker_of(self, dag_id: str, run_id: str, task_id: str) -> tuple[str, psutil.Process] | None:
        """Return which worker runs a task now, and the process; None when none does."""
        pid = self.api.task_instance(dag_id, run_id, task_id)["pid"]
        try:
            process = psutil.Process(pid) if pid else None
            session = os.getsid(pid) if pid else None
        except (psutil.NoSuchProcess, ProcessLookupError):
            return None
        name = next((name for name in WORKERS if self.sessions[name].leader == session), None)
        return (name, process) if name and process else None

    def cpu_seconds(self, name: str) -> float:
        """Return the CPU time of a component and of all it has run, in seconds."""
        return sum(cpu_seconds(process) for process in self.sessions[name].members())

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the metadata database itself."""
        import psycopg2  # type: ignore[import-untyped]

        with closing(psycopg2.connect(f"postgresql://{self._database}")) as database, database.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def triggers_held(self) -> dict[int, int]:
        """Return how many triggers each triggerer has, by its job's id."""
        return dict(self.query("select triggerer_id, count(*) from trigger where triggerer_id is not null group by 1"))


@contextmanager
def running_cluster(home: Path, *, dags_folder: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """
    Start Redis, PostgreSQL and a cluster, and leave no process behind.

    :raises MissingServerError: Redis or PostgreSQL is not installed.
    """
    programs = find_programs()
    with ExitStack() as stack:
        broker = stack.enter_context(redis(programs))
        database = stack.enter_context(postgres(programs))
        cluster = Cluster(home, dags_folder=dags_folder, database=database, broker=broker, environment=environment)
        yield stack.enter_context(cluster)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process and of those of its children that have ended, in seconds."""
    # The times of processes that have ended are their parent's, who waited for them.
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0
