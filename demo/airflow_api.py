# SPDX-License-Identifier: Apache-2.0
"""Airflow's REST API, as far as the demo and the live tests use it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from demo.surface import surface

HEALTHY = "healthy"
FINISHED_RUN = frozenset({"success", "failed"})
UNMAPPED = -1

# SQLite has one writer: a request that meets another one is rolled back and answered 500, and may be sent again.
DATABASE_BUSY = '"reason":"Database error"'
MAX_REPEATS = 10

_ON_EVERY_LINE = frozenset(
    {"timestamp", "event", "level", "logger", "filename", "lineno"}
    | {"dag_id", "run_id", "task_id", "ti_id", "map_index", "try_number"}
)


@dataclass(frozen=True, slots=True)
class StateChange:
    """A task instance was first seen in a state.

    :param at: seconds since 1970, of the poll that saw it; a state shorter than the interval can be missing.
    :param state: None before the scheduler has looked at the task.
    """

    at: float
    task_id: str
    map_index: int
    try_number: int
    state: str | None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """How a run ended (`success` or `failed`), and every state its task instances were seen in."""

    dag_id: str
    run_id: str
    state: str
    changes: tuple[StateChange, ...]

    def states_of(self, task_id: str, map_index: int = UNMAPPED) -> list[str | None]:
        """The states of one task instance in the order they were seen, over all its tries."""
        return [c.state for c in self.changes if (c.task_id, c.map_index) == (task_id, map_index)]


class AirflowApi:
    """A logged-in client; every answer outside 2xx raises `requests.HTTPError` with the body in its message.

    :param address: `http://127.0.0.1:<port>`, without a path.
    :param user: a user of Airflow's SimpleAuthManager.
    :param password: its password.
    """

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        self._login = {"username": user, "password": password}
        self._token: str | None = None

    def call(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request to `path` below the API's own and return the decoded JSON, or None for an empty answer."""
        response = self._send(method, path, body, params)
        for _ in range(MAX_REPEATS):
            if response.status_code == requests.codes.unauthorized:
                self._token = None
            elif response.ok or DATABASE_BUSY not in response.text:
                break
            else:
                time.sleep(0.5)
            response = self._send(method, path, body, params)
        if not response.ok:
            message = f"{method} {path} answered {response.status_code}: {response.text[:2000]}"
            raise requests.HTTPError(message, response=response)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, body: Any, params: Mapping[str, Any] | None) -> requests.Response:
        return requests.request(
            method,
            f"{self.address}{surface().api}{path}",
            json=body,
            params=params,
            headers={"Authorization": self._authorization(), "Accept": "application/json"},
            timeout=60,
        )

    def _authorization(self) -> str:
        if not surface().bearer:
            return "Basic " + base64.b64encode(":".join(self._login.values()).encode()).decode()
        if self._token is None:
            answer = requests.post(f"{self.address}/auth/token", json=self._login, timeout=30)
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        return f"Bearer {self._token}"

    def unhealthy(self) -> list[str]:
        """The components that are not healthy now; all of them while the API server does not answer."""
        try:
            answer = requests.get(f"{self.address}{surface().health}", timeout=5)
            health = answer.json() if answer.ok else {}
        except (requests.RequestException, ValueError):
            health = {}
        # A component that has never reported is listed with the status null.
        named = ("metadatabase", *(each.replace("-", "_") for each in surface().commands if each != "api-server"))
        return [name for name in named if (health.get(name) or {}).get("status") != HEALTHY]

    # Dags and runs

    def wait_for_dag(self, dag_id: str, timeout_seconds: float = 60) -> None:
        """Wait until Airflow has parsed the Dag; raises `TimeoutError` with the import errors there are."""

        def known() -> bool:
            try:
                self.call("GET", f"/dags/{_in_path(dag_id)}")
            except requests.HTTPError as error:
                if error.response.status_code == requests.codes.not_found:
                    return False
                raise
            return True

        try:
            wait_until(known, timeout_seconds, f"Dag {dag_id} to be parsed")
        except TimeoutError as error:
            broken = [f"{e['filename']}:\n{e['stack_trace']}" for e in self.import_errors()]
            message = "\n".join([str(error), *(broken or ["There is no import error."])])
            raise TimeoutError(message) from None

    def import_errors(self) -> list[dict[str, Any]]:
        """Airflow's import errors: `filename`, `stack_trace`, …"""
        return list(self.call("GET", "/importErrors")["import_errors"])

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the Dag."""
        self.call("PATCH", f"/dags/{_in_path(dag_id)}", body={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run and return its run id."""
        body = {**surface().run_body, "conf": dict(conf or {}), **({"dag_run_id": run_id} if run_id else {})}
        return str(self.call("POST", f"/dags/{_in_path(dag_id)}/dagRuns", body=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run as Airflow describes it."""
        return dict(self.call("GET", _run_path(dag_id, run_id)))

    def wait_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout_seconds: float = 180,
        on_change: Callable[[StateChange], None] | None = None,
    ) -> FinishedRun:
        """Wait until a run has succeeded or failed; a failed run is returned, not raised.

        :param on_change: called once for each state a task instance is seen in.
        """
        latest: dict[tuple[str, int], tuple[int, str | None]] = {}
        changes: list[StateChange] = []

        def finished() -> bool:
            state = self.run(dag_id, run_id)["state"]
            for task in self.task_instances(dag_id, run_id):
                key, now = (task["task_id"], task["map_index"]), (task["try_number"], task["state"])
                if latest.get(key) != now:
                    latest[key] = now
                    changes.append(StateChange(time.time(), *key, *now))
                    if on_change:
                        on_change(changes[-1])
            return state in FINISHED_RUN

        try:
            wait_until(finished, timeout_seconds, f"run {run_id} of Dag {dag_id} to finish")
        except TimeoutError as error:
            message = f"{error}; its tasks (try, state): {latest}"
            raise TimeoutError(message) from None
        return FinishedRun(dag_id, run_id, self.run(dag_id, run_id)["state"], tuple(changes))

    def clear(self, dag_id: str, run_id: str, task_ids: Collection[str]) -> None:
        """Clear task instances, whatever their state, so that they run again in the same run."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", f"/dags/{_in_path(dag_id)}/clearTaskInstances", body=body)

    # Task instances

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances, mapped ones each, at most 1 000; of each the current try."""
        found: list[dict[str, Any]] = []
        for offset in range(0, 1000, 100):
            page = {"limit": 100, "offset": offset}
            answer = self.call("GET", f"{_run_path(dag_id, run_id)}/taskInstances", params=page)
            found += answer["task_instances"]
            if len(found) >= answer["total_entries"]:
                break
        return found

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = UNMAPPED) -> dict[str, Any]:
        """One task instance: `id`, `state`, `try_number`, `pid`, `start_date`, `end_date`, …"""
        return dict(self.call("GET", _task_path(dag_id, run_id, task_id, map_index)))

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = UNMAPPED) -> list[dict[str, Any]]:
        """Every try of a task instance, the first one first."""
        answer = self.call("GET", f"{_task_path(dag_id, run_id, task_id, map_index)}/tries")
        return sorted(answer["task_instances"], key=lambda attempt: int(attempt["try_number"]))

    def wait_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str],
        *,
        map_index: int = UNMAPPED,
        timeout_seconds: float = 60,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of `states` and return it."""
        seen: list[dict[str, Any]] = []

        def there() -> bool:
            seen[:] = [self.task_instance(dag_id, run_id, task_id, map_index)]
            return seen[0]["state"] in states

        wait_until(there, timeout_seconds, f"task {task_id} of run {run_id} to be {' or '.join(states)}")
        return seen[0]

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = UNMAPPED) -> None:
        """Mark a task instance `success`, `failed` or `skipped`, as a person does in the UI."""
        self.call("PATCH", _task_path(dag_id, run_id, task_id, map_index), body={"new_state": state})

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        key: str = "return_value",
        map_index: int = UNMAPPED,
    ) -> Any:
        """The value of an XCom, decoded."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_in_path(task_id)}/xcomEntries/{_in_path(key)}"
        return self.call("GET", path, params={"map_index": map_index, **surface().xcom_params})["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str, map_index: int = UNMAPPED) -> set[str]:
        """The keys of the XComs that a task instance has pushed."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_in_path(task_id)}/xcomEntries"
        entries = self.call("GET", path, params={"map_index_filter": map_index, "limit": 100})["xcom_entries"]
        return {entry["key"] for entry in entries}

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = UNMAPPED) -> str:
        """The log of one try, a line per entry with its own fields as JSON at the end, and a traceback as lines.

        The raw log, for example to search it for a secret, is in the files under `<home>/logs/`.
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{_in_path(task_id)}/logs/{try_number}"
        answer = self.call("GET", path, params={"map_index": map_index, "full_content": True})
        return "\n".join(_log_line(entry) for entry in answer["content"])

    # Connections and pools

    def put_connection(self, conn_id: str, conn_type: str, **fields: Any) -> None:
        """Create a connection, or replace it.

        :param fields: `host`, `login`, `password`, `schema`, `port`, `description`, and `extra` as a mapping.
        """
        if isinstance(fields.get("extra"), Mapping):
            fields["extra"] = json.dumps(fields["extra"])
        # Airflow's own "overwrite" keeps what the new connection leaves out.
        self._delete(f"/connections/{_in_path(conn_id)}")
        self.call("POST", "/connections", body={"connection_id": conn_id, "conn_type": conn_type, **fields})

    def put_pool(self, name: str, slots: int, *, include_deferred: bool = True) -> None:
        """Create a pool, or replace it."""
        body = {"name": name, "slots": slots, "include_deferred": include_deferred}
        self._delete(f"/pools/{_in_path(name)}")
        self.call("POST", "/pools", body=body)

    def _delete(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except requests.HTTPError as error:
            if error.response.status_code != requests.codes.not_found:
                raise


def wait_until(
    happened: Callable[[], bool], timeout_seconds: float, what: str, *, interval_seconds: float = 0.25
) -> None:
    """Call `happened` until it is true; raises `TimeoutError` that names `what` was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while not happened():
        if time.monotonic() > deadline:
            message = f"Waited {timeout_seconds:g} s in vain for {what}"
            raise TimeoutError(message)
        time.sleep(interval_seconds)


def _in_path(name: str) -> str:
    return quote(name, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{_in_path(dag_id)}/dagRuns/{_in_path(run_id)}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    return f"{_run_path(dag_id, run_id)}/taskInstances/{_in_path(task_id)}/{map_index}"


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    fields = {k: v for k, v in entry.items() if k not in _ON_EVERY_LINE}
    errors = fields.pop("error_detail", None) or []
    parts = [entry.get("timestamp"), (entry.get("level") or "").upper(), entry.get("event")]
    if fields:
        parts.append(json.dumps(fields, default=str))
    lines = [" ".join(str(part) for part in parts if part)]
    for error in errors:
        lines += [f"  {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error["frames"]]
        lines.append(f"{error['exc_type']}: {error['exc_value']}")
    return "\n".join(lines)
