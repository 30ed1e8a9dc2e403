# SPDX-License-Identifier: Apache-2.0
"""A full account (429) is waited for: it is flow control and no failure."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bfl.exceptions import BflRateLimitedError
from tests.airflow_fixtures import LogRecorder, World

FULL: dict[str, Any] = {"status": 429, "body": {"detail": "Rate limit exceeded."}}


class TestAFullAccount:
    def test_is_waited_for_in_the_worker(self, bfl: World, naps: list[float]) -> None:
        bfl.simulator.fault("submit", times=20, **FULL)

        result = bfl.generation().attempt()

        assert (bfl.posts, bfl.posts_received) == (1, 21)
        assert (result["reattached"], result["possibly_billed_twice"]) == (False, False)
        assert sum(nap >= 1 for nap in naps) >= 20

    def test_is_waited_for_in_the_triggerer(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=20, **FULL)
        run = bfl.generation(deferrable=True)

        result = run.attempt()

        pauses = [each for each in run.deferrals if each.method_name == "retry_submit"]
        assert (bfl.posts, bfl.posts_received) == (1, 21)
        assert len(pauses) == 20
        assert all(pause.pause_seconds > 4.9 for pause in pauses)
        assert (run.try_number, result["possibly_billed_twice"]) == (1, False)

    def test_names_its_own_time(self, bfl: World, naps: list[float]) -> None:
        bfl.simulator.fault("submit", headers={"Retry-After": "77"}, **FULL)

        bfl.generation().attempt()

        assert max(naps) >= 77

    def test_names_its_own_time_to_the_triggerer(self, bfl: World) -> None:
        bfl.simulator.fault("submit", headers={"Retry-After": "77"}, **FULL)
        run = bfl.generation(deferrable=True)

        run.attempt()

        assert run.deferrals[0].pause_seconds > 76

    def test_takes_the_next_one_when_a_slot_is_free(self, bfl: World, naps: list[float]) -> None:
        bfl.simulator.settings(overall_limit=1)
        bfl.simulator.fault("task", latency_seconds=0.5)
        bfl.submit(prompt="the one that is in the way")

        bfl.generation().attempt()

        assert bfl.simulator.ledger.max_active == 1
        assert bfl.posts == 2
        assert bfl.posts_received > 2

    @pytest.mark.parametrize(("model", "slots", "tasks"), [("flux-2-pro", 24, 60), ("flux-kontext-max", 6, 18)])
    def test_is_shared_by_more_tasks_than_it_has_slots(
        self, bfl: World, naps: list[float], model: str, slots: int, tasks: int
    ) -> None:
        bfl.simulator.fault("task", times=None, latency_seconds=2.0)
        runs = [bfl.generation(model=model, ti={"map_index": number}) for number in range(tasks)]

        with ThreadPoolExecutor(tasks) as workers:
            results = list(workers.map(lambda run: run.attempt(), runs))

        assert len({result["id"] for result in results}) == len({result["uri"] for result in results}) == tasks
        assert bfl.posts == tasks
        assert bfl.posts_received > tasks
        assert bfl.simulator.ledger.max_active <= slots
        assert {run.try_number for run in runs} == {1}

    def test_is_said_at_info_and_not_as_a_warning(self, bfl: World, naps: list[float], log: LogRecorder) -> None:
        bfl.simulator.fault("submit", **FULL)

        bfl.generation().attempt()

        assert log.about("429") == []


class TestMaxQueueWait:
    def test_ends_the_attempt_unpaid_and_a_retry_queues_afresh(
        self, bfl: World, deferrable: bool, naps: list[float]
    ) -> None:
        bfl.simulator.fault("submit", times=1, **FULL)
        run = bfl.generation(deferrable=deferrable, max_queue_wait=0.5)

        with pytest.raises(BflRateLimitedError, match=r"max_queue_wait \(0.5 s\).*A retry queues again") as full:
            run.attempt()

        assert not isinstance(full.value, AirflowFailException)
        assert (run.record["state"], run.record["queued_since"]) == ("refused", None)
        assert run.attempt()["status"] == "Ready"
        assert bfl.posts == 1

    def test_counts_from_the_first_refusal_over_all_resumes(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=None, **FULL)
        run = bfl.generation(deferrable=True, max_queue_wait=3600.0)
        starts: list[float] = []

        def an_hour_passes_at_the_third(deferral: Any) -> None:
            starts.append(run.record["queued_since"])
            if len(starts) == 3:
                self._age(run, seconds=3600)

        run.on_deferral = an_hour_passes_at_the_third

        with pytest.raises(BflRateLimitedError, match="max_queue_wait"):
            run.attempt()

        assert len(starts) == 3
        assert len(set(starts)) == 1
        assert bfl.posts == 0

    def test_does_not_count_what_an_attempt_that_died_had_waited(
        self, bfl: World, deferrable: bool, naps: list[float]
    ) -> None:
        run = bfl.generation(deferrable=deferrable)
        bfl.simulator.fault("submit", status=500)
        with pytest.raises(Exception, match="500"):
            run.attempt()
        self._age(run, seconds=86_400)
        bfl.simulator.fault("submit", times=2, **FULL)

        assert run.attempt()["status"] == "Ready"

    def _age(self, run: Any, *, seconds: float) -> None:
        record = {**run.record, "queued_since": time.time() - seconds}
        run.store.values["bfl_generation"] = json.dumps(record)
