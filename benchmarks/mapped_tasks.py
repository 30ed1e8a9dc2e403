# SPDX-License-Identifier: Apache-2.0
"""
What a real Airflow adds to a generation: from its submit until it is stored, less the time it took.

The same generations as mapped tasks of this provider and as mapped groups of the http and amazon providers' operators.
The times are the simulator's and the store's, so nobody judges themselves.
"""

from __future__ import annotations

import json
import statistics
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import processes
from benchmarks.results import Finding
from demo.local_airflow import LocalAirflow

TITLE = "A real Airflow: what a task adds to its generation"

_DAGS = Path(__file__).parent / "dags"
_RUN_SECONDS = 600

_NAMES = {
    "bench_mapped": "mapped tasks that wait in their worker",
    "bench_mapped_deferrable": "mapped tasks that wait in the triggerer",
}
_BASELINE = "HttpOperator, HttpSensor every second, HttpToS3Operator"


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the seconds that each way adds to a generation, and the processor time it takes."""
    generations = 2 if tiny else 8
    with (
        processes.scratch() as folder,
        processes.simulator() as bfl,
        processes.server("benchmarks.sinks") as sink,
        LocalAirflow(
            folder / "airflow",
            dags_folder=_DAGS,
            environment=_environment(bfl, sink.announced["url"], generations),
            # So that no task waits for a place: what is measured is not a queue.
            parallelism=2 * generations,
        ) as airflow,
    ):
        if not tiny:
            # What was measured of flux-2-pro: 11.6 to 13.8 seconds.
            bfl.client.settings(jitter=0.087)
        else:
            bfl.client.settings(latency_scale=0.1)
        dags = ("bench_mapped_deferrable", "bench_http") if tiny else ("bench_http", *_NAMES)
        for dag in dags:
            airflow.api.wait_for_dag(dag)
            airflow.api.unpause(dag)
        run = partial(_run, airflow, bfl, sink.announced["url"])
        run(dags[0])  # the first run of an Airflow is slower than all others
        told = processes.in_turns({dag: partial(run, dag) for dag in dags}, runs)
    findings = []
    for dag, shown in _NAMES.items():
        if dag in told:
            findings += _findings(dag, shown, told, generations, runs)
    return findings


def _findings(
    dag: str, shown: str, told: dict[str, list[processes.Numbers]], generations: int, runs: int
) -> list[Finding]:
    def finding(what: str, number: str, **more: Any) -> Finding:
        own, other = processes.median(told[dag], number), processes.median(told["bench_http"], number)
        return Finding(f"{what}, {generations} {shown}", own, "s", other, _BASELINE, runs=runs, **more)

    return [
        finding("Added to a generation", "added", goal=0.5),
        finding("Processor time of Airflow for a generation", "cpu"),
    ]


def _environment(bfl: processes.Bfl, store: str, generations: int) -> dict[str, str]:
    aws = {"endpoint_url": store, "region_name": "us-east-1"}
    addresses = bfl.client.addresses
    return {
        "BENCH_GENERATIONS": str(generations),
        "AIRFLOW_CONN_BFL_DEFAULT": bfl.client.connection_json("eu"),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", "login": "AK", "password": "SK", "extra": aws}),
        "AIRFLOW_CONN_BENCH_SUBMIT": addresses["submit:eu"],
        "AIRFLOW_CONN_BENCH_POLL": addresses["poll:eu"],
        "AIRFLOW_CONN_BENCH_DELIVERY": addresses["delivery:eu"],
    }


def _run(airflow: LocalAirflow, bfl: processes.Bfl, store: str, dag: str) -> processes.Numbers:
    known = {task.id for task in bfl.client.ledger.tasks}
    before = _cpu_seconds(airflow)
    run_id = airflow.api.trigger(dag)
    finished = airflow.api.wait_run(dag, run_id, timeout_seconds=_RUN_SECONDS)
    if finished.state != "success":
        raise RuntimeError(f"the run of {dag} ended as {finished.state}")
    cpu = _cpu_seconds(airflow) - before
    stored = _stored(store)
    added = []
    for task in bfl.client.ledger.tasks:
        if task.id not in known:
            assert task.finishes_at is not None
            added.append(min(at for path, at in stored.items() if task.id in path) - task.finishes_at)
    return {"added": statistics.median(added), "longest": max(added), "cpu": cpu / len(added)}


def _stored(store: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{store}/_stored", timeout=30) as answer:  # noqa: S310 - the sink's own address
        return {path: each["at"] for path, each in json.load(answer).items()}


def _cpu_seconds(airflow: LocalAirflow) -> float:
    """Return the processor time of all of Airflow, of processes that have ended too."""
    used = 0.0
    for session in airflow.sessions.values():
        for process in session.members():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            used += times.user + times.system + times.children_user + times.children_system
    return used
