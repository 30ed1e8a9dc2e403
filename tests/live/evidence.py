# SPDX-License-Identifier: Apache-2.0
"""Everything a real Airflow has written, and the search through it."""

from __future__ import annotations

import base64
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from urllib.parse import unquote

import requests

from airflow_provider_bfl.simulator import Simulator
from tests.live.conftest import CANARY_KEY, Stack

#: What the delivery hosts of the simulator and of BFL sign with; the ledger's own copy is shortened to an ellipsis.
SIGNATURE = re.compile(rb"sig=(?!\*|%E2%80%A6|\xe2\x80\xa6|\\u2026)[A-Za-z0-9%+/]{8,}")

#: What a task asks Airflow to store: at DEBUG its supervisor logs the whole of it.
_STORED = re.compile(
    rb".*\[debug .*Received message from task runner.*msg=Set(?:RenderedFields|XCom|TaskStateStore)\(.*"
)


@dataclass(frozen=True)
class Writing:
    """One thing that was written: a file, the database, an answer of the REST API."""

    name: str
    content: bytes


def files(stack: Stack) -> list[Writing]:
    """Return every file below AIRFLOW_HOME and every sidecar: all logs, OpenLineage events, what tasks left there."""
    written = [path for path in stack.airflow.home.rglob("*") if path.is_file() and ".db" not in path.name]
    written += stack.landed.rglob("*.json")
    return [Writing(str(path), path.read_bytes()) for path in written]


def logs(stack: Stack) -> list[Writing]:
    """Return the logs alone, of tasks and of components, less what Airflow itself logs at DEBUG of what it stores."""
    found = [each for each in files(stack) if each.name.endswith(".log")]
    return [replace(each, content=_STORED.sub(b"", each.content)) for each in found]


def database(stack: Stack) -> Writing:
    """Return the whole metadata database as SQL."""
    with closing(sqlite3.connect(f"file:{stack.airflow.home}/airflow.db?mode=ro", uri=True, timeout=30)) as connection:
        return Writing("metadata database", "\n".join(connection.iterdump()).encode())


def rest_answers(stack: Stack, dag_id: str, run_id: str) -> list[Writing]:
    """Return what the UI shows of a run, of the connections and of the configuration."""
    run = f"/dags/{dag_id}/dagRuns/{requests.utils.quote(run_id, safe='')}"
    paths = ["/connections", "/connections/bfl_default", "/config", "/eventLogs", "/assets/events"]
    paths += [f"/dagSources/{dag_id}", f"/dags/{dag_id}/details", run]
    for instance in stack.airflow.api.task_instances(dag_id, run_id):
        task = f"{run}/taskInstances/{instance['task_id']}"
        paths += [task, f"{task}/tries", f"{task}/links", f"{task}/xcomEntries"]
        paths += [f"{task}/logs/{number}" for number in range(1, instance["try_number"] + 1)]
        keys = stack.airflow.api.xcom_keys(dag_id, run_id, instance["task_id"])
        paths += [f"{task}/xcomEntries/{key}" for key in keys]
    return [Writing(path, str(stack.airflow.api.call("GET", path)).encode()) for path in paths]


def minted_signatures(simulator: Simulator) -> set[str]:
    """Ask the simulator for the signatures of all finished generations."""
    found = set()
    for task in simulator.ledger.tasks:
        url = f"{simulator.addresses[f'poll:{task.region}']}/v1/get_result?id={task.id}"
        result = requests.get(url, headers={"x-key": CANARY_KEY}, timeout=10).json().get("result") or {}
        found |= set(re.findall(r"sig=([^&]+)", result.get("sample") or ""))
    return found


def holding(secrets: set[str], written: list[Writing]) -> list[str]:
    """Return what holds a secret, in any of the ways it may be spelt."""
    spelt = {spelling for secret in secrets for spelling in _spellings(secret)}
    return [each.name for each in written if any(spelling in each.content for spelling in spelt)]


def signed(written: list[Writing]) -> list[tuple[str, bytes]]:
    """Return what holds anything that looks like a signature."""
    return [(each.name, found[0]) for each in written if (found := SIGNATURE.search(each.content))]


def _spellings(secret: str) -> set[bytes]:
    encoded = base64.b64encode(secret.encode()).rstrip(b"=")
    # The last character also depends on what follows.
    return {secret.encode(), unquote(secret).encode(), encoded[:-1]}
