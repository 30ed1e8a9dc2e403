# SPDX-License-Identifier: Apache-2.0
"""
Airflow in miniature: tasks with tries, workers and triggerers that are processes, stores that outlive them.

What is imitated: every part of an attempt (the first, and each after a deferral) is a process of its own; XCom is empty
when an attempt starts and kept when it resumes; the task state store and ``[bfl] journal_path`` survive retry and
clear; a trigger is rebuilt from what it serialized, by any triggerer, as often as needed; a process that died and an
ordinary error use up a try, ``AirflowFailException`` all of them; a clear gives new tries on top of those used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.airflow_fixtures import TaskInstance, TaskStateStore, only_event, rebuilt
from tests.faults.processes import Child, FileDict, Killed

if TYPE_CHECKING:
    from tests.faults.world import World


@dataclass(frozen=True)
class Returned:
    """A part that ended well; its result is in XCom."""


@dataclass(frozen=True)
class Raised:
    """A part that ended with an error."""

    error: str
    message: str
    is_final: bool


@dataclass(frozen=True)
class Deferred:
    """A part that handed over to the triggerer."""

    method_name: str
    classpath: str
    kwargs: Mapping[str, Any]
    method_kwargs: Mapping[str, Any]


class Cleared:
    """An attempt that ended because somebody cleared its deferred task."""


End = Returned | Raised | Killed | Cleared


def push_result(ti: TaskInstance, value: Any) -> None:
    """Write the final XCom: the last thing a worker does."""
    ti.xcom_push("return_value", value)


class Task:
    """
    One task instance.

    :param world: The cell it runs in.
    :param make: Makes the operator; gets the try number.
    """

    def __init__(self, world: World, task_id: str, make: Callable[[int], Any]) -> None:
        self._world = world
        self.task_id = task_id
        self._make = make
        self.xcom = FileDict(world.root / f"xcom-{task_id}")
        self._store = TaskStateStore()
        self._store.values = FileDict(world.root / f"state-{task_id}")  # type: ignore[assignment]
        self.try_number = 0
        self._max_tries = world.row.retries
        self._last_resume: tuple[Deferred, Any] | None = None

    @property
    def record(self) -> dict[str, Any] | None:
        """What the journal holds, wherever it is."""
        if self._world.place == "task_state_store":
            kept: dict[str, Any] | None = self._store.get("bfl_generation")
            return kept
        found = [json.loads(path.read_text()) for path in (self._world.root / "journal").glob("*.json")]
        return next((each["record"] for each in found if each["task_instance"]["task_id"] == self.task_id), None)

    def run(self) -> Returned | Raised:
        """Try until there is a result or no try is left; a killed last try is an error too."""
        while True:
            end = self._attempt()
            if isinstance(end, Cleared):
                self.clear()
            elif isinstance(end, Returned):
                return end
            elif self.try_number > self._max_tries or (isinstance(end, Raised) and end.is_final):
                return end if isinstance(end, Raised) else Raised("Killed", "", is_final=False)

    def clear(self) -> None:
        """What the button does; the next try begins a new epoch."""
        self._max_tries = self.try_number + self._world.row.retries

    def _attempt(self) -> End:
        self.try_number += 1
        self.xcom.clear()
        self._world.attempt_starts(self.try_number)
        before = self._world.simulator.ledger.posts
        part: End | Deferred = self._first_part()
        while isinstance(part, Deferred):
            if self._world.is_cleared_while_deferred():
                return Cleared()
            event = self._world.triggerer.event_of(part, self.try_number)
            self._last_resume = part, event
            part = self._resumed(part, event)
        assert self._world.simulator.ledger.posts <= before + 1, "one attempt paid twice"
        return part

    def _first_part(self) -> Any:
        if self._last_resume and self._world.row.retry_resumes:
            return self._resumed(*self._last_resume)
        return Child(lambda: self._part(lambda operator, context: operator.execute(context))).result()

    def _resumed(self, deferred: Deferred, event: Any) -> Any:
        kwargs = {"event": event, **deferred.method_kwargs}
        return Child(
            lambda: self._part(
                lambda operator, context: operator.resume_execution(deferred.method_name, kwargs, context)
            )
        ).result()

    def _part(self, action: Callable[[Any, Any], Any]) -> Any:
        """Run in the worker process."""
        from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

        self._world.prepare_process(self.try_number)
        ti = TaskInstance(self.task_id, self.xcom, self.try_number, self._max_tries)  # type: ignore[arg-type]
        context: dict[str, Any] = {"ti": ti, "task_instance": ti}
        if self._world.place == "task_state_store":
            context["task_state_store"] = self._store
        try:
            value = action(self._make(self.try_number), context)
        except TaskDeferred as deferral:
            classpath, kwargs = deferral.trigger.serialize()
            return Deferred(deferral.method_name, classpath, kwargs, deferral.kwargs or {})
        except Exception as error:  # noqa: BLE001
            return Raised(type(error).__name__, str(error), isinstance(error, AirflowFailException))
        push_result(ti, value)
        return Returned()


class Triggerer:
    """Runs triggers in processes of its own, which may die."""

    def __init__(self, world: World) -> None:
        self._world = world

    def event_of(self, deferred: Deferred, try_number: int) -> Any:
        """Return the event of a trigger, running it again as long as its triggerer dies."""
        if self._world.row.event is not None:
            return dict(self._world.row.event)
        deferred = _in_a_hurry(deferred)
        if self._world.row.triggerer == "two at once":
            both = [self._start(deferred, try_number) for _ in range(2)]
            events = [child.result() for child in both]
            assert events[0] == events[1]
            return events[0]
        while isinstance(event := self._start(deferred, try_number).result(), Killed):
            if self._world.row.triggerer == "late":
                return self._overdue(deferred, try_number)
        return event

    def _overdue(self, deferred: Deferred, try_number: int) -> Any:
        """Start the triggerer again only after the deadline: it asks once more and no longer."""
        time.sleep(max(0.0, deferred.kwargs["deadline"] - time.time()))
        before = self._world.polls
        event = self._start(deferred, try_number).result()
        assert self._world.polls == before + 1, "the deadline moved with the trigger"
        return event

    def _start(self, deferred: Deferred, try_number: int) -> Child:
        def work() -> Any:
            self._world.prepare_process(try_number)
            return only_event(rebuilt(deferred.classpath, dict(deferred.kwargs)))

        return Child(work)


def _in_a_hurry(deferred: Deferred) -> Deferred:
    if deferred.classpath.startswith("airflow_provider_bfl."):
        # As the database keeps it, but for the grace that a real scheduler needs.
        return replace(deferred, kwargs=json.loads(json.dumps(deferred.kwargs)) | {"not_before": 0.0})
    return replace(deferred, kwargs={**deferred.kwargs, "moment": datetime.now(UTC)})
