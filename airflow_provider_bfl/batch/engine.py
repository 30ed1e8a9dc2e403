# SPDX-License-Identifier: Apache-2.0
"""
One event loop that keeps the account's slots full.

It only says who goes when: a slot that is seen to be free takes the next item at once, landing goes on beside it, and
whatever stops the batch stops new POSTs alone, so that what is paid for is still collected.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_bfl.batch.books import Books
from airflow_provider_bfl.batch.budget import Answer
from airflow_provider_bfl.batch.job import Calls, Job
from airflow_provider_bfl.batch.journal import Manifest
from airflow_provider_bfl.batch.lanes import Lane, Work
from airflow_provider_bfl.batch.plan import new_row
from airflow_provider_bfl.batch.progress import Progress
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.shelf import Shelf
from airflow_provider_bfl.batch.table import Task
from airflow_provider_bfl.batch.way import Way
from airflow_provider_bfl.batch.writer import GroupCommit
from airflow_provider_bfl.exceptions import (
    BflBatchTakenOverError,
    BflBudgetError,
    BflError,
    BflValidationError,
)
from airflow_provider_bfl.metrics import Metric, count

if TYPE_CHECKING:
    from airflow_provider_bfl.hooks.bfl import BflHook

log = logging.getLogger(__name__)

#: Threads that download and store, and those that only ask a store or read inputs.
_LANDING_THREADS = 8
_ASKING_THREADS = 4

#: Results that may wait for a landing thread. Each has ten minutes; even at half a minute a landing they are in time.
_MAX_LANDING = 12 * _LANDING_THREADS

#: So many failures of one kind in a row, and the next would only be one more.
_TROUBLE_IN_A_ROW = 5

#: What a killed attempt waits for POSTs whose answers are on their way.
_LAST_ANSWERS_SECONDS = 5.0

_TICK_SECONDS = 1.0


class AbortedError(Exception):
    """The attempt was told to end."""


class Engine:
    """
    One attempt of a batch, once its items are marked with what is to be done.

    :param job: The arguments.
    :param calls: What it asks others to do.
    :param hook: Its settings are read already.
    :param manifest: Open and signed.
    """

    def __init__(self, job: Job, calls: Calls, *, hook: BflHook, books: Books, manifest: Manifest) -> None:
        self._job = job
        self._calls = calls
        self._hook = hook
        self._books = books
        self._manifest = manifest
        self._shelf = Shelf(job, books)
        self._lanes = [
            Lane(model, books.table, max_active=job.max_active, poll_interval=job.poll_interval)
            for model in books.table.models()
        ]
        self._lane_of = {lane.model: lane for lane in self._lanes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._posting: set[asyncio.Task[None]] = set()
        self._landing = 0
        self._verifying = 0
        self._troubles: Counter[str] = Counter()
        self._aborted = threading.Event()
        self.error: BaseException | None = None
        self.in_flight: dict[str, str] = {}

    # What an item's way may tell the whole batch

    @property
    def stopped(self) -> bool:
        """Whether nothing more is submitted."""
        return self.error is not None or self._aborted.is_set()

    def stop(self, error: BaseException) -> None:
        """Submit nothing more, and end with this error; the first one counts."""
        if self.error is None:
            self.error = error
            log.warning("Nothing more is submitted; what is in flight is still collected. %s", error)
        if isinstance(error, BflBatchTakenOverError):
            self._aborted.set()
        self._changed.set()

    def trouble(self, kind: str, error: BflError) -> None:
        """Something failed that would fail for every item if it goes on; a few in a row stop the batch."""
        self._troubles[kind] += 1
        if self._troubles[kind] >= _TROUBLE_IN_A_ROW:
            self.stop(error)

    def well(self, kind: str) -> None:
        """It worked."""
        self._troubles[kind] = 0

    def sleep(self, seconds: float) -> None:
        """Wait in a thread, unless the attempt is told to end."""
        if self._aborted.wait(seconds):
            raise AbortedError

    # From another thread

    def abort(self) -> None:
        """End soon: take the answers that are on their way, write the journal, leave the rest to the next attempt."""
        self._aborted.set()
        with suppress(AttributeError, RuntimeError):  # it has not begun, or is over
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Work on every item that is marked, as far as it goes; ``error`` says why not all."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._progress = Progress(self._books.table.total, done=self._books.done, now=time.monotonic())
        pools = [
            ThreadPoolExecutor(threads, thread_name_prefix=f"bfl-{name}")
            for name, threads in (("land", _LANDING_THREADS), ("ask", _ASKING_THREADS), ("journal", 1), ("tidy", 1))
        ]
        landing, self._asking, journal, tidying = pools
        writer = GroupCommit(self._manifest, journal, tidying, failed=self.stop)
        self._books.note = writer.note
        writing = asyncio.create_task(writer.run())
        try:
            async with self._hook.async_client() as client:
                self._way = Way(self._job, self._calls, self._hook, client, self._books, writer, self, landing)
                await self._go_through()
        finally:
            writer.close()
            await writing
            for pool in pools:
                pool.shutdown(wait=not self._aborted.is_set(), cancel_futures=True)

    async def _go_through(self) -> None:
        while not self._aborted.is_set():
            self._start_what_can()
            if not self._tasks and not self._may_go_on():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._patience())
            self._changed.clear()
            self._report()
        await self._halt()

    async def _halt(self) -> None:
        for task in self._tasks - self._posting:
            task.cancel()
        if self._posting:
            await asyncio.wait(self._posting, timeout=_LAST_ANSWERS_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_ANSWERS_SECONDS)

    def _start_what_can(self) -> None:
        while self._verifying < _ASKING_THREADS and (stored := self._shelf.next_to_verify()) is not None:
            self._verifying += 1
            self._spawn(self._verify(stored))
        for lane in self._lanes:
            while lane.window.active < lane.window.ceiling and (task := lane.take("reattach")) is not None:
                lane.window.active += 1
                self._spawn(self._reattach(lane, task))
            self._prepare(lane)
            while self._may_submit(lane):
                work = lane.ready.popleft()
                lane.window.active += 1
                # Here and not when its turn comes: the next one is judged by what this one may cost.
                self._spawn(self._generate(lane, work, self._way.intend(work)))
                self._prepare(lane)

    def _may_submit(self, lane: Lane) -> bool:
        if (
            self.stopped
            or not lane.ready
            or not lane.window.has_room(time.time())
            or sum(each.window.active for each in self._lanes) >= self._job.max_active
            or self._landing >= _MAX_LANDING
        ):
            return False
        return self._books.budget.ask(lane.model) is Answer.YES

    def _may_go_on(self) -> bool:
        """Whether time alone will let something start; nothing is under way."""
        if self.stopped:
            return False
        waiting = [lane for lane in self._lanes if lane.ready]
        if waiting and all(self._books.budget.ask(lane.model) is not Answer.YES for lane in waiting):
            self.stop(self._out_of_budget(waiting))
            return False
        return bool(waiting)

    def _patience(self) -> float:
        now = time.time()
        pauses = [lane.window.opens_in(now) for lane in self._lanes if lane.ready]
        return min([_TICK_SECONDS, *(pause for pause in pauses if pause)])

    # Each kind of work

    def _prepare(self, lane: Lane) -> None:
        while lane.wants_more and not self.stopped and (task := lane.take("submit")) is not None:
            if self._shelf.needs_no_store(task):
                lane.ready.append(Work(task, self._fresh(task), task.request))
            else:
                lane.preparing += 1
                self._spawn(self._make_ready(lane, task))

    async def _make_ready(self, lane: Lane, task: Task) -> None:
        try:
            loop = asyncio.get_running_loop()
            output_format = self._calls.output_format(task)
            stem = await loop.run_in_executor(self._asking, self._shelf.free_stem, task, output_format)
            body = await loop.run_in_executor(self._asking, self._calls.resolve, task)
        except BflError as error:
            # The request's own fault, or a store that cannot be asked now; nothing was sent either way.
            permanent = isinstance(error, BflValidationError) or not self._shelf.may_pass(error)
            self._books.change(self._fresh(task).ended("rejected" if permanent else "unsubmitted", error))
            log.warning("Item %s: %s", task.item, error)
            if not permanent:
                self.trouble("inputs", error)
        else:
            self.well("inputs")
            lane.ready.append(Work(task, replace(self._fresh(task), object_stem=stem), body))
        finally:
            lane.preparing -= 1

    def _fresh(self, task: Task) -> Row:
        return new_row(task, self._job, former=self._books.table.row_of(task.item))

    async def _generate(self, lane: Lane, work: Work, intent: Row) -> None:
        current = cast("asyncio.Task[None]", asyncio.current_task())
        row = result = None
        try:
            self._posting.add(current)
            row = await self._way.submit(lane, work, intent)
            self._posting.discard(current)
            if row is not None and not self._aborted.is_set():
                self.in_flight[row.item] = row.id or ""
                result = await self._way.wait(lane, row)
        finally:
            self._posting.discard(current)
            lane.window.active -= 1
            self._changed.set()
            if row is not None and not self._aborted.is_set():
                self.in_flight.pop(row.item, None)
        if row is not None and result is not None:
            await self._land(work.task, row, result)

    async def _reattach(self, lane: Lane, task: Task) -> None:
        row = cast("Row", self._books.table.row_of(task.item))
        row = self._books.change(replace(row, attempt=self._job.attempt, reattached=True, error_type=None, error=None))
        self._books.reattached += 1
        count(Metric.REATTACHED, model=row.model)
        self.in_flight[row.item] = row.id or ""
        try:
            result = await self._way.wait(lane, row)
        finally:
            lane.window.active -= 1
            self._changed.set()
            if not self._aborted.is_set():
                self.in_flight.pop(row.item, None)
        if result is not None:
            await self._land(task, row, result)

    async def _land(self, task: Task, row: Row, result: Any) -> None:
        self._landing += 1
        try:
            await self._way.land(task, row, result)
        finally:
            self._landing -= 1

    async def _verify(self, stored: tuple[Task, Row, bool]) -> None:
        task, row, foreign = stored
        try:
            there = await asyncio.get_running_loop().run_in_executor(self._asking, self._shelf.is_there, row)
            if (todo := self._shelf.verified(task, row, foreign=foreign, there=there)) is not None:
                self._lane_of[task.model].give(task, todo)
        except BflError as error:
            self.stop(error)
        finally:
            self._verifying -= 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, AbortedError):
            self.stop(error)

    def _report(self) -> None:
        line = self._progress.line(
            time.monotonic(),
            done=self._books.done,
            in_flight=sum(lane.window.active for lane in self._lanes),
            without_result=self._books.without_result,
            spent=self._books.budget.committed,
        )
        if line:
            log.info("%s", line)

    def _out_of_budget(self, lanes: list[Lane]) -> BflError:
        budget = self._books.budget
        costless = sorted(budget.costless & {lane.model for lane in lanes})
        why = (
            f"BFL tells no cost for {', '.join(costless)}, so max_cost cannot be kept"
            if costless
            else f"the next request could pass max_cost={budget.max_cost:g} credits"
        )
        return BflBudgetError(
            f"{budget.committed:g} credits are spent over all attempts and {why}. Nothing more was submitted."
        )
