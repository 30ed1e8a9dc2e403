# SPDX-License-Identifier: Apache-2.0
"""What the three transfers share: everything but the place."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_bfl.arguments import (
    DEFAULT_CONN_ID,
    DEFAULT_TIMEOUT_SECONDS,
    IfExists,
    OnModerated,
    check_arguments,
)
from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.links.bfl import BflDashboardLink, BflStoredObjectLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_bfl.api.messages import PollResult
    from airflow_provider_bfl.hooks.bfl import BflHook
    from airflow_provider_bfl.landing import Generation, Target
    from airflow_provider_bfl.operators.waiting import Waiting

# What only a running task needs is imported where it runs: Airflow parses Dag files all the time.


class BflTransferOperator(BaseOperator):
    """
    Bring the result of a submitted generation into the user's storage.

    It asks for the result itself, because the signed URL lives ten minutes, and waits where the generation is still
    pending. It never pays: a retry downloads and stores again under the same name, and an object that already holds
    the same bytes is a success. Nothing is visible under the final name before it is whole; the bytes are BFL's own.
    It returns the landed result; the sidecar ``<object>.json`` holds the facts beside it.

    :param polling_url: As the submit returned it. Templated.
    :param generation: The submit result, which adds model, cost, times and ``possibly_billed_twice`` to result and
        sidecar. Templated.
    :param bfl_conn_id: The connection. Default ``bfl_default``. Templated.
    :param if_exists: What to do when another object has the name: ``overwrite`` (default), ``skip`` or ``error``.
    :param deferrable: Whether a pending generation is waited for in the triggerer. Default
        ``[operators] default_deferrable``.
    :param timeout: Seconds to wait. Default 1800.
    :param poll_interval: Fixed seconds between polls; None (default) adapts, between 0.5 and 5 s.
    :param on_moderated: ``fail`` (default) or ``skip`` the task when BFL moderated the request or the result.
    :raises BflError: see :mod:`airflow_provider_bfl.exceptions`.
    """

    template_fields: Sequence[str] = ("polling_url", "generation", "bfl_conn_id")
    ui_color = "#e8f0e4"
    operator_extra_links = (BflStoredObjectLink(), BflDashboardLink())

    def __init__(
        self,
        *,
        polling_url: str,
        generation: Mapping[str, Any] | None = None,
        bfl_conn_id: str = DEFAULT_CONN_ID,
        if_exists: IfExists = "overwrite",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        poll_interval: float | None = None,
        on_moderated: OnModerated = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.polling_url = polling_url
        self.generation = generation
        self.bfl_conn_id = bfl_conn_id
        self.if_exists = if_exists
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.on_moderated = on_moderated
        self.object_link = ""
        self.landed: dict[str, Any] | None = None
        check_arguments(self)

    @cached_property
    def hook(self) -> BflHook:
        """The hook of ``bfl_conn_id``."""
        from airflow_provider_bfl.hooks.bfl import BflHook

        return BflHook(self.bfl_conn_id)

    @abstractmethod
    def open_target(self) -> Target:
        """Return where the result goes; raises ``BflConfigError`` where nothing can be stored."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for the result, wait where it is pending, land it."""
        from airflow_provider_bfl.operators.waiting import FIRST_LOOK_SECONDS

        return self._run(context, time.time() + self.timeout, seconds=FIRST_LOOK_SECONDS)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Resume after the triggerer waited; the event is only a hint, the generation is asked for again.

        :param event: ``{"id", "status"}`` of the trigger.
        :param deadline: When the wait ends, wall-clock seconds; ``dag.test()`` of some versions loses it.
        """
        from airflow_provider_bfl.operators.waiting import resume_seconds

        return self._run(context, deadline or time.time() + self.timeout, seconds=resume_seconds(event))

    def _run(self, context: Context, deadline: float, *, seconds: float | None) -> dict[str, Any]:
        from airflow_provider_bfl.operators.delivery import Delivery
        from airflow_provider_bfl.operators.outcome import announce, publish
        from airflow_provider_bfl.operators.previews import Previews
        from airflow_provider_bfl.operators.waiting import Waiting, wait_or_defer

        facts = self._facts()
        delivery = Delivery(self.hook, self.open_target(), self.if_exists, output_format=None)
        waiting = Waiting(
            self.polling_url,
            deadline,
            model=facts.get("model"),
            submitted_at=_epoch(facts.get("submitted_at")),
            poll_interval=self.poll_interval,
        )
        announce(self, context, delivery.target)
        result = wait_or_defer(self, waiting, seconds=seconds)
        generation = self._generation(context, facts, result, waiting)
        previews = Previews(context["ti"], wanted=self.do_xcom_push)
        landed = delivery.land(generation, result, polling_url=self.polling_url, previews=previews)
        publish(self, context, delivery.target, landed)
        return landed

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what the task stored, for OpenLineage; what it was made from is the submitting task's to tell."""
        from airflow_provider_bfl.operators.lineage import lineage_of

        return lineage_of(self.landed)

    def _generation(
        self, context: Context, facts: Mapping[str, Any], result: PollResult, waiting: Waiting
    ) -> Generation:
        from airflow_provider_bfl.landing import Generation
        from airflow_provider_bfl.operators.delivery import task_facts

        return Generation(
            id=result.id or waiting.generation_id or "unknown",
            model=waiting.model,
            region=str(facts.get("region") or self.hook.settings.trust.region),
            request=None,
            cost=facts.get("cost"),
            submitted_at=waiting.submitted_at,
            reattached=bool(facts.get("reattached")),
            possibly_billed_twice=bool(facts.get("possibly_billed_twice")),
            task=task_facts(context),
        )

    def _facts(self) -> Mapping[str, Any]:
        facts = self.generation or {}
        if not isinstance(facts, Mapping):
            raise BflConfigError(
                f"{self.task_id}: generation is a {type(facts).__name__}, not the dict that the submit returned. Give "
                "submit.output, or set render_template_as_native_obj=True on the Dag for a template."
            )
        about = facts.get("polling_url")
        if about is not None and about != self.polling_url:
            raise BflConfigError(
                f"{self.task_id}: generation is the result of {facts.get('id')}, but polling_url belongs to another "
                "generation. Nothing was landed."
            )
        return facts


def _epoch(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
