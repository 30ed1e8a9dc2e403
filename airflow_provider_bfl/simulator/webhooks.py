# SPDX-License-Identifier: Apache-2.0
"""Webhooks: when a task that asked for one ends, its poll body is posted, once, with the secret in a header."""

from __future__ import annotations

import asyncio

import aiohttp

from airflow_provider_bfl.simulator.ledger import WebhookRow, blot
from airflow_provider_bfl.simulator.world import TaskEntry, World

_TIMEOUT = aiohttp.ClientTimeout(total=30)

#: A task's end can be moved by the clock or by hand, so it is looked for instead of slept until.
_LOOK_EVERY_SECONDS = 0.05


class Webhooks:
    """What is still to be posted; belongs to one event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending: set[asyncio.Task[None]] = set()

    def owe(self, entry: TaskEntry, url: str, secret: str | None) -> None:
        """
        Post the task's end to a URL when it comes.

        :param entry: The task.
        :param url: Where to post.
        :param secret: Value of ``X-Webhook-Secret``; None sends no such header.
        """
        pending = asyncio.get_running_loop().create_task(self._post(entry, url, secret))
        self._pending.add(pending)
        pending.add_done_callback(self._pending.discard)

    async def close(self) -> None:
        """Drop what is still to be posted."""
        for pending in self._pending:
            pending.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _post(self, entry: TaskEntry, url: str, secret: str | None) -> None:
        while not entry.task.finished(self._world.clock.now()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        headers = {"X-Webhook-Secret": secret} if secret else {}
        status = 0
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(url, json=self._world.poll_body(entry), headers=headers) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            pass
        shown = blot(url, self._world.seen_keys)
        self._world.ledger.webhooks.append(WebhookRow(self._world.clock.now(), entry.task.id, shown, status))
