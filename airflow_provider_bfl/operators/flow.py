# SPDX-License-Identifier: Apache-2.0
"""
The way of one generation through one attempt of its task: submit or re-attach, wait, land.

The operator holds the arguments and is read whenever Airflow parses a Dag; this is what runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.api.messages import PollResult
from airflow_provider_bfl.api.polling import queue_delay
from airflow_provider_bfl.durable.journal import open_journal
from airflow_provider_bfl.durable.record import Policies, Reattach, Record, Submit, decide, fingerprint
from airflow_provider_bfl.durable.submit import save_best_effort, submit_durably
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflContentModeratedError,
    BflGenerationFailedError,
    BflInsufficientCreditsError,
    BflJournalError,
    BflModeratedError,
    BflRateLimitedError,
    BflRequestModeratedError,
    BflUnresolvedSubmitError,
)
from airflow_provider_bfl.landing import Generation, open_target
from airflow_provider_bfl.landing.store import described
from airflow_provider_bfl.metrics import Metric, count, timing
from airflow_provider_bfl.operators.delivery import Delivery, credits_text, task_facts
from airflow_provider_bfl.operators.media import Inputs, media_uris, public_request, resolve_inputs
from airflow_provider_bfl.operators.outcome import announce, publish
from airflow_provider_bfl.operators.previews import Previews
from airflow_provider_bfl.operators.request import (
    check_suffix,
    check_webhook,
    describe_prompt,
    kept_request,
    output_format_of,
    validate_request,
)
from airflow_provider_bfl.operators.results import submit_result, waited_result
from airflow_provider_bfl.operators.waiting import Waiting, default_inline_wait, moderation, resume_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.operators.generation import BflGenerationOperator


class GenerationFlow:
    """
    One attempt of one task, or one part of it between two deferrals.

    :param operator: The arguments, rendered.
    :param context: The task instance.
    """

    def __init__(self, operator: BflGenerationOperator, context: Context) -> None:
        self._op = operator
        self._context = context
        self._hook = operator.hook
        self._ti = context["ti"]
        self._log = operator.log
        self._task = task_facts(context)
        self._journal = open_journal(context, durable=operator.durable)
        self._request: dict[str, Any] = {}
        self._previews = Previews(self._ti, wanted=operator.do_xcom_push)

    def run(self, *, queued: bool = False) -> dict[str, Any]:
        """
        Check everything that is free to check, then submit or re-attach.

        :param queued: Whether this goes on with waiting for a free slot; otherwise the queue wait begins anew.
        """
        op = self._op
        found = self._journal.load()
        self._ask(found)
        self._mask_webhook_secret()
        check_webhook(self._request, wait_for_completion=op.wait_for_completion)
        validate_request(op.model, self._request, validation=op.validation)
        delivery = self._delivery()
        inputs, identity = self._identify(found)
        policies = Policies(op.on_ambiguous_submit, op.on_stale_state, force_new=_as_bool(op.force_new))
        action = decide(found, fingerprint=identity, epoch=self._ti.max_tries, policies=policies)
        if isinstance(action, Reattach):
            return self._reattach(action.record, delivery)
        if isinstance(inputs, Exception):
            raise inputs
        if delivery is not None and (existing := delivery.find_before_submit()) is not None:
            publish(op, self._context, delivery.target, existing)
            return existing
        self._check_credits()
        intent = self._intent(action, identity)
        record = self._submit(intent if queued else replace(intent, queued_since=None), inputs)
        return self._follow(record, delivery)

    def resume(self, event: Mapping[str, Any] | None) -> dict[str, Any]:
        """Go on after the triggerer waited."""
        record = self._journal.load()
        if record is None or record.id is None:
            # Permanent: a retry would find no record either, and pay for what is already submitted.
            raise BflUnresolvedSubmitError(
                f"{self._op.task_id} was resumed, but the record of its generation is gone; the generation was "
                f"submitted and is billed. The trigger said {event}. Nothing was submitted. Look the id up on BFL's "
                "dashboard; clearing the task submits (and pays) anew.",
                model=self._op.model,
            )
        self._op.generation_id = record.id
        self._ask(record)
        return self._wait(record, seconds=resume_seconds(event))

    def _ask(self, found: Record | None) -> None:
        # A clear begins a new epoch, and asks for the request anew.
        kept = found.request if found is not None and found.epoch == self._ti.max_tries else None
        self._request = self._op.request_for(self._context, kept)
        self._op.media = media_uris(self._request, get_model(self._op.model))

    def _identify(self, found: Record | None) -> tuple[Inputs | Exception, str]:
        """Return the inputs, or why they cannot be read where that need not matter, and the request's fingerprint."""
        op = self._op
        try:
            inputs = resolve_inputs(self._request, get_model(op.model), storage_conn_id=op.storage_conn_id)
        except Exception as error:
            if found is None or found.id is None:
                raise
            # The picture is paid for; that its inputs are gone or out of reach by now does not change it.
            self._log.warning(
                "The inputs cannot be read (%s). Generation %s was submitted with them before and is gone on with.",
                described(error),
                found.id,
            )
            return error, found.fingerprint
        identity = fingerprint(
            model=op.model,
            request=inputs.reference,
            bfl_conn_id=op.bfl_conn_id,
            region=self._hook.settings.trust.region,
        )
        return inputs, identity

    def _reattach(self, found: Record, delivery: Delivery | None) -> dict[str, Any]:
        record = found.reattached_until(time.time() + self._op.timeout)
        self._log.info("Re-attached to generation %s (%s); nothing is submitted.", record.id, record.model)
        count(Metric.REATTACHED, model=record.model)
        if delivery is not None and record.result is not None and delivery.is_stored(record.result):
            self._push(record)
            result = {**record.result, "reattached": True}
            publish(self._op, self._context, delivery.target, result)
            self._preview(record, status="Ready", landed=result, thumbnail=delivery.thumbnail_of(result))
            return result
        if self._op.wait_for_completion:
            self._journal.save(record)
        return self._follow(record, delivery)

    def _follow(self, record: Record, delivery: Delivery | None) -> dict[str, Any]:
        self._op.generation_id = record.id
        self._push(record)
        self._preview(record, status="Submitted")
        if not self._op.wait_for_completion:
            return submit_result(record)
        if delivery is not None:
            announce(self._op, self._context, delivery.target)
        inline = self._op.inline_wait
        seconds = default_inline_wait(record.model, reattached=record.reattached) if inline is None else inline
        return self._wait(record, seconds=seconds)

    def _intent(self, action: Submit, identity: str) -> Record:
        if action.warning:
            self._log.warning("%s", action.warning)
        return Record(
            state="intent",
            fingerprint=identity,
            model=self._op.model,
            region=self._hook.settings.trust.region,
            bfl_conn_id=self._op.bfl_conn_id,
            epoch=self._ti.max_tries,
            queued_since=action.queued_since,
            possibly_billed_twice=action.possibly_billed_twice,
            request=kept_request(self._request) if self._op.keeps_request else None,
        )

    def _submit(self, intent: Record, inputs: Inputs) -> Record:
        while True:
            try:
                record = submit_durably(
                    self._journal,
                    intent,
                    lambda: self._hook.submit(self._op.model, inputs.body),
                    timeout=self._op.timeout,
                )
            except BflRateLimitedError as error:
                intent = replace(intent, queued_since=intent.queued_since or time.time())
                self._queue(intent, error)
                continue
            except BflAmbiguousSubmitError:
                count(Metric.AMBIGUOUS, model=intent.model)
                raise
            self._note_submit(record)
            return record

    def _note_submit(self, record: Record) -> None:
        self._log.info(
            "Submitted generation %s to %s (region %s)%s: cost %s, %s.",
            record.id,
            record.model,
            record.region,
            f" after {record.queue_seconds:.1f} s in the queue" if record.queue_seconds else "",
            credits_text(record.cost),
            describe_prompt(self._request),
        )
        count(Metric.SUBMITTED, model=record.model)
        timing(Metric.QUEUE_TIME, record.queue_seconds, model=record.model)
        if record.cost:
            count(Metric.COST, model=record.model, by=record.cost)
        if record.possibly_billed_twice:
            count(Metric.POSSIBLY_BILLED_TWICE, model=record.model)

    def _queue(self, intent: Record, error: BflRateLimitedError) -> None:
        queued = time.time() - (intent.queued_since or time.time())
        delay = queue_delay(queued, error.retry_after)
        if queued + delay > self._op.max_queue_wait:
            # A retry queues from its own start.
            save_best_effort(self._journal, intent.refused())
            message = (
                f"No slot of the account was free within max_queue_wait ({self._op.max_queue_wait:g} s). {error} "
                "A retry queues again."
            )
            raise BflRateLimitedError(message, model=self._op.model) from None
        self._log.info("All slots of the account are in use (429); trying again in %.0f s.", delay)
        count(Metric.RATE_LIMITED, model=intent.model)
        if not self._op.deferrable:
            time.sleep(delay)
            return
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

        from airflow_provider_bfl.triggers.generation import FIRST_EVENT_GRACE_SECONDS

        pause = timedelta(seconds=max(delay, FIRST_EVENT_GRACE_SECONDS))
        self._op.defer(trigger=TimeDeltaTrigger(pause), method_name="retry_submit")

    def _wait(self, record: Record, *, seconds: float | None) -> dict[str, Any]:
        waiting = Waiting(
            polling_url=record.polling_url or "",
            deadline=record.deadline or time.time() + self._op.timeout,
            model=record.model,
            submitted_at=record.submitted_at,
            poll_interval=self._op.poll_interval,
        )
        try:
            result = waiting.in_worker(self._hook, seconds=seconds if self._op.deferrable else None)
            # The record may have been unwritable after the submit, and nothing else is there to resume from.
            if result is None and not save_best_effort(self._journal, record):
                result = waiting.in_worker(self._hook, seconds=None)
        except (BflModeratedError, BflGenerationFailedError) as error:
            self._close(record, error)
        if result is None:
            self._op.defer(**waiting.deferral(self._op.bfl_conn_id), method_name="execute_complete")
        return self._finish(record, result)

    def _finish(self, record: Record, result: PollResult) -> dict[str, Any]:
        delivery = self._delivery()
        if delivery is None:
            self._log.info("Generation %s (%s) is ready: seed %s.", record.id, record.model, result.seed)
            waited = waited_result(result, cost=record.cost)
            self._preview(record, status=result.status, landed=waited)
            return waited
        generation = self._generation(record)
        landed = delivery.land(generation, result, polling_url=record.polling_url or "", previews=self._previews)
        save_best_effort(self._journal, record.stored(landed))
        publish(self._op, self._context, delivery.target, landed)
        return landed

    def _generation(self, record: Record) -> Generation:
        return Generation(
            id=record.id or "",
            model=record.model,
            region=record.region,
            request=public_request(self._request),
            cost=record.cost,
            submitted_at=record.submitted_at,
            reattached=record.reattached,
            possibly_billed_twice=record.possibly_billed_twice,
            task=self._task,
            queue_seconds=record.queue_seconds,
        )

    def _preview(self, record: Record, **facts: Any) -> None:
        self._previews.push(self._generation(record), **facts)

    def _close(self, record: Record, error: BflModeratedError | BflGenerationFailedError) -> NoReturn:
        is_free = isinstance(error, BflModeratedError)
        self._preview(
            record, status=_STATUS_OF_END.get(type(error), "Error"), landed={"cost": 0.0} if is_free else None
        )
        # The generation is over and has no result, so a retry that kept its record could only fail again. A doubt about
        # an earlier POST outlives it: that one may have been billed.
        try:
            if record.possibly_billed_twice:
                self._journal.save(replace(record.refused(), id=None, polling_url=None, reattached=False))
            else:
                self._journal.delete()
        except BflJournalError as failure:
            self._log.warning("%s", failure)
        with moderation(self._op.on_moderated):
            raise error
        raise AssertionError("the error was raised or turned into a skip")

    def _mask_webhook_secret(self) -> None:
        # The second line of defence: it is written nowhere, but a library may log the request at DEBUG.
        from airflow.providers.common.compat.sdk import mask_secret

        if secret := self._request.get("webhook_secret"):
            mask_secret(secret)

    def _check_credits(self) -> None:
        wanted = self._op.min_credits
        if wanted is None:
            return
        balance = self._hook.get_credits()
        if balance < wanted:
            raise BflInsufficientCreditsError(
                f"The account has {balance:g} credits, {self._op.task_id} asks for at least {wanted:g} (min_credits). "
                "Nothing was submitted.",
                model=self._op.model,
            )

    def _push(self, record: Record) -> None:
        if self._op.do_xcom_push:
            for key, value in submit_result(record).items():
                # Airflow 3.0 refuses a null; pulling what was never pushed gives None in every version.
                if value is not None:
                    self._ti.xcom_push(key=key, value=value)

    def _delivery(self) -> Delivery | None:
        op = self._op
        if op.destination is None:
            return None
        output_format = output_format_of(op.model, self._request)
        check_suffix(op.destination, output_format)
        target = open_target(op.destination, storage_conn_id=op.storage_conn_id)
        return Delivery(self._hook, target, op.if_exists, output_format)


_STATUS_OF_END: Mapping[type[Exception], str] = {
    BflRequestModeratedError: "Request Moderated",
    BflContentModeratedError: "Content Moderated",
}


def _as_bool(value: bool | str) -> bool:
    # A template renders to text.
    return value if isinstance(value, bool) else str(value).strip().lower() in ("true", "1", "yes")
