# SPDX-License-Identifier: Apache-2.0
"""
Airflow's side of the contract, small: one task instance over its attempts, its XCom and its task state store.

What Airflow does here: every part of a task (the first, and each after a deferral) runs in a process of its own, so
with an operator instance of its own; a trigger is rebuilt from what it serialized; a new attempt starts with empty
XCom, a resumed one does not; the task state store outlives both. Whatever passes by is kept as evidence, and after
each test it is searched for secrets.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_bfl.simulator import Simulator

CANARY_KEY = "bfl_CANARYkey0123456789abcdef"

#: The smallest picture there is.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: A signature as the delivery hosts mint it; nothing else in this project looks like one.
_SIGNATURE = re.compile(r"sig=[A-Za-z0-9%/+_-]{20,}")


#: Seconds between tries inside one attempt; what is tested here is what they lead to.
_BACK_OFFS = (
    ("durable.submit", "REPEAT_DELAYS"),
    ("durable.submit", "_SAVE_DELAYS"),
    ("landing.land", "_DOWNLOAD_DELAYS"),
    ("landing.land", "_STORE_DELAYS"),
)


def _as_airflow_calls(operator: Any) -> dict[str, Any]:
    """Return what Airflow 2 hands to ``execute`` besides the context, in a thread that need not be its main one."""
    if find_spec("airflow.sdk"):
        return {}
    from airflow.models.baseoperator import _sentinel

    return {f"{type(operator).__name__}__sentinel": _sentinel}


class TaskStateStore:
    """Airflow 3.3's ``context["task_state_store"]``: JSON values that survive retry and clear."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.before_set: Callable[[Any], None] = lambda value: None

    def get(self, key: str) -> Any:
        text = self.values.get(key)
        return None if text is None else json.loads(text)

    def set(self, key: str, value: Any) -> None:
        self.before_set(value)
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


@dataclass
class TaskInstance:
    """The running task instance, as far as operators may know it."""

    task_id: str
    xcom: dict[str, Any]
    try_number: int
    max_tries: int
    map_index: int = -1
    dag_id: str = "a_dag"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"

    def xcom_push(self, key: str, value: Any) -> None:
        assert value is not None, "Airflow 3.0 refuses a null"
        self.xcom[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str | None = None, key: str = "return_value", *, map_indexes: Any = None) -> Any:
        if task_ids == self.task_id and map_indexes in (None, self.map_index):
            return self.xcom.get(key)
        return None


@dataclass(frozen=True)
class Deferral:
    """One deferral: what the metadata database would hold of it."""

    method_name: str
    classpath: str
    kwargs: dict[str, Any]
    method_kwargs: dict[str, Any]
    timeout: timedelta | None
    at: float

    @property
    def pause_seconds(self) -> float:
        """For how long a timed pause is meant to last."""
        seconds: float = self.kwargs["moment"].timestamp() - self.at
        return seconds


class TaskRun:
    """
    One task instance from its first attempt to its last.

    :param make: Makes the operator; called for every part of every attempt.
    :param store: The task state store; None where this Airflow has none.
    :param retries: As the task's.
    :param evidence: Everything that passes by is added here.
    """

    def __init__(
        self, make: Callable[[], Any], *, store: TaskStateStore | None, retries: int, evidence: list[Any], **ti: Any
    ) -> None:
        self.make = make
        self.store = store
        self.retries = retries
        self.max_tries = retries
        self.try_number = 0
        self.xcom: dict[str, Any] = {}
        self.deferrals: list[Deferral] = []
        self.events: list[Any] = []
        self.operators: list[Any] = []
        self.outlet_events: Any = None
        self.on_deferral: Callable[[Deferral], Any] = lambda deferral: None
        self._evidence = evidence
        self._ti = ti

    @property
    def context(self) -> dict[str, Any]:
        """What one part of an attempt gets."""
        ti = TaskInstance("generate", self.xcom, self.try_number, self.max_tries, **self._ti)
        context: dict[str, Any] = {"ti": ti, "task_instance": ti, "outlet_events": self.outlet_events}
        return context | ({} if self.store is None else {"task_state_store": self.store})

    @property
    def record(self) -> dict[str, Any] | None:
        """The journal's record in the task state store."""
        assert self.store is not None
        record: dict[str, Any] | None = self.store.get("bfl_generation")
        return record

    def attempt(self) -> Any:
        """Start a new attempt and see it to its end; return its result or raise its error."""
        self.try_number += 1
        self.xcom.clear()
        return self._part(lambda operator: operator.execute(self.context, **_as_airflow_calls(operator)))

    def resume(self, method_name: str, **kwargs: Any) -> Any:
        """Resume the running attempt in a fresh process."""
        return self._part(lambda operator: operator.resume_execution(method_name, kwargs, self.context))

    def clear(self) -> None:
        """What the button does: a task instance gets new tries on top of those it has used."""
        self.max_tries = self.try_number + self.retries

    def _part(self, action: Callable[[Any], Any]) -> Any:
        from airflow.providers.common.compat.sdk import TaskDeferred

        operator = self.make()
        self.operators.append(operator)
        try:
            result = action(operator)
        except TaskDeferred as deferred:
            return self._deferred(deferred)
        except BaseException as error:
            self._evidence += [repr(error), str(error), "".join(traceback.format_exception(error)), vars(error)]
            raise
        finally:
            self._evidence += [repr(operator), dict(self.xcom), dict(self.store.values) if self.store else None]
        if result is not None:
            self.xcom["return_value"] = json.loads(json.dumps(result))
            self._evidence.append(result)
        return result

    def _deferred(self, deferred: Any) -> Any:
        classpath, kwargs = deferred.trigger.serialize()
        deferral = Deferral(
            deferred.method_name, classpath, kwargs, deferred.kwargs or {}, deferred.timeout, time.time()
        )
        self.deferrals.append(deferral)
        self._evidence += [classpath, kwargs, deferral.method_kwargs, repr(deferred.trigger), vars(deferred.trigger)]
        event = self.on_deferral(deferral)
        if event is None:
            event = self._event(deferral)
        self.events.append(event)
        self._evidence.append(event)
        return self.resume(deferral.method_name, event=event, **deferral.method_kwargs)

    def _event(self, deferral: Deferral) -> Any:
        if not deferral.classpath.startswith("airflow_provider_bfl."):
            return str(deferral.kwargs["moment"])
        # The five seconds of grace are checked where the trigger itself is tested.
        kwargs = json.loads(json.dumps(deferral.kwargs)) | {"not_before": 0.0}
        return only_event(rebuilt(deferral.classpath, kwargs))


def rebuilt(classpath: str, kwargs: dict[str, Any]) -> Any:
    """Return the trigger a triggerer makes of what is in the database."""
    module, _, name = classpath.rpartition(".")
    return getattr(importlib.import_module(module), name)(**kwargs)


def only_event(trigger: Any) -> Any:
    """Run a trigger to its end and return the payload of its one event."""

    async def drain() -> list[Any]:
        async with asyncio.timeout(30):
            return [event.payload async for event in trigger.run()]

    events = asyncio.run(drain())
    assert len(events) == 1, f"a trigger fires once, this one fired {events}"
    return events[0]


@dataclass
class World:
    """The simulator behind ``bfl_default``, a place to store things, and everything that was seen of the two."""

    simulator: Simulator
    root: Path
    evidence: list[Any] = field(default_factory=list)

    @property
    def destination(self) -> str:
        """The URI of a directory, ending in a slash."""
        return f"file://{self.root}/landed/"

    @property
    def posts(self) -> int:
        """Generations BFL would bill."""
        return self.simulator.ledger.posts

    @property
    def posts_received(self) -> int:
        """POSTs that reached BFL, refused ones included."""
        return self.simulator.ledger.posts_received

    def path_of(self, result: dict[str, Any]) -> Path:
        """Return the file of a landed result."""
        return Path(urlsplit(result["uri"]).path)

    def run(
        self, operator_class: type, *, store: Any = "new", retries: int = 3, ti: Any = None, **arguments: Any
    ) -> Any:
        """Return the task instance of an operator with these arguments."""
        kept = TaskStateStore() if store == "new" else store
        return TaskRun(
            lambda: operator_class(**{"task_id": "generate", **arguments}),
            store=kept,
            retries=retries,
            evidence=self.evidence,
            **(ti or {}),
        )

    def generation(self, **arguments: Any) -> Any:
        """Return the task instance of a ``BflGenerationOperator`` that waits and lands, unless told otherwise."""
        from airflow_provider_bfl.operators.generation import BflGenerationOperator

        defaults: dict[str, Any] = {
            "prompt": "a red fox in the snow",
            "wait_for_completion": True,
            "destination": self.destination,
            "poll_interval": 0.02,
            "inline_wait": 0.0,
        }
        return self.run(BflGenerationOperator, **(defaults | arguments))

    def submit(self, **arguments: Any) -> dict[str, Any]:
        """Submit a generation in a task of its own and return the submit result."""
        result: dict[str, Any] = self.generation(wait_for_completion=False, destination=None, **arguments).attempt()
        return result

    def check_for_secrets(self) -> None:
        """Fail when the key or a signature is anywhere in the evidence, or reached a host that must not see it."""
        assert self.simulator.ledger.leaks == ()
        files = [path.read_text(errors="replace") for path in self.root.rglob("*.json")]
        text = "\n".join(map(str, self.evidence + files))
        assert CANARY_KEY not in text
        assert _SIGNATURE.search(text) is None


class LogRecorder(logging.Handler):
    """Keeps every line, as Airflow's own handlers would write it: through the secrets masker."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        self._keep(record.levelno, text)

    def from_structlog(self, logger: Any, method_name: str, event: dict[str, Any]) -> Any:
        """Keep what Airflow 3's task loggers say; they do not pass through the standard library."""
        from structlog import DropEvent

        self._keep(logging.getLevelNamesMapping()[method_name.upper()], str(event))
        raise DropEvent

    def _keep(self, level: int, text: str) -> None:
        from airflow.providers.common.compat.sdk import redact

        self._lines.append((level, str(redact(text))))

    def messages(self, level: int = logging.DEBUG) -> list[str]:
        """Return the lines of this level and above."""
        return [text for line_level, text in self._lines if line_level >= level]

    def about(self, words: str, level: int = logging.WARNING) -> list[str]:
        """Return the lines of this level and above that contain ``words``."""
        return [text for text in self.messages(level) if words in text]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogRecorder]:
    """Everything that is logged, by every logger."""
    import airflow.models  # noqa: F401 - configures logging now, not over what is set here

    recorder = LogRecorder()
    for name in ["", *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        if not name or not logger.propagate:
            monkeypatch.setattr(logger, "handlers", [recorder])
        if not name or logger.level:
            monkeypatch.setattr(logger, "level", logging.DEBUG)
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]
    with _structlog_to(recorder):
        yield recorder
    monkeypatch.undo()
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


@contextmanager
def _structlog_to(recorder: LogRecorder) -> Iterator[None]:
    if not find_spec("structlog"):
        yield
        return
    import structlog

    # In place: loggers that exist already hold this very list.
    processors = structlog.get_config()["processors"]
    former = list(processors)
    processors[:] = [recorder.from_structlog]
    try:
        yield
    finally:
        processors[:] = former


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


#: Every setting of the simulator, so that no test inherits another's.
_QUICK = {
    "latency_scale": 0.002,
    "jitter": 0.0,
    "overall_limit": 24,
    "limits": {},
    "fresh_urls": False,
    "url_lifetime_seconds": None,
    "retry_after_seconds": None,
}


@pytest.fixture
def bfl(_simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: LogRecorder) -> Iterator[World]:
    """A quick BFL behind ``bfl_default``; after the test everything that was seen is searched for secrets."""
    _simulator.reset()
    _simulator.settings(**_QUICK)
    _simulator.set_credits(10_000)
    for module, name in _BACK_OFFS:
        monkeypatch.setattr(importlib.import_module(f"airflow_provider_bfl.{module}"), name, (0.0, 0.0))
    monkeypatch.setenv("AIRFLOW_CONN_BFL_DEFAULT", _simulator.connection_json(api_key=CANARY_KEY))
    world = World(_simulator, tmp_path)
    yield world
    world.evidence += log.messages()
    world.check_for_secrets()


@pytest.fixture(params=[False, True], ids=["sync", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Whether the task waits in the triggerer: every promise holds both ways."""
    wanted: bool = request.param
    return wanted


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept through in workers; no such sleep is longer than a blink."""
    slept: list[float] = []
    really_sleep = time.sleep

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        really_sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", sleep)
    return slept
