# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for credits in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bfl.exceptions import BflServiceError
from airflow_provider_bfl.hooks.bfl import BflHook
from airflow_provider_bfl.triggers.generation import FIRST_EVENT_GRACE_SECONDS, TIMEOUT, TRIGGER_ERROR

ENOUGH = "enough"


class BflCreditsTrigger(BaseTrigger):
    """
    Ask for the account's balance until it is high enough, and say so in exactly one event.

    Asking is free. The event is ``{"status"}``: ``enough``, ``timeout`` or ``error``; the task is resumed whatever
    happened, asks again and judges for itself.

    :param min_credits: The balance that is waited for.
    :param bfl_conn_id: The connection; it is read here, no credential is part of the trigger.
    :param deadline: Wall-clock seconds since the epoch at which the wait ends.
    :param poll_interval: Seconds between two questions.
    :param not_before: Wall-clock seconds before which there is no event. None: five seconds from now.
    """

    def __init__(
        self,
        *,
        min_credits: float,
        bfl_conn_id: str,
        deadline: float,
        poll_interval: float,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.min_credits = min_credits
        self.bfl_conn_id = bfl_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.not_before = time.time() + FIRST_EVENT_GRACE_SECONDS if not_before is None else not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the metadata database keeps: no credential."""
        return (
            "airflow_provider_bfl.triggers.credits.BflCreditsTrigger",
            {
                "min_credits": self.min_credits,
                "bfl_conn_id": self.bfl_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield the one event."""
        try:
            status = await self._wait()
        except Exception as error:  # noqa: BLE001 - the task is resumed whatever happened, and judges for itself
            self.log.warning(
                "Waiting for credits in the triggerer ended with %s; the task goes on by itself.", type(error).__name__
            )
            status = TRIGGER_ERROR
        await asyncio.sleep(self.not_before - time.time())
        yield TriggerEvent({"status": status})  # type: ignore[no-untyped-call]

    async def _wait(self) -> str:
        async with BflHook(self.bfl_conn_id).async_client() as client:
            while True:
                try:
                    if await client.credits() >= self.min_credits:
                        return ENOUGH
                except BflServiceError as error:
                    self.log.warning("The balance could not be had (%s); asking again.", type(error).__name__)
                remaining = self.deadline - time.time()
                if remaining <= 0:
                    return TIMEOUT
                await asyncio.sleep(min(self.poll_interval, remaining))
