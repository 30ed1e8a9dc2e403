# SPDX-License-Identifier: Apache-2.0
"""
How operator, sensor and transfers wait alike: a while in the worker, the rest in the triggerer.

A deferral costs two to four seconds, so a result that is near is awaited where the task already is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.api.messages import PollResult, check_outcome, generation_id_of
from airflow_provider_bfl.api.polling import Finished, Poller, TimedOut, Unreachable
from airflow_provider_bfl.arguments import OnModerated
from airflow_provider_bfl.exceptions import BflGenerationFailedError, BflModeratedError, BflTimeoutError
from airflow_provider_bfl.hooks.bfl import poll_error
from airflow_provider_bfl.metrics import Metric, count

if TYPE_CHECKING:
    from airflow_provider_bfl.hooks.bfl import BflHook
    from airflow_provider_bfl.sensors.generation import BflGenerationSensor
    from airflow_provider_bfl.transfers.base import BflTransferOperator

#: Ours ends the wait gracefully; Airflow's own timeout of the deferral is only the net below it.
DEFERRAL_MARGIN = timedelta(minutes=2)

#: How long a resumed task asks before it defers again: the event said the result is there.
_RESUME_WAIT_SECONDS = 30.0

#: A model this quick is done before a deferral would have been.
_QUICK_MODEL_SECONDS = 8.0

#: At least one answer is had in the worker, for a generation that may have ended long ago.
FIRST_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Waiting:
    """
    One wait for one generation.

    :param polling_url: As BFL returned it.
    :param deadline: Wall-clock seconds at which the wait ends.
    :param model: The model, or None when unknown.
    :param submitted_at: Wall-clock seconds, or None when unknown.
    :param poll_interval: Fixed seconds between polls, or None to adapt to the model.
    """

    polling_url: str
    deadline: float
    model: str | None = None
    submitted_at: float | None = None
    poll_interval: float | None = None

    @property
    def generation_id(self) -> str | None:
        """The id in the polling URL, for messages."""
        return generation_id_of(self.polling_url)

    def in_worker(self, hook: BflHook, *, seconds: float | None) -> PollResult | None:
        """
        Poll in the worker and return the result, or None when ``seconds`` have passed without one.

        :param seconds: None waits to the deadline.
        :raises BflTimeoutError: the deadline passed.
        :raises BflPollError: five polls in a row failed.
        :raises BflError: the generation ended without a result.
        """
        until = None if seconds is None else time.time() + seconds
        verdict = hook.wait(self.polling_url, self._poller(), until=until)
        return None if verdict is None else self._judge(verdict)

    def deferral(self, bfl_conn_id: str) -> dict[str, Any]:
        """Return the arguments of ``defer`` that wait in the triggerer."""
        from airflow_provider_bfl.triggers.generation import BflGenerationTrigger

        trigger = BflGenerationTrigger(
            polling_url=self.polling_url,
            bfl_conn_id=bfl_conn_id,
            deadline=self.deadline,
            model=self.model,
            submitted_at=self.submitted_at,
            poll_interval=self.poll_interval,
        )
        remaining = timedelta(seconds=max(0.0, self.deadline - time.time()))
        return {"trigger": trigger, "timeout": remaining + DEFERRAL_MARGIN}

    def _poller(self) -> Poller:
        return Poller(
            deadline=self.deadline,
            typical_seconds=get_model(self.model or "").typical_seconds,
            submitted_at=self.submitted_at,
            poll_interval=self.poll_interval,
        )

    def _judge(self, verdict: Finished | TimedOut | Unreachable) -> PollResult:
        if isinstance(verdict, Unreachable):
            raise poll_error(verdict.failure, generation_id=self.generation_id)
        if isinstance(verdict, TimedOut):
            message = (
                f"Generation {self.generation_id} was not finished at the deadline (last status: "
                f"{verdict.last_status}). It is billed once, when it finishes; a retry re-attaches to it and pays "
                "nothing. Raise timeout if this model needs longer."
            )
            raise BflTimeoutError(message, generation_id=self.generation_id, model=self.model)
        check_outcome(verdict.result, generation_id=self.generation_id or "(unknown id)", model=self.model)
        return verdict.result


def wait_or_defer(
    operator: BflGenerationSensor | BflTransferOperator, waiting: Waiting, *, seconds: float | None
) -> PollResult:
    """
    Wait as the sensor and the transfers do, which keep no record: the deadline travels with the deferral.

    :param seconds: How long a deferrable task polls in the worker before it defers; None waits to the deadline.
    :raises BflError: see :meth:`Waiting.in_worker`.
    :raises TaskDeferred: there is no result yet.
    """
    with moderation(operator.on_moderated):
        result = waiting.in_worker(operator.hook, seconds=seconds if operator.deferrable else None)
    if result is None:
        operator.defer(
            **waiting.deferral(operator.bfl_conn_id),
            method_name="execute_complete",
            kwargs={"deadline": waiting.deadline},
        )
    return result


def resume_seconds(event: Mapping[str, Any] | None) -> float | None:
    """
    Return how long a resumed task polls in the worker before it defers again; None is to the deadline.

    A triggerer that could not wait (no route, no such connection there) would fail again at once.
    """
    from airflow_provider_bfl.triggers.generation import TRIGGER_ERROR

    return None if (event or {}).get("status") == TRIGGER_ERROR else _RESUME_WAIT_SECONDS


@contextmanager
def moderation(on_moderated: OnModerated) -> Iterator[None]:
    """Count an end without a result; turn moderation into a skipped task where the user asked for it."""
    try:
        yield
    except BflGenerationFailedError as error:
        count(Metric.FAILED, model=error.model)
        raise
    except BflModeratedError as error:
        count(Metric.MODERATED, model=error.model)
        if on_moderated == "skip":
            raise AirflowSkipException(str(error)) from None
        raise


def default_inline_wait(model: str, *, reattached: bool) -> float:
    """Return the seconds a deferrable task polls in the worker before it defers."""
    if reattached:
        return FIRST_LOOK_SECONDS
    typical = get_model(model).typical_seconds
    return 1.5 * typical + FIRST_LOOK_SECONDS if typical <= _QUICK_MODEL_SECONDS else 0.0
