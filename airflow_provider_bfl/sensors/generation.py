# SPDX-License-Identifier: Apache-2.0
"""The sensor that waits for a submitted generation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_bfl.arguments import DEFAULT_CONN_ID, DEFAULT_TIMEOUT_SECONDS, OnModerated, check_arguments
from airflow_provider_bfl.exceptions import BflError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.api.messages import PollResult
    from airflow_provider_bfl.hooks.bfl import BflHook

# What only a running task needs is imported where it runs: Airflow parses Dag files all the time.

#: A rescheduled sensor costs the scheduler a second or two each time, so it asks less often than a waiting one.
_RESCHEDULE_SECONDS = 15.0

#: In this time five refusals of the key are had, or "Task not found" has outlived its grace of 30 s.
_SETTLE_SECONDS = 45.0


class BflGenerationSensor(BaseSensorOperator):
    """
    Wait until a submitted generation is ready.

    It asks and never pays; a retry asks again. It returns ``id``, ``status``, ``seed`` and ``cost`` and never the
    signed URL, which lives ten minutes: a transfer asks for its own. With ``deferrable`` the wait frees the worker
    slot and happens in the triggerer.

    :param polling_url: As the submit returned it, usually
        ``"{{ ti.xcom_pull(task_ids='submit', key='polling_url') }}"``. Templated.
    :param bfl_conn_id: The connection. Default ``bfl_default``. Templated.
    :param deferrable: Whether to wait in the triggerer. Default ``[operators] default_deferrable``.
    :param timeout: Seconds to wait. Default 1800.
    :param poll_interval: Fixed seconds between polls; None (default) adapts, between 0.5 and 5 s.
    :param on_moderated: ``fail`` (default) or ``skip`` the task when BFL moderated the request or the result.
    :raises BflError: the generation ended without a result, polling failed five times in a row, or the time is up.
    """

    template_fields: Sequence[str] = ("polling_url", "bfl_conn_id")
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        polling_url: str,
        bfl_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        poll_interval: float | None = None,
        on_moderated: OnModerated = "fail",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("poke_interval", poll_interval or _RESCHEDULE_SECONDS)
        super().__init__(timeout=timeout, **kwargs)
        self.polling_url = polling_url
        self.bfl_conn_id = bfl_conn_id
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.on_moderated = on_moderated
        check_arguments(self)

    @cached_property
    def hook(self) -> BflHook:
        """The hook of ``bfl_conn_id``."""
        from airflow_provider_bfl.hooks.bfl import BflHook

        return BflHook(self.bfl_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait in the worker, or look once and then wait in the triggerer."""
        if self.reschedule:
            result: dict[str, Any] = super().execute(context)
            return result
        from airflow_provider_bfl.operators.waiting import FIRST_LOOK_SECONDS

        try:
            return self._wait(time.time() + self.timeout, seconds=FIRST_LOOK_SECONDS)
        except BflError as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from None
            raise

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Resume after the triggerer waited; the event is only a hint, the generation is asked for again.

        :param event: ``{"id", "status"}`` of the trigger.
        :param deadline: When the wait ends, wall-clock seconds; ``dag.test()`` of some versions loses it.
        """
        from airflow_provider_bfl.operators.waiting import resume_seconds

        return self._wait(deadline or time.time() + self.timeout, seconds=resume_seconds(event))

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """
        Ask once; what ``mode="reschedule"`` does at every ``poke_interval``.

        A refused key and "Task not found" are asked about further, for up to 45 s in the worker, and then end the wait.
        """
        from airflow_provider_bfl.api.messages import Phase, PollFailure, check_outcome, generation_id_of
        from airflow_provider_bfl.operators.results import waited_result
        from airflow_provider_bfl.operators.waiting import moderation

        generation_id = generation_id_of(self.polling_url) or "(unknown id)"
        reply = self.hook.get_conn().poll(self.polling_url)
        if isinstance(reply, PollFailure) and not reply.unauthorized:
            self.log.warning(
                "Generation %s: the poll failed (%s); asking again at the next poke.", generation_id, reply.reason
            )
            return False
        with moderation(self.on_moderated):
            final = None if isinstance(reply, PollFailure) or reply.phase is Phase.NOT_FOUND else reply
            final = final or self._settle()
            if final is None or not final.is_final:
                return False
            check_outcome(final, generation_id=generation_id)
        return PokeReturnValue(is_done=True, xcom_value=waited_result(final))

    def _settle(self) -> PollResult | None:
        # One such answer is not believed, and a poke remembers nothing: the answers it takes are asked for now.
        from airflow_provider_bfl.operators.waiting import Waiting

        waiting = Waiting(self.polling_url, time.time() + self.timeout, poll_interval=self.poll_interval)
        return waiting.in_worker(self.hook, seconds=_SETTLE_SECONDS)

    def _wait(self, deadline: float, *, seconds: float | None) -> dict[str, Any]:
        from airflow_provider_bfl.operators.results import waited_result
        from airflow_provider_bfl.operators.waiting import Waiting, wait_or_defer

        waiting = Waiting(self.polling_url, deadline, poll_interval=self.poll_interval)
        return waited_result(wait_or_defer(self, waiting, seconds=seconds))
