# SPDX-License-Identifier: Apache-2.0
"""Where a process may be killed, or meets an error: names for moments, and what is planted there."""

from __future__ import annotations

import asyncio
import errno
import functools
import importlib
import inspect
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAVES = (
    "airflow_provider_bfl.durable.journal:TaskStateJournal.save",
    "airflow_provider_bfl.durable.journal:ObjectStorageJournal.save",
)
_LOADS = (
    "tests.airflow_fixtures:TaskStateStore.get",
    "airflow.providers.common.compat.sdk:ObjectStoragePath.read_text",
)
#: A record in that state, as a dict or as JSON.
_SUBMITTED = re.compile(r"""['"]state['"]: ['"]submitted['"]""")
_WRITES = ("tests.airflow_fixtures:TaskStateStore.set", "airflow_provider_bfl.durable.journal:_write_whole")


@dataclass(frozen=True)
class Seam:
    """
    A moment: just before, or just after, a call that ``applies``.

    :param calls: ``module:name`` of the functions.
    :param after: Whether it is the moment after the call.
    :param applies: Gets the arguments of the call, ``self`` included.
    """

    calls: tuple[str, ...]
    after: bool = False
    applies: Callable[..., bool] = lambda *_, **__: True


def _of_state(state: str) -> Callable[..., bool]:
    return lambda _, record: record.state == state


SEAMS = {
    "before the intent": Seam(_SAVES, applies=_of_state("intent")),
    "after the intent": Seam(_SAVES, after=True, applies=_of_state("intent")),
    "before the record": Seam(_SAVES, applies=_of_state("submitted")),
    "after the record": Seam(_SAVES, after=True, applies=_of_state("submitted")),
    "worker polls": Seam(("airflow_provider_bfl.transport.sync:BflClient.poll",), after=True),
    "triggerer polls": Seam(("airflow_provider_bfl.transport.aio:AsyncBflClient.poll",), after=True),
    "after the download": Seam(("airflow_provider_bfl.transport.sync:BflClient.download",), after=True),
    "after the upload": Seam(
        ("airflow_provider_bfl.landing.files:FileStore.put",),
        after=True,
        applies=lambda _self, _key, contents, **_: not contents.is_sidecar,
    ),
    "before the final XCom": Seam(("tests.faults.imitation:push_result",)),
    "before the final XCom of the transfer": Seam(
        ("tests.faults.imitation:push_result",), applies=lambda ti, _: ti.task_id == "store"
    ),
    "connecting": Seam(("urllib3.util.connection:create_connection",)),
    "storing": Seam(("airflow_provider_bfl.landing.files:_publish",)),
    "reading the journal": Seam(_LOADS),
    "writing the journal": Seam(_WRITES),
    "writing the record": Seam(_WRITES, applies=lambda *written: _SUBMITTED.search(str(written[-1])) is not None),
}


@dataclass(frozen=True)
class Plant:
    """
    What waits at a seam.

    :param seam: Its name in :data:`SEAMS`.
    :param error: Makes the error that is raised there; None kills the process.
    :param times: How often it strikes, over all processes; None is always.
    :param skip: How often it lets pass first.
    :param tries: The tries of a task in which it is planted; None is all.
    """

    seam: str
    error: Callable[[], Exception] | None = None
    times: int | None = 1
    skip: int = 0
    tries: tuple[int, ...] | None = None


def kill(seam: str, **when: Any) -> Plant:
    """Return a plant that kills the process with SIGKILL."""
    return Plant(seam, **when)


def connection_refused(**when: Any) -> Plant:
    """Return a plant that lets no connection be made."""
    return Plant("connecting", lambda: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), **when)


def storage_failure(**when: Any) -> Plant:
    """Return a plant that lets nothing be stored."""
    return Plant("storing", lambda: OSError(errno.EIO, "Input/output error"), **when)


def database_away(seam: str, **when: Any) -> Plant:
    """Return a plant in whose presence the journal's store does not answer."""
    return Plant(seam, lambda: ConnectionError("the database is away"), **when)


def plant_all(plants: Iterable[Plant], *, try_number: int, scratch: Path) -> None:
    """
    Plant in this process, for as long as it lives.

    :param scratch: A directory in which strikes are counted over all processes.
    """
    for index, plant in enumerate(plants):
        if plant.tries is None or try_number in plant.tries:
            strike = _striker(plant, scratch / f"strikes-{index}")
            for call in SEAMS[plant.seam].calls:
                owner, name = _resolve(call)
                setattr(owner, name, _wrapped(getattr(owner, name), SEAMS[plant.seam], strike))


def _striker(plant: Plant, count: Path) -> Callable[[], None]:
    def strike() -> None:
        with count.open("ab") as file:
            file.write(b".")
        passed = count.stat().st_size
        if passed <= plant.skip or (plant.times is not None and passed > plant.skip + plant.times):
            return
        if plant.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise plant.error()

    return strike


def _wrapped(really: Callable[..., Any], seam: Seam, strike: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(really)
    def call(*args: Any, **kwargs: Any) -> Any:
        struck = seam.applies(*args, **kwargs)
        if struck and not seam.after:
            strike()
        result = really(*args, **kwargs)
        if struck and seam.after:
            strike()
        return result

    @functools.wraps(really)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        result = await really(*args, **kwargs)
        strike()
        return result

    return acall if inspect.iscoroutinefunction(really) else call


def _resolve(call: str) -> tuple[Any, str]:
    module, _, path = call.partition(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name


#: Pauses between tries inside one attempt, and the first look of a deferrable sensor, which would spare the deferral.
_PAUSES = (
    ("durable.submit", "REPEAT_DELAYS"),
    ("durable.submit", "_SAVE_DELAYS"),
    ("landing.land", "_DOWNLOAD_DELAYS"),
    ("landing.land", "_STORE_DELAYS"),
    ("operators.waiting", "FIRST_LOOK_SECONDS"),
    ("api.polling", "NOT_FOUND_GRACE_SECONDS"),
)

_NAP_SECONDS = 0.01


def hasten() -> None:
    """Let this process wait for nothing: as many tries as ever, hardly any time between them."""
    for name, constant in _PAUSES:
        module = importlib.import_module(f"airflow_provider_bfl.{name}")
        value = getattr(module, constant)
        setattr(module, constant, (0.0,) * len(value) if isinstance(value, tuple) else 0.0)
    sleep, asleep = time.sleep, asyncio.sleep
    setattr(time, "sleep", lambda seconds: sleep(min(seconds, _NAP_SECONDS)))  # noqa: B010
    setattr(asyncio, "sleep", lambda seconds, result=None: asleep(min(seconds, _NAP_SECONDS), result))  # noqa: B010
