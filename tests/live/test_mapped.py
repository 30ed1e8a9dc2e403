# SPDX-License-Identifier: Apache-2.0
"""Sixty mapped generations on an account of 24 slots, in a real Airflow 3 that loses its triggerer and a worker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_bfl.simulator import SimulatorClient
from airflow_provider_bfl.simulator.client import LedgerView
from demo.airflow_api import wait_until
from tests.live.conftest import Stack

pytestmark = [pytest.mark.live, pytest.mark.airflow3]

DAG, TASK = "live_mapped", "generate"
SLOTS = 24

#: As in the Dag, whose file only Airflow can import.
GENERATIONS, LINGERING = 60, 0

#: Long enough for a slow machine to submit more than 24 meanwhile.
GENERATION_SECONDS = 40.0

#: Three waves of generations, and half a minute until another triggerer takes over what a dead one had.
RUN_SECONDS = 480

_WAITING = """
    select count(*) from task_instance ti join trigger t on t.id = ti.trigger_id
    where ti.run_id = ? and ti.state = 'deferred' and t.classpath {} 'airflow_provider_bfl.%'
"""


@dataclass(frozen=True)
class Finished:
    """The run and what was seen of it."""

    state: str
    before: LedgerView
    after: LedgerView
    tasks: dict[int, tuple[str, int]]
    results: dict[int, dict[str, Any]]
    queued_deferred: int
    images: int

    def answers(self, kind: str) -> int:
        """How many answers of one kind, such as ``submit 429``, BFL gave during the run."""
        return self.after.answers.get(kind, 0) - self.before.answers.get(kind, 0)

    @property
    def posts(self) -> int:
        """Generations accepted during the run."""
        return self.after.posts - self.before.posts


@pytest.fixture(scope="module")
def slow_generations(stack: Stack) -> Iterator[SimulatorClient]:
    """BFL takes long for each of them."""
    stack.simulator.fault("task", times=None, model="flux-2-klein-4b", latency_seconds=GENERATION_SECONDS)
    yield stack.simulator
    stack.simulator.clear_faults()


@pytest.fixture(scope="module")
def finished(stack: Stack, slow_generations: SimulatorClient) -> Finished:
    """The run, with its triggerer killed and started again and one of its workers killed."""
    api, before, images = stack.airflow.api, stack.simulator.ledger, len(stack.landed_images())
    api.wait_for_dag(DAG)
    api.unpause(DAG)
    run_id = api.trigger(DAG)
    seen_queued: list[int] = []

    def count(operator: str) -> int:
        return int(stack.query(_WAITING.format(operator), run_id)[0][0])

    wait_until(lambda: "reattached" in api.xcom_keys(DAG, run_id, TASK, LINGERING), 120, "the first submit")
    stack.airflow.kill_task(DAG, run_id, TASK, map_index=LINGERING)

    def full() -> bool:
        seen_queued.append(count("not like"))
        return count("like") >= SLOTS // 2 and seen_queued[-1] > 0

    wait_until(full, 180, "tasks deferred for their generation and others deferred for a slot")
    stack.airflow.kill_component("triggerer")
    time.sleep(3)
    stack.airflow.start_component("triggerer")

    state = api.wait_run(DAG, run_id, timeout_seconds=RUN_SECONDS).state
    rows = stack.query("select map_index, state, try_number from task_instance where run_id = ?", run_id)
    return Finished(
        state=state,
        before=before,
        after=stack.simulator.ledger,
        tasks={index: (task_state, tries) for index, task_state, tries in rows},
        results={
            index: api.xcom(DAG, run_id, TASK, map_index=index)
            for index, task_state, _ in rows
            if task_state == "success"
        },
        queued_deferred=max(seen_queued),
        images=len(stack.landed_images()) - images,
    )


@pytest.mark.timeout(900)
class TestSixtyGenerationsOn24Slots:
    def test_all_land_for_one_post_each(self, finished: Finished) -> None:
        print(
            f"\n{finished.posts} POSTs accepted, {finished.answers('submit 429')} answered 429, "
            f"{finished.answers('poll 200')} polls, {finished.answers('delivery 200')} downloads, "
            f"at most {finished.after.max_active} active, {finished.images} images, at most "
            f"{finished.queued_deferred} tasks seen deferred for a slot, tries {_tries(finished)}, "
            f"credits spent {finished.after.spent - finished.before.spent:g}"
        )
        assert finished.state == "success"
        assert Counter(state for state, _ in finished.tasks.values()) == {"success": GENERATIONS}
        assert finished.images == GENERATIONS
        assert finished.posts == GENERATIONS
        assert len({result["id"] for result in finished.results.values()}) == GENERATIONS

    def test_none_was_possibly_billed_twice(self, finished: Finished) -> None:
        assert [index for index, result in finished.results.items() if result["possibly_billed_twice"]] == []

    def test_the_slots_are_full_and_never_exceeded(self, finished: Finished) -> None:
        assert finished.after.max_active == SLOTS

    def test_a_full_account_is_waited_for_deferred_and_costs_no_try(self, finished: Finished) -> None:
        assert finished.answers("submit 429") > 0
        assert finished.queued_deferred > 0

    def test_only_the_killed_task_used_a_second_try(self, finished: Finished) -> None:
        assert {index: tries for index, (_, tries) in finished.tasks.items() if tries > 1} == {LINGERING: 2}
        assert finished.results[LINGERING]["reattached"] is True


def _tries(finished: Finished) -> dict[int, int]:
    return dict(sorted(Counter(tries for _, tries in finished.tasks.values()).items()))
