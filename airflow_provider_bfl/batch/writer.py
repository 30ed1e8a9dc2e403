# SPDX-License-Identifier: Apache-2.0
"""
Group commit: everything that waits to be written goes into the next write, whoever it is from.

A store takes tens of milliseconds for a write and a batch has dozens of items under way, so one write per item would
leave slots empty. Nothing on the event loop waits but the POSTs, for their intents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from airflow_provider_bfl.batch.journal import Manifest
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.segments import FAN_IN
from airflow_provider_bfl.exceptions import BflBatchTakenOverError, BflError, BflJournalError


class GroupCommit:
    """
    Writes rows to the journal.

    :param manifest: Where.
    :param executor: One thread for the writes.
    :param tidying: One thread for keeping the journal small, which takes longer.
    :param failed: Told when a write failed for good: no more intents will become durable.
    """

    def __init__(
        self, manifest: Manifest, executor: Executor, tidying: Executor, *, failed: Callable[[BflError], None]
    ) -> None:
        self._manifest = manifest
        self._executor = executor
        self._tidying = tidying
        self._failed = failed
        self._notes: list[bytes] = []
        self._intents: list[tuple[bytes, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._closing = False

    def note(self, row: Row) -> None:
        """Write a row soon; whoever notes it goes on."""
        self._notes.append(row.to_line())
        self._wake.set()

    async def intend(self, row: Row) -> None:
        """
        Write the intent of a POST and return when it is durable.

        :raises BflJournalError: it is not; nothing may be sent.
        :raises BflBatchTakenOverError: another attempt goes on with the batch; nothing may be sent.
        """
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._intents.append((row.to_line(), durable))
        self._wake.set()
        await durable

    async def run(self) -> None:
        """Write until closed; what was noted last is written before the end."""
        while not self._closing or self._notes or self._intents:
            await self._wake.wait()
            self._wake.clear()
            if self._notes or self._intents:
                await self._write()

    def close(self) -> None:
        """Let :meth:`run` end when everything is written, or after one more try."""
        self._closing = True
        self._wake.set()

    async def _write(self) -> None:
        notes, self._notes = self._notes, []
        intents, self._intents = self._intents, []
        lines = b"".join([*notes, *(line for line, _ in intents)])
        loop = asyncio.get_running_loop()
        try:
            number = await loop.run_in_executor(
                self._executor, lambda: self._manifest.write(lines, before_posts=bool(intents))
            )
        except (BflJournalError, BflBatchTakenOverError) as error:
            self._give_up(error, notes, intents)
            return
        for _, durable in intents:
            if not durable.done():
                durable.set_result(None)
        if (number + 1) % FAN_IN == 0:
            loop.run_in_executor(self._tidying, self._manifest.tidy)

    def _give_up(self, error: BflError, notes: list[bytes], intents: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        if not self._closing:
            # Older rows first: the next write, if there is one, has them all.
            self._notes = notes + self._notes
        for _, durable in intents:
            if not durable.done():
                durable.set_exception(error)
        self._failed(error)
