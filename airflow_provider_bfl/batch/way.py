# SPDX-License-Identifier: Apache-2.0
"""The way of one item: intent, POST, answer, polls, landing; each step leaves its row before the next begins."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.api.messages import Phase, PollFailure, PollResult, Submission, check_outcome
from airflow_provider_bfl.api.polling import Finished, Poller, TimedOut, Unreachable, Wait
from airflow_provider_bfl.batch.books import Books
from airflow_provider_bfl.batch.job import Calls, Job
from airflow_provider_bfl.batch.lanes import Lane, Work
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.table import Task
from airflow_provider_bfl.batch.writer import GroupCommit
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflBatchTakenOverError,
    BflError,
    BflJournalError,
    BflModeratedError,
    BflPollError,
    BflRateLimitedError,
    BflRefusedError,
    BflRequestRejectedError,
    BflResultExpiredError,
    BflTaskNotFoundError,
    BflTimeoutError,
    BflUntrustedUrlError,
    BflValidationError,
)
from airflow_provider_bfl.hooks.bfl import poll_error
from airflow_provider_bfl.landing import Generation, Landed, land
from airflow_provider_bfl.metrics import Metric, count, count_landed, timing

if TYPE_CHECKING:
    from airflow_provider_bfl.hooks.bfl import BflHook
    from airflow_provider_bfl.transport.aio import AsyncBflClient

log = logging.getLogger(__name__)

#: Seconds before a POST is repeated that BFL cannot have accepted.
_REPEAT_DELAYS = (1.0, 3.0)


class Brakes(Protocol):
    """What an item's way may tell the whole batch."""

    @property
    def stopped(self) -> bool:
        """Whether nothing more is submitted."""

    def stop(self, error: BflError) -> None:
        """Submit nothing more, and end with this error."""

    def trouble(self, kind: str, error: BflError) -> None:
        """Something failed that would fail for every item if it goes on; a few in a row stop the batch."""

    def well(self, kind: str) -> None:
        """It worked."""

    def sleep(self, seconds: float) -> None:
        """Wait in a thread; raises when the batch is aborted meanwhile."""


@dataclass(frozen=True)
class Way:
    """
    Takes items along; shared by all of them.

    :param landing: Threads that download and store.
    """

    job: Job
    calls: Calls
    hook: BflHook
    client: AsyncBflClient
    books: Books
    writer: GroupCommit
    brakes: Brakes
    landing: Executor

    def intend(self, work: Work) -> Row:
        """Set an item's credits aside and return the row that says it is about to be sent."""
        reserved = self.books.budget.estimate(work.task.model)
        row = replace(work.row, status="intent", reserved=reserved, spent=work.row.spent + reserved)
        return self.books.change(row, durable=True)

    async def submit(self, lane: Lane, work: Work, row: Row) -> Row | None:
        """
        POST an item whose slot is taken; return its row, or None when BFL does not have it as far as is known.

        :param row: As :meth:`intend` returned it.
        """
        for delay in (*_REPEAT_DELAYS, None):
            try:
                await self.writer.intend(row)
            except (BflJournalError, BflBatchTakenOverError) as error:
                self.books.change(row.unbilled("unsubmitted", error))
                self.brakes.stop(error)
                return None
            if self.brakes.stopped:
                self.books.change(replace(work.row, status="unsubmitted"))
                return None
            try:
                submission = await self.client.submit(work.task.model, work.body)
            except BflRefusedError as error:
                if isinstance(error, BflRateLimitedError) or not error.repeatable or delay is None:
                    self._refused(lane, work, row, error)
                    return None
                self.books.change(row.unbilled("refused", error))
                await asyncio.sleep(delay)
                row = self.intend(work)
            except BflError as error:
                self._not_accepted(row, error)
                return None
            else:
                return self._accepted(lane, row, submission)
        raise AssertionError("the last repeat returns")

    async def wait(self, lane: Lane, row: Row) -> PollResult | None:
        """Poll until the generation ends; return its result when it is ready to be landed."""
        submitted = row.submitted_seconds or time.time()
        poller = Poller(
            deadline=(time.time() if row.reattached else submitted) + self.job.timeout,
            typical_seconds=get_model(row.model).typical_seconds,
            submitted_at=submitted,
            poll_interval=self.job.poll_interval,
        )
        try:
            verdict = await self._poll(lane, row, poller, submitted)
            if isinstance(verdict, Finished):
                result = verdict.result
                self.brakes.well("poll")
                self._settle(lane, row, result, seconds=time.time() - submitted)
                check_outcome(result, generation_id=row.id or "(unknown id)", model=row.model)
                return result
            raise _gave_up(row, verdict)
        except BflModeratedError as error:
            self.books.change(self._row(row).unbilled("moderated", error))
            count(Metric.MODERATED, model=row.model)
        except (BflUntrustedUrlError, BflAuthenticationError) as error:
            self._unfinished(row, error)
            self.brakes.stop(error)
        except (BflTimeoutError, BflPollError, BflTaskNotFoundError) as error:
            self._unfinished(row, error)
            if isinstance(error, BflPollError):
                self.brakes.trouble("poll", error)
        except BflError as error:
            self.books.change(self._row(row).ended("failed", error))
            count(Metric.FAILED, model=row.model)
            log.warning("Item %s: %s", row.item, error)
        return None

    async def land(self, task: Task, row: Row, result: PollResult) -> None:
        """Bring a result home; the slot is free already."""
        row = self._row(row)
        try:
            landed = await asyncio.get_running_loop().run_in_executor(
                self.landing, lambda: self._land(task, row, result)
            )
        except BflError as error:
            self.books.change(self._row(row).ended("unstored", error))
            if not isinstance(error, BflResultExpiredError):
                self.brakes.trouble("landing", error)
            log.warning("Item %s: %s", row.item, error)
            return
        self.brakes.well("landing")
        self.books.change(self._row(row).stored(landed))
        count_landed(model=landed.model, size=landed.size, url_age_seconds=landed.url_age_seconds)

    def _accepted(self, lane: Lane, row: Row, submission: Submission) -> Row:
        row = self.books.change(row.submitted(submission, now=time.time()))
        lane.accept()
        self.brakes.well("submit")
        log.debug("Item %s: generation %s (%s), cost %s.", row.item, row.id, row.model, row.cost)
        count(Metric.SUBMITTED, model=row.model)
        if row.cost:
            count(Metric.COST, model=row.model, by=row.cost)
        if row.possibly_billed_twice:
            count(Metric.POSSIBLY_BILLED_TWICE, model=row.model)
        return row

    def _refused(self, lane: Lane, work: Work, row: Row, error: BflRefusedError) -> None:
        self.books.change(row.unbilled("refused", error))
        if not isinstance(error, BflRateLimitedError):
            self.brakes.trouble("submit", error)
            return
        count(Metric.RATE_LIMITED, model=row.model)
        waited = lane.refuse(work, error.retry_after)
        log.debug("Item %s: 429; the window of %s is %d now.", row.item, lane.model, lane.window.limit)
        if waited > self.job.max_queue_wait:
            self.brakes.stop(
                BflRateLimitedError(
                    f"No slot of the account was free for {waited:.0f} s (max_queue_wait). {error} A retry goes on.",
                    model=lane.model,
                )
            )

    def _not_accepted(self, row: Row, error: BflError) -> None:
        if isinstance(error, BflAmbiguousSubmitError):
            self.books.change(row.ended("ambiguous", error))
            count(Metric.AMBIGUOUS, model=row.model)
            log.warning("Item %s: %s", row.item, error)
            self.brakes.trouble("submit", error)
        elif isinstance(error, BflRequestRejectedError | BflValidationError):
            self.books.change(row.unbilled("rejected", error))
            log.warning("Item %s: %s", row.item, error)
        else:
            # No credits, no access, no trust: it would be the same for every other item.
            self.books.change(row.unbilled("unsubmitted", error))
            self.brakes.stop(error)

    async def _poll(self, lane: Lane, row: Row, poller: Poller, submitted: float) -> Finished | TimedOut | Unreachable:
        delay = lane.pace.first_delay(time.time() - submitted)
        while True:
            await asyncio.sleep(delay)
            reply = await self.client.poll(row.polling_url or "")
            now = time.time()
            verdict = poller.judge(reply, now)
            if not isinstance(verdict, Wait):
                return verdict
            log.debug("Item %s: generation %s: %s", row.item, row.id, getattr(reply, "status", "poll failed"))
            if verdict.warning:
                log.warning("Item %s: generation %s: %s", row.item, row.id, verdict.warning)
            delay = verdict.seconds
            if not isinstance(reply, PollFailure):
                delay = min(delay, lane.pace.next_delay(now - submitted)) if lane.pace.learnt else delay

    def _settle(self, lane: Lane, row: Row, result: PollResult, *, seconds: float) -> None:
        if not row.reattached and result.phase is Phase.READY:
            lane.pace.ended(seconds)
        current = self._row(row)
        settled = replace(current.settled(result.cost), seed=result.seed)
        if result.phase is Phase.READY:
            settled = replace(settled, status="unstored")
            timing(Metric.RUN_TIME, seconds, model=row.model)
        if settled != current:
            # Ready alone needs no write of its own: polling again says the same.
            self.books.change(settled, durable=settled.cost == current.cost)

    def _unfinished(self, row: Row, error: BflError) -> None:
        self.books.change(self._row(row).ended("submitted", error))
        log.warning("Item %s: %s", row.item, error)

    def _row(self, row: Row) -> Row:
        return self.books.table.row_of(row.item) or row

    def _land(self, task: Task, row: Row, result: PollResult) -> Landed:
        generation = Generation(
            id=row.id or "",
            model=row.model,
            region=row.region,
            request=task.request,
            cost=row.cost,
            submitted_at=row.submitted_seconds,
            reattached=row.reattached,
            possibly_billed_twice=row.possibly_billed_twice,
            task={**self.job.facts, "item": row.item},
        )
        return land(
            result=result,
            poll=lambda: self.hook.get_result(row.polling_url or ""),
            # Not the hook's own: it tells Airflow to mask each URL, and every mask makes every later log line slower.
            download=self.hook.get_conn().download,
            target=self.job.target,
            generation=generation,
            output_format=self.calls.output_format(task),
            if_exists="error" if self.job.if_exists == "error" else "overwrite",
            record_prompt=self.job.record_prompt,
            stem=row.object_stem,
            look=lambda landed, body: self.calls.look(task, landed, body),
            sleep=self.brakes.sleep,
        )


def _gave_up(row: Row, verdict: TimedOut | Unreachable) -> BflError:
    if isinstance(verdict, Unreachable):
        return poll_error(verdict.failure, generation_id=row.id)
    return BflTimeoutError(
        f"Generation {row.id} was not finished at the deadline (last status: {verdict.last_status}). It is billed "
        "once, when it finishes; a retry re-attaches to it and pays nothing. Raise timeout if this model needs longer.",
        generation_id=row.id,
        model=row.model,
    )
