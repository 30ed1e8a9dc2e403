# SPDX-License-Identifier: Apache-2.0
"""The operator that makes many generations in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bfl.arguments import (
    DEFAULT_CONN_ID,
    DEFAULT_MAX_QUEUE_WAIT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    IfExists,
    OnAmbiguousSubmit,
    Validation,
    check_arguments,
)
from airflow_provider_bfl.exceptions import BflConfigError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.hooks.bfl import BflHook
    from airflow_provider_bfl.operators.batch_flow import BatchFlow


class BflBatchOperator(BaseOperator):
    """
    Make many generations in one task, and land each as it finishes.

    One worker slot and one event loop keep the account's slots full: a slot that is free takes the next item at once.
    ``<destination>/manifest.jsonl`` has a row for every item and is the batch's journal. A retry, a clear and a restart
    read it first: what is landed stays, what BFL has is re-attached to and landed, what was generated and not stored is
    stored, and only what never was submitted is submitted. Nothing is POSTed before its intent is written there.
    Where the answer to a POST was lost, ``on_ambiguous_submit`` says what a later attempt does, and the item's row says
    ``possibly_billed_twice``.

    All requests are read and judged before the first is paid for; one error names the rows that are wrong. A full
    account (429) is waited for and shared with others; without credits (402) nothing more is submitted and what is in
    flight is still collected. A moderated or failed item is a row, and ``fail_on`` decides about the task.

    It returns ``manifest_uri``, ``counts`` (items by what became of them), ``total``, ``cost`` (credits of all
    attempts, doubts counted in full), ``reattached`` and ``possibly_billed_twice`` (items). Everything about single
    items is in the manifest.

    :param requests: A list of prompts; a list of dicts with ``prompt``, ``name``, ``model`` and ``parameters``, all
        optional; or the object-storage URI of a ``.csv``, ``.jsonl`` or ``.ndjson`` file of the same. In a CSV every
        other column is one of BFL's fields. ``name`` is the item's name in the manifest and its object's name.
        Templated.
    :param destination: The object-storage directory (ending in ``/``) that results and manifest go to. Put
        ``{{ run_id }}`` into it: the manifest of another run there is an error. Templated.
    :param model: The model of items that name none. Default ``flux-2-pro``. Templated.
    :param parameters: Request fields of every item, in BFL's own names; an item's own win. Templated.
    :param bfl_conn_id: The connection. Default ``bfl_default``. Templated.
    :param storage_conn_id: Airflow connection of ``destination``, of the requests' file and of media URIs; None for the
        store's default. Templated.
    :param max_active: The most generations in flight. Default: 24, and per model what BFL allows of it.
    :param max_cost: Credits that all attempts together may cost, by BFL's own figures, judged before every POST by the
        dearest request of the model seen so far. None (default) for no limit.
    :param fail_on: When items that ended without a result fail the task: ``any`` of them (default), ``all`` items,
        ``none``, or more than this share of the items (0 to 1). Work that a retry can finish always fails it.
    :param on_moderated: ``record`` (default): a moderated item is one without a result. ``skip``: it does not count for
        ``fail_on``. ``fail``: one is enough, whatever ``fail_on``.
    :param on_ambiguous_submit: What a later attempt does where the answer to a POST was lost: ``resubmit`` (default) or
        ``fail``. Never a second POST inside one attempt.
    :param if_exists: What to do when another object has an item's name: ``overwrite`` (default); ``skip``, which also
        takes over what other runs stored there for the same requests; or ``error``.
    :param timeout: Seconds to wait for one generation, from its submit or re-attach. Default 1800.
    :param poll_interval: Fixed seconds between polls of one generation; None (default) learns from those that ended.
    :param max_queue_wait: Seconds the account may stay full without a single slot. Default 3600.
    :param validation: ``error`` (default) refuses requests the catalogue finds fault with, before anything is paid for;
        ``warn`` logs; ``off`` does neither.
    :raises BflError: see :mod:`airflow_provider_bfl.exceptions`; which a retry cures is said there.
    """

    template_fields: Sequence[str] = (
        "requests",
        "destination",
        "model",
        "parameters",
        "bfl_conn_id",
        "storage_conn_id",
    )
    template_fields_renderers = {"requests": "json", "parameters": "json"}  # noqa: RUF012
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        requests: Sequence[str | Mapping[str, Any]] | str,
        destination: str,
        model: str = "flux-2-pro",
        parameters: Mapping[str, Any] | None = None,
        bfl_conn_id: str = DEFAULT_CONN_ID,
        storage_conn_id: str | None = None,
        max_active: int | None = None,
        max_cost: float | None = None,
        fail_on: Literal["any", "all", "none"] | float = "any",
        on_moderated: Literal["record", "skip", "fail"] = "record",
        on_ambiguous_submit: OnAmbiguousSubmit = "resubmit",
        if_exists: IfExists = "overwrite",
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        poll_interval: float | None = None,
        max_queue_wait: float = DEFAULT_MAX_QUEUE_WAIT_SECONDS,
        validation: Validation = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.requests = requests
        self.destination = destination
        self.model = model
        self.parameters = parameters
        self.bfl_conn_id = bfl_conn_id
        self.storage_conn_id = storage_conn_id
        self.max_active = max_active
        self.max_cost = max_cost
        self.fail_on = fail_on
        self.on_moderated = on_moderated
        self.on_ambiguous_submit = on_ambiguous_submit
        self.if_exists = if_exists
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_queue_wait = max_queue_wait
        self.validation = validation
        self._running: BatchFlow | None = None
        check_arguments(self, on_moderated=("record", "skip", "fail"))
        self._check_limits()

    @cached_property
    def hook(self) -> BflHook:
        """The hook of ``bfl_conn_id``."""
        from airflow_provider_bfl.hooks.bfl import BflHook

        return BflHook(self.bfl_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, judge, then submit, wait and land until every item is over."""
        from airflow_provider_bfl.operators.batch_flow import BatchFlow

        self._running = BatchFlow(self, context)
        return self._running.run()

    def on_kill(self) -> None:
        """Say what goes on without the task: BFL has no way to cancel a generation."""
        if self._running is not None:
            self._running.tell_what_goes_on()

    def _check_limits(self) -> None:
        max_active: Any = self.max_active
        if max_active is not None and (type(max_active) is not int or max_active < 1):
            raise BflConfigError(f"{self.task_id}: max_active={max_active!r} is not a number of slots.")
        fail_on: Any = self.fail_on
        is_share = type(fail_on) in (int, float) and 0 <= fail_on <= 1
        if not is_share and fail_on not in ("any", "all", "none"):
            raise BflConfigError(
                f"{self.task_id}: fail_on={fail_on!r} is not 'any', 'all', 'none' or a share of the items from 0 to 1."
            )
