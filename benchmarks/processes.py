# SPDX-License-Identifier: Apache-2.0
"""What is measured and what it talks to, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_bfl.simulator import SimulatorClient

ROOT = Path(__file__).resolve().parent.parent

#: A bench must neither use nor show anything of the person who runs it.
_FOREIGN = ("AIRFLOW", "AWS_", "BFL_", "BOTO_", "GOOGLE_", "OPENLINEAGE_", "STORAGE_EMULATOR")

_MARK = "MEASURED "

#: So many tasks of one account, and credits, as no row needs.
NO_LIMIT = 1_000_000

#: What a model needs beside a prompt.
NEEDED: Mapping[str, Mapping[str, str]] = {"flux-3-video": {"mode": "t2v"}}

Numbers = dict[str, float]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a measured process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {
        **inherited,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def measured(module: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> Numbers:
    """
    Run ``python -m module '<arguments as JSON>'`` and return what it told.

    :raises RuntimeError: it failed; the message has the end of its output.
    """
    with scratch() as folder:
        done = subprocess.run(
            [sys.executable, "-m", module, json.dumps(dict(arguments))],
            env={"AIRFLOW_HOME": str(folder), "TMPDIR": str(folder), **env},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    told = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not told:
        end = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{module} {str(dict(arguments))[:200]} ended with {done.returncode}:\n{end}")
    numbers: Numbers = json.loads(told[-1].removeprefix(_MARK))
    return numbers


def tell(numbers: Mapping[str, float]) -> None:
    """Hand numbers to :func:`measured`, from the process it started."""
    print(_MARK + json.dumps(dict(numbers)), flush=True)


def arguments() -> dict[str, Any]:
    """Return the arguments :func:`measured` gave, in the process it started."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def in_turns(variants: Mapping[str, Callable[[], Numbers]], runs: int) -> dict[str, list[Numbers]]:
    """Run every variant ``runs`` times, taking turns, and return what each told."""
    told: dict[str, list[Numbers]] = {name: [] for name in variants}
    for run in range(runs):
        # Back and forth, so that none is always the first after another.
        for name in list(variants) if run % 2 == 0 else reversed(list(variants)):
            told[name].append(variants[name]())
    return told


def median(told: Sequence[Numbers], name: str) -> float:
    """Return the median of one number over the runs."""
    return statistics.median(each[name] for each in told)


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bfl-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Server:
    """A server in a process of its own; ``announced`` is what it said when it was ready."""

    process: psutil.Popen
    announced: dict[str, Any]

    @property
    def pid(self) -> int:
        """Its process id, for :class:`Busy`."""
        return int(self.process.pid)


@contextmanager
def server(*command: str) -> Iterator[Server]:
    """Start ``python -m <command>``, which says in one line of JSON when it is ready, and stop it afterwards."""
    process = psutil.Popen(
        [sys.executable, "-m", *command],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} did not start")
        yield Server(process, json.loads(line))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


@dataclass
class Bfl:
    """A simulator in a process of its own."""

    server: Server
    client: SimulatorClient

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process whose ``bfl_default`` is this simulator, at one region so at one host."""
        return environment(AIRFLOW_CONN_BFL_DEFAULT=self.client.connection_json("eu"))

    def submit(self, count: int, model: str, **fault: Any) -> list[dict[str, Any]]:
        """Start generations, all of them with one fate, and return their submit answers."""
        import requests

        if fault:
            self.client.fault("task", times=count, model=model, **fault)
        connection, answers = self.client.connection("eu"), []
        with requests.Session() as session:
            session.trust_env = False
            for number in range(count):
                answer = session.post(
                    f"{connection['host']}/v1/{model}",
                    json={"prompt": f"bench {number}", **NEEDED.get(model, {})},
                    headers={"x-key": connection["password"]},
                    timeout=30,
                )
                answer.raise_for_status()
                answers.append(answer.json() | {"submitted_at": time.time()})
        return answers


@contextmanager
def simulator() -> Iterator[Bfl]:
    """Start BFL's simulator for an account without limits."""
    with server("airflow_provider_bfl.simulator", "--json", "--credits", "1000000000") as started:
        url = started.announced["addresses"]["control"]
        client = SimulatorClient(url)
        client.settings(overall_limit=NO_LIMIT, limits=dict.fromkeys(NEEDED, NO_LIMIT), jitter=0.0)
        yield Bfl(started, client)


class Busy:
    """
    How busy this process and the server it asks were meanwhile.

    A server that used up a processor would be what was measured.
    """

    def __init__(self, server_pid: int) -> None:
        self._server = psutil.Process(server_pid)
        self._begun = (time.monotonic(), time.process_time(), self._server_seconds())

    def so_far(self) -> Numbers:
        """Return ``wall`` and ``cpu`` seconds, and ``server``: the share of one processor that the server used."""
        begun, cpu, server = self._begun
        wall = time.monotonic() - begun
        return {"wall": wall, "cpu": time.process_time() - cpu, "server": (self._server_seconds() - server) / wall}

    def _server_seconds(self) -> float:
        times = self._server.cpu_times()
        return float(times.user + times.system)


def resident_mb() -> float:
    """Return the resident set of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


@contextmanager
def peak_memory() -> Iterator[Numbers]:
    """Tell by how many MB the resident set grew at most, as ``growth_mb``."""
    # Linux keeps the peak itself, and forgets it on request.
    told: Numbers = {}
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mb()
    yield told
    peak_kb = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    told["growth_mb"] = max(0.0, peak_kb * 1024 / 1e6 - before)
