# SPDX-License-Identifier: Apache-2.0
"""
Five ways to wait for a generation in an event loop: this provider's trigger, and what it is compared with.

Each is a coroutine that polls until the generation has ended, and counts what it asks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

KEY = "bfl_simulator_key"
_FINAL = frozenset({"Ready", "Error", "Failed"})


@dataclass
class Count:
    """How many polls were made so far."""

    polls: int = 0


#: By everything in this process.
TOTAL = Count()

_OF_THIS_TASK: ContextVar[Count | None] = ContextVar("_OF_THIS_TASK", default=None)


def counted() -> Count:
    """Return a count of what the running asyncio task asks from now on."""
    count = Count()
    _OF_THIS_TASK.set(count)
    return count


def _asks() -> None:
    TOTAL.polls += 1
    if (count := _OF_THIS_TASK.get()) is not None:
        count.polls += 1


#: A submit answer and the seconds between two polls; None adapts, where that can be done.
Wait = Callable[[dict[str, Any], float | None], Coroutine[Any, Any, None]]


async def bare(submitted: dict[str, Any], interval: float | None) -> None:
    """Ask with one aiohttp session for all: the least that polling can cost in Python."""
    session = await _shared_session()
    while True:
        _asks()
        async with session.get(submitted["polling_url"], headers={"x-key": KEY}) as answer:
            if (await answer.json())["status"] in _FINAL:
                return
        await asyncio.sleep(interval or 0.5)


async def seed(submitted: dict[str, Any], interval: float | None) -> None:
    """Ask as the loop in BFL's own documentation: sleep half a second, ask, repeat."""
    session = await _shared_session()
    while True:
        await asyncio.sleep(interval or 0.5)
        _asks()
        async with session.get(submitted["polling_url"], headers={"x-key": KEY}) as answer:
            if (await answer.json())["status"] in _FINAL:
                return


async def trigger(submitted: dict[str, Any], interval: float | None) -> None:
    """Ask as this provider's trigger does."""
    from airflow_provider_bfl.api.polling import Poller
    from airflow_provider_bfl.triggers.generation import BflGenerationTrigger

    _count(Poller, "judge")  # once for each poll; the client itself is not to be imported here
    waiting = BflGenerationTrigger(
        polling_url=submitted["polling_url"],
        bfl_conn_id="bfl_default",
        deadline=time.time() + 1800,
        model=submitted.get("model", "flux-2-pro"),
        submitted_at=submitted["submitted_at"],
        poll_interval=interval,
        not_before=0.0,
    )
    async for _ in waiting.run():
        pass


async def http_trigger(submitted: dict[str, Any], interval: float | None) -> None:
    """Ask with the http provider's HttpTrigger, one of them for each poll, since it asks only once."""
    import json

    from airflow.providers.http.triggers.http import HttpResponseSerializer, HttpTrigger

    parts = urlsplit(submitted["polling_url"])
    os.environ.setdefault("AIRFLOW_CONN_HTTP_POLLS", f"http://{parts.netloc}")
    while True:
        _asks()
        asking = HttpTrigger(
            http_conn_id="http_polls", method="GET", endpoint=f"{parts.path}?{parts.query}", headers={"x-key": KEY}
        )
        async for event in asking.run():
            answer = HttpResponseSerializer.deserialize(event.payload["response"])
            if json.loads(answer.content)["status"] in _FINAL:
                return
        await asyncio.sleep(interval or 0.5)


async def threads(submitted: dict[str, Any], interval: float | None) -> None:
    """Ask with a blocking client in the loop's thread pool, as triggers around a synchronous SDK do."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        while True:
            _asks()
            answer = await asyncio.to_thread(session.get, submitted["polling_url"], headers={"x-key": KEY}, timeout=30)
            if answer.json()["status"] in _FINAL:
                return
            await asyncio.sleep(interval or 0.5)


WAITS: dict[str, Wait] = {
    "bare": bare,
    "seed": seed,
    "trigger": trigger,
    "http_trigger": http_trigger,
    "threads": threads,
}

_sessions: dict[str, Any] = {}


async def _shared_session() -> Any:
    import aiohttp

    if "one" not in _sessions:
        _sessions["one"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
    return _sessions["one"]


async def close() -> None:
    """Close what the waits share."""
    for session in _sessions.values():
        await session.close()
    _sessions.clear()


def _count(owner: Any, name: str) -> None:
    really = getattr(owner, name)
    if hasattr(really, "is_counted"):
        return

    def counting(*arguments: Any, **options: Any) -> Any:
        _asks()
        return really(*arguments, **options)

    counting.is_counted = True  # type: ignore[attr-defined]
    setattr(owner, name, counting)
