# SPDX-License-Identifier: Apache-2.0
"""`make demo`: two example Dags in a real Airflow, against the simulator or, with `BFL_API_KEY`, BFL.

Everything is kept under `demo-home/`, and every process listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from demo.airflow_api import FinishedRun, StateChange, wait_until
from demo.local_airflow import LocalAirflow, tail
from demo.processes import Session, end, spawn
from demo.surface import USER

REPOSITORY: Final = Path(__file__).resolve().parent.parent
HOME: Final = REPOSITORY / "demo-home"
IMAGES: Final = HOME / "images"
STATE: Final = HOME / "running.json"
AIRFLOW_HOME: Final = HOME / "airflow"
SIMULATOR_LOG: Final = HOME / "simulator.log"
DAGS: Final = ("bfl_three_tasks", "bfl_one_operator")
CONN_ID: Final = "bfl_default"
RUN_TIMEOUT_SECONDS: Final = 180

# Half of BFL's own times: long enough to watch a task wait, short enough for a first look.
LATENCY_SCALE: Final = "0.5"

MAGIC: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WebP"}

_BEGAN: Final = time.monotonic()


class DemoError(Exception):
    """The demo did not do what it promises; the message says what, and where to look."""


def main() -> int:
    """Run, or stop, the demo; the exit code is 0 when it did what it should."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop everything again at the end")
    parser.add_argument("--stop", action="store_true", help="stop what an earlier run left running")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    if arguments.stop:
        return stop()
    try:
        return run(once=arguments.once)
    except (DemoError, RuntimeError, TimeoutError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        print(f"The logs are in {_short(AIRFLOW_HOME)}/.", file=sys.stderr)
        if STATE.exists():
            print("It keeps running, for you to look; stop it with: make demo-stop", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def run(*, once: bool) -> int:
    """Start the demo unless it already runs, and check that the images have landed."""
    state = _state()
    if any(session.members() for session in _sessions(state)):
        print(f"The demo already runs: {state['address']} (user {USER}, password {state['password']})")
        print("Stop it with: make demo-stop")
        # A caller that wanted a whole run, from start to end, did not get one.
        return 1 if once else 0
    _clear()
    key = os.environ.pop("BFL_API_KEY", "")
    before = _image_times()
    sessions: dict[str, Session] = {}
    keep = False
    try:
        connection = _real_connection(key) if key else _start_simulator(sessions)
        airflow = _start_airflow(connection if key else None, sessions)
        _offer_connection(airflow, connection, key_in_environment=bool(key))
        runs = _run_dags(airflow)
        keep = not once
        _check_runs(airflow, runs)
        landed = _check_images(before)
    finally:
        if not keep:
            _say("Stopping everything …")
            end(sessions.values())
            STATE.unlink(missing_ok=True)
    _report(landed, airflow if keep else None)
    return 0


def stop() -> int:
    """Stop what an earlier run left running."""
    sessions = _sessions(_state())
    if not any(session.members() for session in sessions):
        print("The demo is not running.")
    else:
        end(sessions)
        print(f"Stopped. The images are still in {_short(IMAGES)}/.")
    STATE.unlink(missing_ok=True)
    return 0


# Starting


def _start_simulator(sessions: dict[str, Session]) -> dict[str, Any]:
    _say("Starting the simulator of BFL's API (nothing is billed; set BFL_API_KEY to use the real one) …")
    options = ["--json", "--latency-scale", LATENCY_SCALE]
    command = [sys.executable, "-m", "airflow_provider_bfl.simulator", *options]
    sessions["simulator"] = spawn(command, environment=os.environ, log=SIMULATOR_LOG, folder=HOME)
    _save(sessions)
    announced: list[dict[str, Any]] = []

    def ready() -> bool:
        if not sessions["simulator"].members():
            _fail(f"the simulator ended by itself; {_short(SIMULATOR_LOG)} ends with:\n{tail(SIMULATOR_LOG)}")
        lines = SIMULATOR_LOG.read_text().splitlines()
        announced[:] = [json.loads(line) for line in lines if line.startswith('{"')]
        return bool(announced)

    wait_until(ready, 30, f"the simulator to announce itself in {_short(SIMULATOR_LOG)}")
    return dict(announced[0]["connection"])


def _real_connection(key: str) -> dict[str, Any]:
    _say("BFL_API_KEY is set: using BFL's real API, which bills the generation of each Dag.")
    return {"conn_type": "bfl", "password": key}


def _start_airflow(connection: dict[str, Any] | None, sessions: dict[str, Session]) -> LocalAirflow:
    environment = {"BFL_EXAMPLE_DESTINATION": f"file://{IMAGES}/"}
    if connection:
        environment[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(connection)
    airflow = LocalAirflow(AIRFLOW_HOME, dags_folder=REPOSITORY / "example_dags", environment=environment)
    _say("Starting Airflow: API server, scheduler, Dag processor, triggerer (about half a minute) …")
    try:
        airflow.start()
    finally:
        sessions.update(airflow.sessions)
        _save(sessions, airflow)
    airflow.wait_healthy()
    _say(f"Airflow is up at {airflow.address} (user {USER}, password {airflow.password})")
    return airflow


def _offer_connection(airflow: LocalAirflow, connection: dict[str, Any], *, key_in_environment: bool) -> None:
    if not key_in_environment:
        airflow.api.put_connection(CONN_ID, **connection, description="The simulator of BFL's API")
        return
    # Airflow looks into the environment first; this row is only what a person sees under Admin, Connections.
    origin = f"The key is in AIRFLOW_CONN_{CONN_ID.upper()} of this demo's processes, not stored here"
    airflow.api.put_connection(CONN_ID, "bfl", description=origin)


def _run_dags(airflow: LocalAirflow) -> list[FinishedRun]:
    def follow(dag_id: str) -> FinishedRun:
        def told(change: StateChange) -> None:
            if change.state:
                mapped = f"[{change.map_index}]" if change.map_index >= 0 else ""
                attempt = f" (try {change.try_number})" if change.try_number > 1 else ""
                _say(f"{dag_id}: {change.task_id}{mapped} {change.state}{attempt}")

        return airflow.api.wait_run(dag_id, run_ids[dag_id], timeout_seconds=RUN_TIMEOUT_SECONDS, on_change=told)

    _say(f"Running the Dags {' and '.join(DAGS)} …")
    run_ids = {}
    for dag_id in DAGS:
        airflow.api.wait_for_dag(dag_id)
        airflow.api.unpause(dag_id)
        run_ids[dag_id] = airflow.api.trigger(dag_id)
    with ThreadPoolExecutor(len(DAGS)) as pool:
        return list(pool.map(follow, DAGS))


# Checking


def _check_runs(airflow: LocalAirflow, runs: list[FinishedRun]) -> None:
    told = []
    for finished in runs:
        if finished.state == "success":
            continue
        told.append(f"the Dag {finished.dag_id} ended as {finished.state}.")
        for task in airflow.api.task_instances(finished.dag_id, finished.run_id):
            if task["state"] == "failed":
                log = airflow.api.log(
                    finished.dag_id,
                    finished.run_id,
                    task["task_id"],
                    try_number=task["try_number"],
                    map_index=task["map_index"],
                )
                end_of_log = "\n".join(log.splitlines()[-30:])
                told.append(f"The log of task {task['task_id']} ends with:\n{end_of_log}")
    if told:
        _fail("\n".join(told))


def _check_images(before: dict[Path, float]) -> list[Path]:
    landed = [path for path, written in _image_times().items() if written != before.get(path)]
    if len(landed) < len(DAGS):
        _fail(f"{len(DAGS)} images should be in {_short(IMAGES)}/, but these are new: {landed or 'none'}")
    for image in landed:
        sidecar = image.with_name(f"{image.name}.json")
        if not sidecar.exists():
            _fail(f"{_short(image)} has no sidecar {sidecar.name} beside it")
        json.loads(sidecar.read_text())
        if _kind(image) is None:
            _fail(f"{_short(image)} is no PNG, JPEG or WebP: it begins with {image.read_bytes()[:12]!r}")
    return landed


def _image_times() -> dict[Path, float]:
    if not IMAGES.exists():
        return {}
    files = (path for path in sorted(IMAGES.rglob("*")) if path.is_file() and path.suffix != ".json")
    return {path: path.stat().st_mtime for path in files}


def _kind(image: Path) -> str | None:
    head = image.read_bytes()[:12]
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def _report(landed: list[Path], airflow: LocalAirflow | None) -> None:
    print("\nThese images have landed, each with a sidecar .json beside it:")
    for image in landed:
        print(f"  {_short(image)}  ({_kind(image)}, {image.stat().st_size:,} bytes)")
    print(f"Logs of the tasks:  {_short(AIRFLOW_HOME / 'logs')}/")
    if airflow:
        print(f"Airflow's UI:       {airflow.address}  (user {USER}, password {airflow.password})")
        print("It keeps running; stop it with: make demo-stop")


# What is kept between calls


def _clear() -> None:
    """Remove the last run's Airflow; its images stay, since real ones were paid for."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
    SIMULATOR_LOG.unlink(missing_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)


def _save(sessions: dict[str, Session], airflow: LocalAirflow | None = None) -> None:
    STATE.touch(mode=0o600)
    kept = {
        "address": airflow.address if airflow else None,
        "password": airflow.password if airflow else None,
        "sessions": {name: asdict(session) for name, session in sessions.items()},
    }
    STATE.write_text(json.dumps(kept, indent=2) + "\n")


def _state() -> dict[str, Any]:
    return json.loads(STATE.read_text()) if STATE.exists() else {"sessions": {}}


def _sessions(state: dict[str, Any]) -> list[Session]:
    return [Session(**session) for session in state["sessions"].values()]


def _say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {text}", flush=True)


def _fail(message: str) -> NoReturn:
    raise DemoError(message)


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    del signum, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
