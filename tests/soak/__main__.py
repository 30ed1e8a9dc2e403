# SPDX-License-Identifier: Apache-2.0
"""
Load one Airflow with everything while things break: ``python -m tests.soak [--minutes 30] [--seed N]``.

It ends with a ledger: what BFL billed, what the tasks and manifests say, what is stored. The exit code is 1 when they
disagree, when a run failed, or when the triggerer grew.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import requests

from airflow_provider_bfl.simulator import Simulator
from demo.airflow_api import AirflowApi
from demo.local_airflow import LocalAirflow
from tests.distributed.books import Books, Outcome
from tests.distributed.outcomes import MANIFEST, of_manifest, of_result, stored_images
from tests.distributed.services import find_programs, postgres
from tests.soak.load import BATCH, MAPPED, WORKLOADS, Load

CREDITS = 1_000_000.0

#: Fewer than BFL gives, so that a load that two cores can carry fills the account.
SLOTS = 10

#: Less than `TOO_LATE_SECONDS` of the faults.
CONNECTION_TIMEOUT_SECONDS = 8

REST_SECONDS = 900

#: What a triggerer may grow by in its last life, after it has loaded its code: noise of an allocator, not a leak.
MAX_GROWTH_MB = 60

_RECORD = "bfl_generation"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A long run of everything, with faults.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long runs are started (default: 30)")
    parser.add_argument("--seed", type=int, help="repeat the faults and kills of an earlier soak")
    parser.add_argument("--folder", type=Path, help="a new folder to keep logs and images in (default: none)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"Soak of {arguments.minutes:g} minutes with seed {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as thrown_away,
        Simulator(starting_credits=CREDITS, seed=seed) as simulator,
        _airflow(folder := (arguments.folder or Path(thrown_away)).resolve()) as airflow,
    ):
        simulator.settings(overall_limit=SLOTS)
        _prepare(airflow, simulator)
        load = Load(airflow, simulator, seconds=arguments.minutes * 60, seed=seed)
        load.drive()
        print("Nothing breaks any more; waiting for the runs that are left", flush=True)
        load.wait_for_the_rest(REST_SECONDS)
        return _judge(load, _books(airflow, simulator, load, folder / "landed"))


@contextmanager
def _airflow(folder: Path) -> Iterator[LocalAirflow]:
    environment = {
        "SOAK_DESTINATION": f"file://{folder}/landed/",
        "SOAK_MAPPED": str(MAPPED),
        "SOAK_BATCH": str(BATCH),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    with ExitStack() as stack:
        database = stack.enter_context(postgres(find_programs()))
        environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://{database}"
        dags = Path(__file__).parent / "dags"
        yield stack.enter_context(
            LocalAirflow(folder / "airflow", dags_folder=dags, environment=environment, parallelism=8)
        )


def _prepare(airflow: LocalAirflow, simulator: Simulator) -> None:
    connection = simulator.connection()
    connection["extra"]["timeout"] = CONNECTION_TIMEOUT_SECONDS
    airflow.api.put_connection("bfl_default", **connection)
    for dag_id in WORKLOADS:
        airflow.api.wait_for_dag(dag_id, timeout_seconds=180)
        airflow.api.unpause(dag_id)


def _books(airflow: LocalAirflow, simulator: Simulator, load: Load, landed: Path) -> Books:
    ledger = simulator.ledger
    return Books(
        wanted=[prompt for *_, prompt in load.prompts()],
        outcomes=list(_outcomes(airflow.api, load, landed)),
        ledger=ledger,
        images=stored_images(landed),
        balance=(CREDITS, sum(ledger.credits.values())),
        slots=SLOTS,
    )


def _outcomes(api: AirflowApi, load: Load, landed: Path) -> Iterator[Outcome]:
    for run_id, dag_id in load.runs.items():
        if dag_id == "soak_batch":
            manifest = landed / "batch" / run_id / MANIFEST
            for position, outcome in of_manifest(manifest) if manifest.exists() else ():
                if outcome:
                    yield replace(outcome, prompt=f"batch {run_id} {position}")
    for run_id, workload, number, prompt in load.prompts():
        dag_id = load.runs[run_id]
        if dag_id != "soak_batch":
            outcome = _outcome(api, dag_id, run_id, workload, number if workload == "mapped" else -1)
            if outcome:
                yield replace(outcome, prompt=prompt)


def _outcome(api: AirflowApi, dag_id: str, run_id: str, task_id: str, map_index: int) -> Outcome | None:
    state = api.task_instance(dag_id, run_id, task_id, map_index)["state"]
    submit = f"{task_id}-submit" if dag_id == "soak_three" else task_id
    doubtful = _is_in_doubt(api, dag_id, run_id, submit, map_index)
    if state == "skipped":
        return Outcome("", "moderated", doubtful=doubtful)
    if state != "success":
        return None
    outcome = of_result("", api.xcom(dag_id, run_id, task_id, map_index=map_index))
    return replace(outcome, doubtful=outcome.doubtful or doubtful)


def _is_in_doubt(api: AirflowApi, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
    """Return what the record of the submitting task says; a transfer's result cannot know it."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/state-store/{_RECORD}"
    try:
        record = api.call("GET", path, params={"map_index": map_index})["value"]
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise
        return False
    return bool(record["possibly_billed_twice"])


def _judge(load: Load, books: Books) -> int:
    print(books.report())
    print(f"runs: {len(load.runs)}, faults planted: {load.faults.total()}, kills: {dict(load.kills)}")
    print(load.memory.report(), flush=True)
    wrong = books.disagreements()
    wrong += [f"run {run} of {load.runs[run]} is {state}" for run, state in load.states.items() if state != "success"]
    growth = load.memory.growth()
    if growth is not None and growth > MAX_GROWTH_MB:
        wrong.append(f"the triggerer grew by {growth:.0f} MB in its last life")
    print("\n".join(wrong) if wrong else "POSTs, images, rows and credits agree.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
