# SPDX-License-Identifier: Apache-2.0
"""A real Airflow 3 on loopback: what `airflow standalone` runs, each part to be killed and started again.

    with LocalAirflow(tmp_path / "airflow", dags_folder=dags) as airflow:
        airflow.api.wait_for_dag("my_dag")
        airflow.api.unpause("my_dag")
        run = airflow.api.wait_run("my_dag", airflow.api.trigger("my_dag"))
        assert run.state == "success"

The four components are started one by one, not through `airflow standalone`, for two reasons: the scheduler
and the triggerer then get `--skip-serve-logs` (their log servers cannot be bound to loopback only), and a test
can kill one of them and start it again. A running task's log therefore begins with a note that no log server
answered; the log itself is read from the disk.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from demo.airflow_api import UNMAPPED, AirflowApi, wait_until
from demo.processes import Session, end, spawn
from demo.surface import USER, Component, surface

COMMANDS = surface().commands

# Each of these would let the person's own Airflow or BFL account steer an instance that is to be fresh.
_FOREIGN_PREFIXES = ("AIRFLOW", "BFL_", "OPENLINEAGE_")

_SETTINGS = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


class LocalAirflow:
    """One Airflow 2.11 or 3: SQLite, the user `admin`, its port chosen when made.

    As a context manager it is ready when entered, and has left no process behind when left.

    :param home: AIRFLOW_HOME; made if missing. The components log to `<home>/<component>.log`, the tasks
        under `<home>/logs/`.
    :param dags_folder: where the Dags are. Not on the import path of triggers: see `python_path`.
    :param environment: more environment variables for all components, for example a connection or a setting;
        they win over those of this class.
    :param python_path: folders to import from, in tasks and in the triggerer; installed packages need none.
    :param parallelism: how many tasks may run at once.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        python_path: Sequence[Path] = (),
        parallelism: int = 4,
    ) -> None:
        self.home = home.resolve()
        self.password = secrets.token_urlsafe(12)
        self.sessions: dict[str, Session] = {}
        self._port = _free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self.api = AirflowApi(self.address, USER, self.password)
        self._environment = self._make_environment(dags_folder, environment or {}, python_path, parallelism)

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment that every component gets, for running Airflow's command line beside them."""
        return dict(self._environment)

    def start(self) -> None:
        """Create the database and start all components; returns before they are ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "simple_auth_manager_passwords.json.generated"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}) + "\n")
        self._set_up("db", "migrate")
        if (make_user := surface().make_user) is not None:
            self._set_up(*make_user, self.password)
        for component in COMMANDS:
            self.start_component(component)

    def start_component(self, component: Component) -> None:
        """Start one component, for the first time or after `kill_component`."""
        if component in self.sessions and self.sessions[component].members():
            message = f"The {component} is already running"
            raise RuntimeError(message)
        command = [sys.executable, "-m", "airflow", *COMMANDS[component]]
        self.sessions[component] = spawn(
            command, environment=self._environment, log=self.component_log(component), folder=self.home
        )

    def wait_healthy(self, timeout_seconds: float = 300) -> None:
        """Wait until all components report themselves healthy; raises at once when one of them has ended."""

        def healthy() -> bool:
            for component, session in self.sessions.items():
                if not session.members():
                    log = self.component_log(component)
                    message = f"The {component} has ended by itself; {log} ends with:\n{tail(log)}"
                    raise RuntimeError(message)
            return not self.api.unhealthy()

        wait_until(healthy, timeout_seconds, f"Airflow to be healthy; see {self.home}/*.log")

    def stop(self) -> None:
        """Stop every component, and everything they started."""
        end(self.sessions.values())
        self.sessions.clear()

    def component_log(self, component: str) -> Path:
        """Where the component's output goes."""
        return self.home / f"{component}.log"

    # Breaking things on purpose

    def processes(self, component: Component) -> list[psutil.Process]:
        """The component and all it has started; for the scheduler that includes the running tasks."""
        return self.sessions[component].members()

    def kill_component(self, component: Component) -> None:
        """End a component at once and everything it started, as a power cut does; other components go on."""
        end_now = self.processes(component)
        for process in end_now:
            _kill(process, signal.SIGKILL)
        wait_until(lambda: not self.processes(component), 10, f"the {component} to be gone")

    def task_process(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        map_index: int = UNMAPPED,
        timeout_seconds: float = 30,
    ) -> psutil.Process:
        """The process in which the task's own code runs, once it does; its parent is the supervisor.

        Airflow names it after the task instance's id, which is new with each try.
        """
        found: list[psutil.Process] = []

        def running() -> bool:
            instance = self.api.task_instance(dag_id, run_id, task_id, map_index)
            title = f"airflow worker -- {instance['id']}"
            found[:] = [p for p in self.processes("scheduler") if _title(p) == title]
            return bool(found)

        wait_until(running, timeout_seconds, f"a process of task {task_id}", interval_seconds=0.05)
        return found[0]

    def kill_task(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = UNMAPPED, supervisor: bool = False
    ) -> None:
        """Kill a running task with SIGKILL.

        :param supervisor: kill its supervisor too, so that nobody reports the end: the scheduler notices by
            the missing heartbeat (after `[scheduler] task_instance_heartbeat_timeout`, 300 s unless set).
        """
        task = self.task_process(dag_id, run_id, task_id, map_index=map_index)
        if supervisor and (parent := task.parent()):
            _kill(parent, signal.SIGKILL)
        _kill(task, signal.SIGKILL)

    # Setting up

    def _make_environment(
        self, dags_folder: Path, environment: Mapping[str, str], python_path: Sequence[Path], parallelism: int
    ) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIXES)}
        on_path = [str(folder.resolve()) for folder in python_path]
        return {
            **inherited,
            **_SETTINGS,
            **surface().settings,
            **surface().addressed(self.address, self._port),
            "AIRFLOW_HOME": str(self.home),
            # Shared by all components, also by one that is started again.
            **dict.fromkeys(("AIRFLOW__API__SECRET_KEY", "AIRFLOW__WEBSERVER__SECRET_KEY"), secrets.token_hex(16)),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder.resolve()),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            # Six processes share the file: with SQLite's own 5 s a slow machine answers "database is locked".
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=30",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join([*on_path, *filter(None, [inherited.get("PYTHONPATH")])]),
            **environment,
        }

    def _set_up(self, *arguments: str) -> None:
        log = self.component_log("database")
        with log.open("ab") as output:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            message = f"`airflow {' '.join(arguments[:2])}` failed; {log} ends with:\n{tail(log)}"
            raise RuntimeError(message)


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log file, or a note that there is none."""
    if not path.exists():
        return f"({path} does not exist)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _kill(process: psutil.Process, with_signal: signal.Signals) -> None:
    try:
        process.send_signal(with_signal)
    except psutil.NoSuchProcess:
        return
