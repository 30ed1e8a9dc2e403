# SPDX-License-Identifier: Apache-2.0
"""The sensor that waits until the account has enough credits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_bfl.arguments import DEFAULT_CONN_ID, check_arguments
from airflow_provider_bfl.exceptions import BflError, BflServiceError, BflTimeoutError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.hooks.bfl import BflHook

# What only a running task needs is imported where it runs: Airflow parses Dag files all the time.

#: Somebody has to buy credits: that is minutes away at best.
_DEFAULT_POLL_SECONDS = 60.0

_DEFAULT_TIMEOUT_SECONDS = 24 * 3600.0


class BflCreditsSensor(BaseSensorOperator):
    """
    Wait until the account has at least so many credits.

    It asks for the balance, which is free, and never generates anything. With ``deferrable`` it asks once and then
    waits in the triggerer, without a worker slot. It returns ``{"credits": <balance>}``. Credits can be spent by
    others between this task and the next; a batch's own ``max_cost`` is what limits spending.

    :param min_credits: The balance to wait for. Templated.
    :param bfl_conn_id: The connection. Default ``bfl_default``. Templated.
    :param deferrable: Whether to wait in the triggerer. Default ``[operators] default_deferrable``.
    :param timeout: Seconds to wait. Default one day.
    :param poll_interval: Seconds between two questions. Default 60.
    :raises BflAuthenticationError: the key was refused.
    :raises BflTimeoutError: a deferred wait took longer than ``timeout``.
    """

    template_fields: Sequence[str] = ("min_credits", "bfl_conn_id")
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        min_credits: float | str,
        bfl_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float = _DEFAULT_TIMEOUT_SECONDS,
        poll_interval: float = _DEFAULT_POLL_SECONDS,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(timeout=timeout, **kwargs)
        self.min_credits = min_credits
        self.bfl_conn_id = bfl_conn_id
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        if isinstance(min_credits, str):
            return  # templated: judged when it is rendered
        check_arguments(self)

    @cached_property
    def hook(self) -> BflHook:
        """The hook of ``bfl_conn_id``."""
        from airflow_provider_bfl.hooks.bfl import BflHook

        return BflHook(self.bfl_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask until there are enough, in the worker or in the triggerer."""
        self._check_rendered()
        if not self.deferrable or self.reschedule:
            result: dict[str, Any] = super().execute(context)
            return result
        return self._look_or_defer(time.time() + self.timeout)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Resume after the triggerer waited; the event is only a hint, the balance is asked for again.

        :param event: ``{"status"}`` of the trigger.
        :param deadline: When the wait ends, wall-clock seconds; ``dag.test()`` of some versions loses it.
        """
        self._check_rendered()
        return self._look_or_defer(deadline or time.time() + self.timeout)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Ask once."""
        try:
            balance = self.hook.get_credits()
        except BflServiceError as error:
            self.log.warning("%s Asking again at the next poke.", error)
            return False
        self.log.info("The account has %g credits; %g are waited for.", balance, self._wanted)
        return PokeReturnValue(is_done=True, xcom_value={"credits": balance}) if balance >= self._wanted else False

    @property
    def _wanted(self) -> float:
        return float(self.min_credits)

    def _check_rendered(self) -> None:
        if isinstance(self.min_credits, str):
            with suppress(ValueError):  # what is no number is refused below
                self.min_credits = float(self.min_credits)
        check_arguments(self)

    def _look_or_defer(self, deadline: float) -> dict[str, Any]:
        from airflow_provider_bfl.operators.waiting import DEFERRAL_MARGIN
        from airflow_provider_bfl.triggers.credits import BflCreditsTrigger

        try:
            found = self.poke({})
            if isinstance(found, PokeReturnValue):
                return dict(found.xcom_value or {})
            if time.time() >= deadline:
                raise BflTimeoutError(
                    f"The account had fewer than {self._wanted:g} credits for {self.timeout:g} s. Nothing was "
                    "submitted. Buy credits, then clear the task."
                )
        except BflError as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from None
            raise
        trigger = BflCreditsTrigger(
            min_credits=self._wanted,
            bfl_conn_id=self.bfl_conn_id,
            deadline=deadline,
            poll_interval=self.poll_interval,
        )
        remaining = timedelta(seconds=max(0.0, deadline - time.time()))
        self.defer(
            trigger=trigger,
            timeout=remaining + DEFERRAL_MARGIN,
            method_name="execute_complete",
            kwargs={"deadline": deadline},
        )
        raise AssertionError("a deferral ends the task's part")
