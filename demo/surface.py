# SPDX-License-Identifier: Apache-2.0
"""How the installed Airflow is started and talked to: the one place where Airflow 2 and 3 differ here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Literal

Component = Literal["api-server", "scheduler", "dag-processor", "triggerer"]
USER = "admin"


@dataclass(frozen=True, slots=True)
class Surface:
    """
    What an Airflow's command line, settings and REST API look like.

    :param commands: the command of each component; ``api-server`` is whatever serves UI and REST API.
    :param settings: settings that only this Airflow has.
    :param addressed: settings that depend on the port and address it is to be served at.
    :param make_user: the command that makes a user with a password, given at its end; None where a file names it.
    :param api: path of the REST API.
    :param health: path of the health report.
    :param bearer: whether a token is asked for first; otherwise every request carries name and password.
    :param run_body: what the body of a new run needs besides its configuration.
    :param xcom_params: what makes the API answer with an XCom's own value.
    """

    commands: Mapping[Component, Sequence[str]]
    settings: Mapping[str, str]
    addressed: Callable[[str, int], Mapping[str, str]]
    make_user: Sequence[str] | None
    api: str
    health: str
    bearer: bool
    run_body: Mapping[str, Any]
    xcom_params: Mapping[str, Any]


def _address_3(address: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
    }


def _address_2(address: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__WEBSERVER__BASE_URL": address,
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
    }


# Their log servers cannot be bound to loopback only.
_SCHEDULER = ("scheduler", "--skip-serve-logs")
_TRIGGERER = ("triggerer", "--skip-serve-logs")

_AIRFLOW_3 = Surface(
    commands={
        "api-server": ("api-server",),
        "scheduler": _SCHEDULER,
        "dag-processor": ("dag-processor",),
        "triggerer": _TRIGGERER,
    },
    settings={
        # Airflow 3.0 does not answer with an XCom's own value otherwise.
        "AIRFLOW__API__ENABLE_XCOM_DESERIALIZE_SUPPORT": "True",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        # A task that has just deferred is watched for this long; with the default of 5 s the scheduler fails a
        # task whose trigger fires sooner (Airflow 3.2 and 3.3 with LocalExecutor).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    },
    addressed=_address_3,
    make_user=None,
    api="/api/v2",
    health="/api/v2/monitor/health",
    bearer=True,
    run_body={"logical_date": None},
    xcom_params={"deserialize": True},
)

_AIRFLOW_2 = Surface(
    # With SQLite the scheduler reads the Dag files itself, and tasks run one after the other.
    commands={"api-server": ("webserver",), "scheduler": _SCHEDULER, "triggerer": _TRIGGERER},
    settings={
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
        "AIRFLOW__WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "300",
        "AIRFLOW__WEBSERVER__WEB_SERVER_WORKER_TIMEOUT": "300",
        "AIRFLOW__WEBSERVER__WORKERS": "1",
    },
    addressed=_address_2,
    make_user=(
        *("users", "create", "--username", USER, "--role", "Admin", "--email", "admin@example.com"),
        *("--firstname", "A", "--lastname", "Person", "--password"),
    ),
    api="/api/v1",
    health="/health",
    bearer=False,
    run_body={},
    xcom_params={"stringify": False},
)


@cache
def surface() -> Surface:
    """Return the surface of the Airflow that is installed here, which is not imported: that would make it a home."""
    try:
        # Airflow 3 is made of several distributions.
        distribution("apache-airflow-task-sdk")
    except PackageNotFoundError:
        return _AIRFLOW_2
    return _AIRFLOW_3
