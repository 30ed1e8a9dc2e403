# SPDX-License-Identifier: Apache-2.0
"""The operator that submits a generation, and can wait for it and land it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_bfl.arguments import (
    DEFAULT_CONN_ID,
    DEFAULT_MAX_QUEUE_WAIT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    KILLED,
    IfExists,
    OnAmbiguousSubmit,
    OnModerated,
    OnStaleState,
    Validation,
    check_arguments,
)
from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.links.bfl import BflDashboardLink, BflStoredObjectLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_bfl.hooks.bfl import BflHook
    from airflow_provider_bfl.operators.flow import GenerationFlow


class BflGenerationOperator(BaseOperator):
    """
    Submit one generation to Black Forest Labs; with ``wait_for_completion`` also wait for it and land it.

    It never pays twice. Before the POST the intent is written to the task instance's journal, right after the answer
    the generation's id. A retry finds that record and re-attaches: it submits nothing, polls the same generation and
    lands it. Only where an answer was lost can a retry not know; ``on_ambiguous_submit`` says what it does then, and
    the result says ``possibly_billed_twice``. Clearing a task that succeeded re-attaches too and pays nothing;
    ``force_new`` generates anew. The journal is Airflow's task state store (Airflow 3.3 and later), otherwise a JSON
    object below ``[bfl] journal_path``.

    A full account (429) is waited for and not a failure: deferred with ``deferrable``, else asleep in the worker,
    for ``max_queue_wait``.

    Without ``wait_for_completion`` it returns ``id``, ``polling_url``, ``model``, ``region``, ``cost``, ``input_mp``,
    ``output_mp``, ``submitted_at``, ``reattached`` and ``possibly_billed_twice``, each also an XCom key of its own.
    With it, ``id``, ``status``, ``seed`` and ``cost``; with ``destination``, the landed result with the object's
    ``uri``, ``sha256`` and ``sidecar_uri``. No result holds a signed URL.

    Sources: https://docs.bfl.ai/quick_start/generating_images and
    https://docs.bfl.ai/api_integration/integration_guidelines.

    :param model: BFL's endpoint, such as ``flux-2-pro`` (default) or ``flux-tools/erase-v1``. One this version does
        not know is passed through with a warning. Templated.
    :param prompt: The text; None for models that need none, or when ``parameters`` has it. Templated.
    :param parameters: Further request fields in BFL's own names, sent verbatim. A media field (``input_image``,
        ``mask``, …) takes an https URL, base64, or an object-storage URI, which is read only for the POST. Templated.
    :param bfl_conn_id: The connection. Default ``bfl_default``. Templated.
    :param wait_for_completion: Whether to wait for the result. Default False: submit only.
    :param destination: Where to land the result: an object-storage directory (ending in ``/``) or a full URI. Needs
        ``wait_for_completion``. Templated.
    :param storage_conn_id: Airflow connection of ``destination`` and of media URIs; None for the store's default.
        Templated.
    :param inline_wait: Seconds a deferrable task polls in the worker before it defers. Default: a few seconds for
        quick models, none for others.
    :param deferrable: Whether to wait in the triggerer. Default ``[operators] default_deferrable``.
    :param timeout: Seconds to wait for the result, from the submit or the re-attach. Default 1800.
    :param poll_interval: Fixed seconds between polls; None (default) adapts to the model, between 0.5 and 5 s.
    :param max_queue_wait: Seconds to wait for a free slot of the account. Default 3600.
    :param durable: Whether to keep the journal. Default True; False gives up the promise never to pay twice.
    :param on_moderated: ``fail`` (default) or ``skip`` the task when BFL moderates the request or the result.
    :param on_ambiguous_submit: What a retry does when an earlier attempt lost the answer to its POST: ``resubmit``
        (default) or ``fail``. Never a second POST inside one attempt.
    :param on_stale_state: What an attempt does when the record belongs to another request: ``resubmit`` (default) or
        ``fail``.
    :param if_exists: What to do when the object exists: ``overwrite`` (default), ``skip`` or ``error``. With a full
        URI, ``skip`` and ``error`` are decided before anything is paid for. The same content is never an error.
    :param force_new: Whether to generate anew although a record exists. It holds once for each clear: a retry of the
        forced attempt re-attaches. Templated.
    :param min_credits: Fail before the POST when the account has fewer credits; None (default) does not ask.
    :param validation: ``error`` (default) refuses a request the catalogue finds fault with, before it is paid for;
        ``warn`` logs; ``off`` does neither.
    :raises BflError: see :mod:`airflow_provider_bfl.exceptions` for which are billed and which a retry cures.
    """

    template_fields: Sequence[str] = (
        "model",
        "prompt",
        "parameters",
        "bfl_conn_id",
        "destination",
        "storage_conn_id",
        "force_new",
    )
    template_fields_renderers = {"parameters": "json"}  # noqa: RUF012
    ui_color = "#e8f0e4"
    operator_extra_links = (BflStoredObjectLink(), BflDashboardLink())
    #: Whether the record keeps the request, because the arguments alone do not give it again.
    keeps_request: ClassVar[bool] = False

    def __init__(
        self,
        *,
        model: str = "flux-2-pro",
        prompt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        bfl_conn_id: str = DEFAULT_CONN_ID,
        wait_for_completion: bool = False,
        destination: str | None = None,
        storage_conn_id: str | None = None,
        inline_wait: float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        poll_interval: float | None = None,
        max_queue_wait: float = DEFAULT_MAX_QUEUE_WAIT_SECONDS,
        durable: bool = True,
        on_moderated: OnModerated = "fail",
        on_ambiguous_submit: OnAmbiguousSubmit = "resubmit",
        on_stale_state: OnStaleState = "resubmit",
        if_exists: IfExists = "overwrite",
        force_new: bool | str = False,
        min_credits: float | None = None,
        validation: Validation = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.prompt = prompt
        self.parameters = parameters
        self.bfl_conn_id = bfl_conn_id
        self.wait_for_completion = wait_for_completion
        self.destination = destination
        self.storage_conn_id = storage_conn_id
        self.inline_wait = inline_wait
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_queue_wait = max_queue_wait
        self.durable = durable
        self.on_moderated = on_moderated
        self.on_ambiguous_submit = on_ambiguous_submit
        self.on_stale_state = on_stale_state
        self.if_exists = if_exists
        self.force_new = force_new
        self.min_credits = min_credits
        self.validation = validation
        self.generation_id: str | None = None
        self.object_link = ""
        self.landed: dict[str, Any] | None = None
        self.media: list[str] = []
        check_arguments(self)
        if destination is not None and not wait_for_completion:
            raise BflConfigError(
                f"{self.task_id}: destination needs wait_for_completion=True; without waiting there is nothing to land."
            )

    @cached_property
    def hook(self) -> BflHook:
        """The hook of ``bfl_conn_id``."""
        from airflow_provider_bfl.hooks.bfl import BflHook

        return BflHook(self.bfl_conn_id)

    def request_for(self, context: Context, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        """
        Return the request in BFL's field names.

        :param kept: The request of an earlier part or attempt of this task; given only where ``keeps_request``.
        """
        from airflow_provider_bfl.operators.request import build_request

        return build_request(self.prompt, self.parameters)

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit or re-attach, then wait and land as asked."""
        return self._flow(context).run()

    def retry_submit(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume after waiting for a free slot of the account."""
        return self._flow(context).run(queued=True)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Resume after the triggerer waited; the event is only a hint, the generation is asked for again.

        :param event: ``{"id", "status"}`` of the trigger.
        """
        return self._flow(context).resume(event)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what the task read and stored, for OpenLineage."""
        from airflow_provider_bfl.operators.lineage import lineage_of

        return lineage_of(self.landed, media=self.media)

    def on_kill(self) -> None:
        """Say what goes on without the task: BFL has no way to cancel a generation."""
        if self.generation_id is not None:
            self.log.warning(KILLED, self.generation_id)

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        # The one step that plain and mapped tasks of all versions share between rendering and being looked at.
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self:
            from airflow_provider_bfl.operators.request import hide_secret

            self.parameters = hide_secret(self.parameters)

    def _flow(self, context: Context) -> GenerationFlow:
        # Imported here, because Airflow parses Dag files all the time and runs tasks now and then.
        from airflow_provider_bfl.operators.flow import GenerationFlow

        return GenerationFlow(self, context)
