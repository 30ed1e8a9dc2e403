# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for one generation in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.api.messages import generation_id_of
from airflow_provider_bfl.api.polling import Finished, Poller, TimedOut, Unreachable
from airflow_provider_bfl.arguments import KILLED
from airflow_provider_bfl.hooks.bfl import BflHook

#: The task that deferred needs a moment to leave its worker. Airflow 3.2 and 3.3 with LocalExecutor fail a task that
#: is queued again before its former process was seen to end, which takes up to [workers] min_heartbeat_interval (5 s).
FIRST_EVENT_GRACE_SECONDS = 5.0

#: Event statuses of this provider's own; every other is BFL's word.
TIMEOUT = "timeout"
UNREACHABLE = "unreachable"
TRIGGER_ERROR = "error"


class BflGenerationTrigger(BaseTrigger):
    """
    Poll one generation until it ends and say so in exactly one event.

    It only asks, so it can run twice or move to another triggerer without harm, and it never raises: whatever
    happened, the task is resumed and judges for itself. The event is ``{"id", "status"}``, a hint without the signed
    URL; ``status`` is BFL's, or ``timeout``, ``unreachable`` (five polls in a row failed) or ``error``.

    :param polling_url: As BFL returned it; judged again before the key is sent to it.
    :param bfl_conn_id: The connection; it is read here, no credential is part of the trigger.
    :param deadline: Wall-clock seconds since the epoch at which the wait ends. Absolute, so that a move to another
        triggerer does not extend it.
    :param model: The model, for when to poll; None polls as for a model of ten seconds.
    :param submitted_at: When the generation was submitted, wall-clock seconds; None when unknown.
    :param poll_interval: Fixed seconds between polls; None adapts to the model.
    :param not_before: Wall-clock seconds before which there is no event. None: five seconds from now.
    """

    def __init__(
        self,
        *,
        polling_url: str,
        bfl_conn_id: str,
        deadline: float,
        model: str | None = None,
        submitted_at: float | None = None,
        poll_interval: float | None = None,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.polling_url = polling_url
        self.bfl_conn_id = bfl_conn_id
        self.deadline = deadline
        self.model = model
        self.submitted_at = submitted_at
        self.poll_interval = poll_interval
        self.not_before = time.time() + FIRST_EVENT_GRACE_SECONDS if not_before is None else not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the metadata database keeps: no credential, no signed URL."""
        return (
            "airflow_provider_bfl.triggers.generation.BflGenerationTrigger",
            {
                "polling_url": self.polling_url,
                "bfl_conn_id": self.bfl_conn_id,
                "deadline": self.deadline,
                "model": self.model,
                "submitted_at": self.submitted_at,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield the one event."""
        yield TriggerEvent({"id": generation_id_of(self.polling_url), "status": await self._wait()})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Say what goes on without the task when a user kills it while deferred (Airflow 3.3 and later)."""
        self.log.warning(KILLED, generation_id_of(self.polling_url))

    async def _wait(self) -> str:
        poller = Poller(
            deadline=self.deadline,
            typical_seconds=get_model(self.model or "").typical_seconds,
            submitted_at=self.submitted_at,
            poll_interval=self.poll_interval,
        )
        try:
            verdict = await BflHook(self.bfl_conn_id).await_result(self.polling_url, poller, not_before=self.not_before)
        except Exception as error:  # noqa: BLE001 - the task is resumed whatever happened, and judges for itself
            self.log.warning(
                "Waiting for generation %s in the triggerer ended with %s; the task goes on by itself.",
                generation_id_of(self.polling_url),
                type(error).__name__,
            )
            await asyncio.sleep(self.not_before - time.time())
            return TRIGGER_ERROR
        return _status_of(verdict)


def _status_of(verdict: Finished | TimedOut | Unreachable) -> str:
    if isinstance(verdict, Finished):
        return verdict.result.status
    return TIMEOUT if isinstance(verdict, TimedOut) else UNREACHABLE
