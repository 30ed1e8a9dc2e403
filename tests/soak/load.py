# SPDX-License-Identifier: Apache-2.0
"""Drives one Airflow for a while: starts runs, breaks things, and keeps note of what was asked for."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from airflow_provider_bfl.simulator import Simulator
from demo.airflow_api import FINISHED_RUN
from demo.local_airflow import LocalAirflow
from tests.soak.misfortune import described, draw

MAPPED, BATCH = 8, 30

#: Dag, and the prompts (without run id) of each of its workloads.
WORKLOADS: Mapping[str, Mapping[str, int]] = {
    "soak_single": {"single-sync": 1, "single-deferred": 1},
    "soak_mapped": {"mapped": MAPPED},
    "soak_three": {"three-sync": 1, "three-deferred": 1},
    "soak_batch": {"batch": BATCH},
}

#: Runs at once; more than the account has slots for, so that all workloads meet 429.
ACTIVE_RUNS = 6
FAULT_EVERY_SECONDS = 5.0
KILL_EVERY_SECONDS = 30.0
#: Airflow notices a dead supervisor by its missing heartbeat, so some of the kills take it along.
SUPERVISOR_SHARE = 0.3
SAMPLE_EVERY_SECONDS = 15.0
LOADING_SECONDS = 60.0
#: A shorter life says nothing about growth: on a loaded machine it is still loading.
GROWING_SECONDS = 600.0

#: Shares of the time at which the triggerer is killed. None later, so that its last life is long enough to see
#: whether it grows.
TRIGGERER_DEATHS = (0.1, 0.25, 0.4)
#: On a loaded machine it takes half a minute to come back: in a short soak it dies less often.
TRIGGERER_LIFE_SECONDS = 120.0
TRIGGERER_AWAY_SECONDS = 10.0


@dataclass
class Memory:
    """The triggerer's resident memory in MB over its lives, each a list of samples (seconds since the start, MB)."""

    lives: list[list[tuple[float, float]]] = field(default_factory=lambda: [[]])

    def growth(self) -> float | None:
        """Return by how many MB it grew in its last life, once it had loaded its code; None when that was short."""
        loaded = _loaded(self.lives[-1])
        if not loaded or loaded[-1][0] - loaded[0][0] < GROWING_SECONDS:
            return None
        return loaded[-1][1] - loaded[0][1]

    def report(self) -> str:
        """Say how each life began and ended."""
        lines = []
        for life in self.lives:
            if loaded := _loaded(life):
                (first, before), (last, after) = loaded[0], loaded[-1]
                lines.append(
                    f"triggerer from {first:5.0f} s to {last:5.0f} s: {before:.0f} MB at the start, {after:.0f} MB at "
                    f"the end, at most {max(megabytes for _, megabytes in loaded):.0f} MB"
                )
        return "\n".join(lines)


class Load:
    """
    The load and its misfortunes.

    :param seconds: How long runs are started and things broken.
    :param seed: Of all that is random here; Airflow's own timing is not.
    """

    def __init__(self, airflow: LocalAirflow, simulator: Simulator, *, seconds: float, seed: int) -> None:
        self._airflow, self._simulator, self._seconds = airflow, simulator, seconds
        self._dice = random.Random(seed)
        self._began = time.monotonic()
        self._deck: list[str] = []
        self.runs: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.faults: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.memory = Memory()

    def drive(self) -> None:
        """Start runs and break things until the time is over, then let everything end."""
        deaths = deque(_spaced([share * self._seconds for share in TRIGGERER_DEATHS], TRIGGERER_LIFE_SECONDS))
        next_fault, next_kill, next_sample, back_at = 0.0, KILL_EVERY_SECONDS, 0.0, 0.0
        while (now := self._elapsed()) < self._seconds:
            self._keep_busy()
            if now >= next_fault:
                self._break_something()
                next_fault = now + self._dice.uniform(0.5, 1.5) * FAULT_EVERY_SECONDS
            if now >= next_kill:
                self._kill_a_task()
                next_kill = now + self._dice.uniform(0.5, 1.5) * KILL_EVERY_SECONDS
            if deaths and now >= deaths[0]:
                deaths.popleft()
                self._airflow.kill_component("triggerer")
                self.kills["triggerer"] += 1
                back_at = now + self._dice.random() * TRIGGERER_AWAY_SECONDS
                self._say("killed the triggerer")
            if back_at and now >= back_at:
                back_at = 0.0
                self._airflow.start_component("triggerer")
                self.memory.lives.append([])
            if now >= next_sample and not back_at:
                self._sample()
                next_sample = now + SAMPLE_EVERY_SECONDS
            time.sleep(1)

    def wait_for_the_rest(self, timeout_seconds: float) -> None:
        """Break nothing more and wait until all runs have ended; those that have not by then stay unfinished."""
        self._simulator.clear_faults()
        until = time.monotonic() + timeout_seconds
        while self._unfinished() and time.monotonic() < until:
            self._sample()
            time.sleep(5)

    def prompts(self) -> Iterator[tuple[str, str, int, str]]:
        """Return run id, workload, number and prompt of every generation that was asked for."""
        for run_id, dag_id in self.runs.items():
            for workload, count in WORKLOADS[dag_id].items():
                for number in range(count):
                    yield run_id, workload, number, f"{workload} {run_id} {number}"

    def _keep_busy(self) -> None:
        for _ in range(ACTIVE_RUNS - len(self._unfinished())):
            # Shuffled, not drawn: every Dag has its turn in a short soak too.
            self._deck = self._deck or self._dice.sample(list(WORKLOADS), len(WORKLOADS))
            dag_id = self._deck.pop()
            run_id = f"r{len(self.runs):04d}"
            self._airflow.api.trigger(dag_id, run_id=run_id)
            self.runs[run_id] = dag_id

    def _unfinished(self) -> list[str]:
        for run_id, dag_id in self.runs.items():
            if self.states.get(run_id) not in FINISHED_RUN:
                self.states[run_id] = self._airflow.api.run(dag_id, run_id)["state"]
                if self.states[run_id] == "failed":
                    self._say(f"run {run_id} of {dag_id} has failed")
        return [run_id for run_id, state in self.states.items() if state not in FINISHED_RUN]

    def _break_something(self) -> None:
        fault = draw(self._dice)
        self._simulator.fault(**fault)
        self.faults[described(fault)] += 1

    def _kill_a_task(self) -> None:
        tasks = [process for process in self._airflow.processes("scheduler") if _is_task(process)]
        if not tasks:
            return
        victim, with_supervisor = self._dice.choice(tasks), self._dice.random() < SUPERVISOR_SHARE
        try:
            for process in filter(None, (victim.parent() if with_supervisor else None, victim)):
                process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return
        self.kills["task and supervisor" if with_supervisor else "task"] += 1

    def _sample(self) -> None:
        members = self._airflow.processes("triggerer")
        megabytes = sum(_resident_bytes(process) for process in members) / 1e6
        self.memory.lives[-1].append((self._elapsed(), megabytes))

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, what: str) -> None:
        print(f"{self._elapsed():6.0f} s  {what}", flush=True)


def _spaced(times: Sequence[float], gap: float) -> list[float]:
    kept: list[float] = []
    for each in times:
        if not kept or each >= kept[-1] + gap:
            kept.append(each)
    return kept


def _loaded(life: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    # The first trigger of a triggerer imports what it needs.
    return [sample for sample in life if sample[0] >= life[0][0] + LOADING_SECONDS] or life


def _is_task(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    title = " ".join(words).strip()
    # A supervisor's title names the executor; a task's is only its id.
    return title.startswith("airflow worker -- ") and len(title.split()) == 4


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
