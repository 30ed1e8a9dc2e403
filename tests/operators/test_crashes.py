# SPDX-License-Identifier: Apache-2.0
"""The promise: wherever an attempt dies, the next one pays for nothing that was submitted and loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.durable.journal import ObjectStorageJournal, TaskStateJournal
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflGenerationFailedError,
    BflJournalError,
    BflStorageError,
    BflUnresolvedSubmitError,
)
from airflow_provider_bfl.hooks.bfl import BflHook
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.transport.sync import BflClient
from tests.airflow_fixtures import LogRecorder, World


class KilledError(BaseException):
    """The process ended here: nothing catches it, nothing after it happens."""


def die(*_: Any, **__: Any) -> Any:
    raise KilledError


def die_before_saving(state: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plan(patch: pytest.MonkeyPatch) -> None:
        for journal in (TaskStateJournal, ObjectStorageJournal):
            really_save = journal.save

            def save(self: Any, record: Any, really_save: Any = really_save) -> None:
                really_save(self, record) if record.state != state else die()

            patch.setattr(journal, "save", save)

    return plan


def die_before_storing(*, sidecar: bool) -> Callable[[pytest.MonkeyPatch], None]:
    def plan(patch: pytest.MonkeyPatch) -> None:
        really_put = FileStore.put

        def put(self: FileStore, key: str, contents: Any, *, create_only: bool) -> None:
            really_put(self, key, contents, create_only=create_only) if contents.is_sidecar != sidecar else die()

        patch.setattr(FileStore, "put", put)

    return plan


IN_DOUBT = {
    "before the POST": lambda patch: patch.setattr(BflHook, "submit", die),
    "before the record of the answer": die_before_saving("submitted"),
}
PAID_AND_KNOWN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "while it polls": lambda patch: patch.setattr(BflClient, "poll", die),
    "while it downloads": lambda patch: patch.setattr(BflClient, "download", die),
    "before the upload": die_before_storing(sidecar=False),
    "before the sidecar": die_before_storing(sidecar=True),
    "before the last record": die_before_saving("stored"),
}


@contextmanager
def dying(plan: Callable[[pytest.MonkeyPatch], None]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        plan(patch)
        with pytest.raises(KilledError):
            yield


@pytest.fixture(params=["task_state_store", "journal_path"])
def journal(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Where the record is kept: as on Airflow 3.3, and as before it."""
    if request.param == "task_state_store":
        return {}
    monkeypatch.setenv("AIRFLOW__BFL__JOURNAL_PATH", f"file://{tmp_path}/journal")
    return {"store": None}


class TestAnAttemptThatDied:
    @pytest.mark.parametrize("moment", PAID_AND_KNOWN)
    def test_after_the_record_is_gone_on_with_and_paid_once(
        self, bfl: World, deferrable: bool, journal: dict[str, Any], moment: str
    ) -> None:
        run = bfl.generation(deferrable=deferrable, **journal)
        with dying(PAID_AND_KNOWN[moment]):
            run.attempt()

        result = run.attempt()

        assert bfl.posts_received == 1
        assert (result["reattached"], result["possibly_billed_twice"]) == (True, False)
        assert result["id"] == bfl.simulator.ledger.tasks[0].id
        assert bfl.path_of(result).stat().st_size == result["size"]
        assert Path(f"{bfl.path_of(result)}.json").exists()

    @pytest.mark.parametrize("moment", PAID_AND_KNOWN)
    def test_twice_in_a_row_is_still_paid_once(self, bfl: World, moment: str) -> None:
        run = bfl.generation()
        for _ in range(2):
            with dying(PAID_AND_KNOWN[moment]):
                run.attempt()

        run.attempt()

        assert bfl.posts_received == 1

    @pytest.mark.parametrize("moment", IN_DOUBT)
    def test_around_the_post_is_submitted_again_and_says_so(
        self, bfl: World, deferrable: bool, journal: dict[str, Any], moment: str, log: LogRecorder
    ) -> None:
        run = bfl.generation(deferrable=deferrable, **journal)
        with dying(IN_DOUBT[moment]):
            run.attempt()
        sent = bfl.posts_received

        result = run.attempt()

        assert bfl.posts_received == sent + 1
        assert (result["reattached"], result["possibly_billed_twice"]) == (False, True)
        sidecar = json.loads(Path(f"{bfl.path_of(result)}.json").read_text())
        assert sidecar["possibly_billed_twice"] is True
        assert len(log.about("never learnt its answer")) == 1

    @pytest.mark.parametrize("moment", IN_DOUBT)
    def test_around_the_post_is_left_to_the_user_who_wants_that(
        self, bfl: World, deferrable: bool, journal: dict[str, Any], moment: str
    ) -> None:
        run = bfl.generation(deferrable=deferrable, on_ambiguous_submit="fail", **journal)
        with dying(IN_DOUBT[moment]):
            run.attempt()
        sent = bfl.posts_received

        for _ in range(2):
            with pytest.raises(BflUnresolvedSubmitError, match="Nothing was submitted now"):
                run.attempt()

        assert bfl.posts_received == sent

    def test_before_the_intent_was_never_there(self, bfl: World, deferrable: bool, journal: dict[str, Any]) -> None:
        run = bfl.generation(deferrable=deferrable, **journal)
        with dying(die_before_saving("intent")):
            run.attempt()
        assert bfl.posts_received == 0

        result = run.attempt()

        assert bfl.posts_received == 1
        assert (result["reattached"], result["possibly_billed_twice"]) == (False, False)

    def test_after_its_last_step_is_not_even_polled_again(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)
        first = run.attempt()  # the worker dies before Airflow has the result
        asked = len(bfl.simulator.ledger.requests)

        assert run.attempt() == {**first, "reattached": True}
        assert len(bfl.simulator.ledger.requests) == asked

    def test_by_sigkill_is_gone_on_with_by_another_process(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__JOURNAL_PATH", f"file://{bfl.root}/journal")
        bfl.simulator.fault("task", stuck=True)
        script = f"""
import os, signal, threading, time
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.simulator import SimulatorClient
from tests.airflow_fixtures import TaskInstance

def kill_when_polled():
    while not any(task.polls for task in SimulatorClient({bfl.simulator.control_url!r}).ledger.tasks):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill_when_polled, daemon=True).start()
operator = BflGenerationOperator(
    task_id="generate", prompt="a red fox in the snow", wait_for_completion=True,
    destination={bfl.destination!r}, poll_interval=0.02,
)
operator.execute({{"ti": TaskInstance("generate", {{}}, try_number=1, max_tries=3)}})
"""
        killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        bfl.simulator.finish(bfl.simulator.ledger.tasks[0].id)

        result = bfl.generation(store=None).attempt()

        assert result["reattached"] is True
        assert bfl.path_of(result).exists()
        assert bfl.posts_received == 1


class TestALostAnswer:
    def test_stays_marked_in_every_later_result(self, bfl: World) -> None:
        run = bfl.generation()
        bfl.simulator.fault("submit", accept=True, drop=True)
        with pytest.raises(BflAmbiguousSubmitError):
            run.attempt()
        with dying(PAID_AND_KNOWN["while it polls"]):
            run.attempt()

        result = run.attempt()

        assert (result["reattached"], result["possibly_billed_twice"]) == (True, True)
        assert bfl.posts == 2

    def test_stays_marked_over_a_refusal(self, bfl: World) -> None:
        run = bfl.generation()
        bfl.simulator.fault("submit", accept=True, drop=True)
        with pytest.raises(BflAmbiguousSubmitError):
            run.attempt()
        bfl.simulator.fault("submit", status=500)
        with pytest.raises(Exception, match="not billed"):
            run.attempt()

        assert run.attempt()["possibly_billed_twice"] is True

    def test_stays_marked_over_a_generation_that_failed(self, bfl: World) -> None:
        run = bfl.generation()
        bfl.simulator.fault("submit", accept=True, drop=True)
        with pytest.raises(BflAmbiguousSubmitError):
            run.attempt()
        bfl.simulator.fault("task", final_status="Error")
        with pytest.raises(BflGenerationFailedError):
            run.attempt()

        result = run.attempt()

        assert (result["reattached"], result["possibly_billed_twice"]) == (False, True)
        assert bfl.posts == 3

    def test_is_resolved_by_force_new_after_a_clear(self, bfl: World) -> None:
        run = bfl.generation(on_ambiguous_submit="fail", force_new=True)
        bfl.simulator.fault("submit", accept=True, drop=True)
        with pytest.raises(BflAmbiguousSubmitError):
            run.attempt()
        with pytest.raises(BflUnresolvedSubmitError):
            run.attempt()

        run.clear()

        assert run.attempt()["status"] == "Ready"
        assert bfl.posts == 2


class TestAJournalThatDoesNotWork:
    def test_unreadable_means_no_post(self, bfl: World, deferrable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        run = bfl.generation(deferrable=deferrable)

        def get(key: str) -> Any:
            raise ConnectionError("the metadata database is away")

        monkeypatch.setattr(run.store, "get", get)

        with pytest.raises(BflJournalError, match="nothing was submitted"):
            run.attempt()
        assert bfl.posts_received == 0

    @pytest.mark.parametrize("record", [{"version": 99}, "garbage", {"version": 1, "state": "submitted"}])
    def test_damaged_means_no_post(self, bfl: World, record: Any) -> None:
        run = bfl.generation()
        run.store.set("bfl_generation", record)

        with pytest.raises(BflJournalError):
            run.attempt()
        assert bfl.posts_received == 0

    def test_unwritable_means_no_post(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)
        run.store.before_set = self._fail_at("intent")

        with pytest.raises(BflJournalError, match="nothing is submitted"):
            run.attempt()
        assert bfl.posts_received == 0

    def test_failing_right_after_the_post_does_not_lose_the_picture(
        self, bfl: World, deferrable: bool, log: LogRecorder
    ) -> None:
        run = bfl.generation(deferrable=deferrable)
        run.store.before_set = self._fail_at("submitted")

        result = run.attempt()

        assert bfl.path_of(result).exists()
        assert len(log.about("is submitted and billed, but")) == 1
        assert bfl.posts == 1

    def _fail_at(self, state: str) -> Callable[[Any], None]:
        def before_set(value: Any) -> None:
            if value["state"] == state:
                raise ConnectionError("the metadata database is away")

        return before_set


class TestAStoreThatFailed:
    def test_costs_no_second_generation(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)
        landed = bfl.root / "landed"
        landed.write_text("in the way")
        with pytest.raises(BflStorageError, match="could not be stored"):
            run.attempt()
        landed.unlink()

        result = run.attempt()

        assert bfl.path_of(result).exists()
        assert result["reattached"] is True
        assert bfl.posts_received == 1
