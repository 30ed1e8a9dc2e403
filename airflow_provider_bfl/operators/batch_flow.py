# SPDX-License-Identifier: Apache-2.0
"""
One attempt of a batch: read, judge, look at what earlier attempts left, run the engine, write the manifest.

The event loop runs in a thread of its own. What Airflow does to a task that must end - a timeout, a termination - is an
exception in the main thread, at whatever line that is; there it only ever interrupts a wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_bfl.api.catalogue import DEFAULT_MAX_ACTIVE, get_model
from airflow_provider_bfl.api.messages import redact_urls
from airflow_provider_bfl.batch.books import Books
from airflow_provider_bfl.batch.budget import Budget
from airflow_provider_bfl.batch.engine import Engine
from airflow_provider_bfl.batch.job import Calls, Job
from airflow_provider_bfl.batch.journal import Manifest
from airflow_provider_bfl.batch.plan import mark_items
from airflow_provider_bfl.batch.rows import owner_of
from airflow_provider_bfl.batch.table import Table, Task
from airflow_provider_bfl.batch.verdict import Policies, described, judge
from airflow_provider_bfl.durable.journal import task_identity
from airflow_provider_bfl.exceptions import BflBatchTakenOverError, BflConfigError, BflError
from airflow_provider_bfl.landing import Landed, Target, open_target
from airflow_provider_bfl.landing.preview import ContactSheet
from airflow_provider_bfl.operators.batch_requests import Reader
from airflow_provider_bfl.operators.delivery import task_facts
from airflow_provider_bfl.operators.media import resolve_inputs
from airflow_provider_bfl.operators.previews import Previews
from airflow_provider_bfl.operators.request import output_format_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.operators.batch import BflBatchOperator

#: What a task that must end waits for the engine: answers on their way, and the journal.
_LAST_SECONDS = 20.0

_MAX_IDS_TOLD = 24

#: A contact sheet shows the newest dozen; most items of a large batch need no thumbnail.
_TILE_EVERY_SECONDS = 2.0
_TILES_AT_THE_END = 24


class BatchFlow:
    """
    One attempt of one task.

    :param operator: The arguments, rendered.
    :param context: The task instance.
    """

    def __init__(self, operator: BflBatchOperator, context: Context) -> None:
        self._op = operator
        self._log = operator.log
        self._owner = owner_of(task_identity(context))
        self._facts = task_facts(context)
        self._previews = Previews(context["ti"], wanted=operator.do_xcom_push)
        self._began = time.time()
        self._engine: Engine | None = None

    def run(self) -> dict[str, Any]:
        """Go through the whole batch and return what came of it."""
        target = self._target()
        # Both are read here: no other thread may ask Airflow for a connection.
        region = self._op.hook.settings.trust.region
        self._op.hook.get_conn()
        with tempfile.TemporaryDirectory(prefix="bfl-batch-") as scratch:
            table = Table(Path(scratch), self._owner)
            try:
                Reader(self._op, table, region).read()
                manifest = Manifest(target, table)
                manifest.open(adopt=self._op.if_exists == "skip")
                return self._run(Books(table, Budget(self._op.max_cost)), manifest, target, region)
            finally:
                table.close()

    def tell_what_goes_on(self) -> None:
        """Log what a killed task leaves behind."""
        if self._engine is None:
            return
        ids = list(self._engine.in_flight.values())
        self._log.warning(
            "The task was killed. %d generations cannot be cancelled: they go on at BFL, are billed once and hold the "
            "account's slots until they end: %s. The manifest has them; a retry or a clear re-attaches to them and "
            "pays nothing.",
            len(ids),
            ", ".join(ids[:_MAX_IDS_TOLD]) or "none",
        )

    def _run(self, books: Books, manifest: Manifest, target: Target, region: str) -> dict[str, Any]:
        job = self._job(manifest.signature.attempt, target, region)
        sheet = _Sheet(books, record_prompt=job.record_prompt)
        calls = Calls(resolve=self._resolve, output_format=_output_format, look=sheet.look)
        marks = mark_items(books, job)
        self._log.info(
            "A batch of %d items to %s: %d to submit, %d in flight from an earlier attempt, %d landed before, %d over.",
            books.table.total,
            target.uri,
            marks["submit"],
            marks["reattach"],
            marks["verify"] + marks["adopt"],
            marks["kept"],
        )
        self._engine = Engine(job, calls, hook=self._op.hook, books=books, manifest=manifest)
        with _quiet_urls():
            _run_in_thread(self._engine)
        error = self._engine.error
        if isinstance(error, BflBatchTakenOverError) or (error is not None and not isinstance(error, BflError)):
            raise error
        manifest.close()
        return self._end(books, manifest, sheet, error)

    def _end(self, books: Books, manifest: Manifest, sheet: _Sheet, error: BflError | None) -> dict[str, Any]:
        counts = books.counts
        result = {
            "manifest_uri": manifest.uri,
            "total": books.table.total,
            "counts": counts,
            "cost": round(books.budget.committed, 6),
            "reattached": books.reattached,
            "possibly_billed_twice": books.possibly_billed_twice,
        }
        self._log.info(
            "%d items: %s; %g credits over all attempts, %.0f s. Every item is a row of %s.",
            result["total"],
            described(counts),
            result["cost"],
            time.time() - self._began,
            manifest.uri,
        )
        failure = _with_counts(error, counts) or judge(
            counts, Policies(self._op.fail_on, self._op.on_moderated), manifest_uri=manifest.uri
        )
        self._previews.push_value(sheet.preview(result, began=self._began, failed=failure is not None))
        if failure is not None:
            raise failure
        return result

    def _target(self) -> Target:
        target = open_target(self._op.destination, storage_conn_id=self._op.storage_conn_id)
        if not target.is_directory:
            raise BflConfigError(
                f"The destination of a batch is a directory; {self._op.destination} does not end with a slash. Nothing "
                "was sent."
            )
        return target

    def _job(self, attempt: int, target: Target, region: str) -> Job:
        op = self._op
        return Job(
            owner=self._owner,
            attempt=attempt,
            target=target,
            region=region,
            max_active=op.max_active or DEFAULT_MAX_ACTIVE,
            if_exists=op.if_exists,
            on_ambiguous_submit=op.on_ambiguous_submit,
            timeout=op.timeout,
            poll_interval=op.poll_interval,
            max_queue_wait=op.max_queue_wait,
            record_prompt=self._previews.record_prompt,
            facts=self._facts,
        )

    def _resolve(self, task: Task) -> Mapping[str, Any]:
        return resolve_inputs(task.request, get_model(task.model), storage_conn_id=self._op.storage_conn_id).body


class _Sheet:
    """The contact sheet: thumbnails of some items on the way, and of the last ones."""

    def __init__(self, books: Books, *, record_prompt: bool) -> None:
        self._sheet = ContactSheet(record_prompt=record_prompt)
        self._books = books
        self._total = books.table.total
        self._next_at = 0.0

    def look(self, task: Task, landed: Landed, body: BinaryIO) -> None:
        """Take a landed item in, now and then."""
        if time.monotonic() < self._next_at and self._total - self._books.done > _TILES_AT_THE_END:
            return
        self._next_at = time.monotonic() + _TILE_EVERY_SECONDS
        prompt = task.request.get("prompt")
        self._sheet.add(landed, body, name=task.item, prompt=prompt if isinstance(prompt, str) else None)

    def preview(self, result: Mapping[str, Any], *, began: float, failed: bool) -> dict[str, Any]:
        """Return what the gallery shows of the batch."""
        models = self._books.table.models()
        return self._sheet.preview(
            status="Failed" if failed else "Done",
            model=models[0] if len(models) == 1 else None,
            total=result["total"],
            counts=result["counts"],
            cost=result["cost"],
            manifest_uri=result["manifest_uri"],
            submitted_at=began,
            landed_at=time.time(),
        )


def _output_format(task: Task) -> str | None:
    return output_format_of(task.model, task.request)


def _with_counts(error: BflError | None, counts: Mapping[str, int]) -> BflError | None:
    if error is None:
        return None
    told = type(error)(f"{error} The batch stopped: {described(counts)}. A retry or a clear goes on with the rest.")
    told.generation_id, told.model = error.generation_id, error.model
    return told


def _run_in_thread(engine: Engine) -> None:
    over = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(engine.run())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)
        finally:
            over.set()

    context = contextvars.copy_context()
    threading.Thread(target=lambda: context.run(work), name="bfl-batch", daemon=True).start()
    try:
        while not over.wait(1.0):
            pass
    except BaseException:
        engine.abort()
        over.wait(_LAST_SECONDS)
        raise
    if failures:
        raise failures[0]


@contextmanager
def _quiet_urls() -> Iterator[None]:
    # urllib3 logs every URL at DEBUG, and the query of a delivery URL is a credential.
    logger = logging.getLogger("urllib3.connectionpool")
    quiet = _Redacting()
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_redacted(argument) for argument in record.args)
        return True


def _redacted(argument: Any) -> Any:
    if not isinstance(argument, str):
        return argument
    path, has_query, _ = redact_urls(argument).partition("?")
    return f"{path}?…" if has_query else path
