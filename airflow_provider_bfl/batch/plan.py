# SPDX-License-Identifier: Apache-2.0
"""What an attempt does with each item, decided before it does anything."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from airflow_provider_bfl.batch.books import Books
from airflow_provider_bfl.batch.job import Job
from airflow_provider_bfl.batch.rows import Keep, Reattach, Row, Submit, Verify, decide
from airflow_provider_bfl.batch.table import Task
from airflow_provider_bfl.exceptions import BflUnresolvedSubmitError

log = logging.getLogger(__name__)

#: Names in a warning; a batch may have thousands.
_MAX_NAMED = 10


def mark_items(books: Books, job: Job) -> Counter[str]:
    """
    Mark every item of the table with what is to be done: ``submit``, ``reattach``, ``verify``, ``adopt`` or nothing.

    :return: How many items got which mark.
    """
    changed: list[str] = []
    doubtful: list[str] = []
    marks: Counter[str] = Counter()
    for task in books.table.tasks(""):
        row = books.table.row_of(task.item)
        action = decide(row, fingerprint=task.fingerprint, on_ambiguous_submit=job.on_ambiguous_submit)
        mark = "kept"
        match action:
            case Submit():
                adoptable = row is None and job.if_exists == "skip"
                known = adoptable and books.table.foreign_row(task.item, task.fingerprint) is not None
                mark = "adopt" if known else "submit"
                changed += [task.item] if action.changed else []
                doubtful += [task.item] if row is not None and row.status == "ambiguous" else []
            case Reattach():
                mark = "reattach"
            case Verify():
                mark = "verify"
            case Keep(kept) if kept.status == "ambiguous":
                books.change(_unresolved(kept, job))
        books.table.mark(task.position, mark)
        marks[mark] += 1
    _warn(
        changed,
        "%d items were paid for with another request before and are new ones now: %s. What they cost stays counted.",
    )
    _warn(
        doubtful,
        "The answer to the POST of %d items was lost in an earlier attempt: %s. BFL may have accepted and billed them. "
        "They are submitted again (on_ambiguous_submit='resubmit') and marked possibly_billed_twice.",
    )
    return marks


def new_row(task: Task, job: Job, *, former: Row | None) -> Row:
    """Return the row of an item that is about to be submitted, given what earlier attempts left of it."""
    action = decide(former, fingerprint=task.fingerprint, on_ambiguous_submit=job.on_ambiguous_submit)
    history = action if isinstance(action, Submit) else Submit()
    return Row(
        item=task.item,
        position=task.position,
        status="unsubmitted",
        fingerprint=task.fingerprint,
        model=task.model,
        attempt=job.attempt,
        dag_id=job.owner.dag_id,
        run_id=job.owner.run_id,
        task_id=job.owner.task_id,
        map_index=job.owner.map_index,
        object_stem=task.object_stem,
        region=job.region,
        spent=history.spent,
        possibly_billed_twice=history.possibly_billed_twice,
    )


def adopted_row(task: Task, job: Job, foreign: Row) -> Row:
    """Return the row of an item whose object another batch stored and paid for."""
    return replace(
        foreign,
        position=task.position,
        attempt=job.attempt,
        dag_id=job.owner.dag_id,
        run_id=job.owner.run_id,
        task_id=job.owner.task_id,
        map_index=job.owner.map_index,
        spent=0.0,
        reserved=0.0,
        possibly_billed_twice=False,
    )


def _unresolved(row: Row, job: Job) -> Row:
    error = BflUnresolvedSubmitError(
        "An earlier attempt sent this item's POST and never learnt its answer: BFL may have accepted and billed it. It "
        "was not submitted again (on_ambiguous_submit='fail'). Look at BFL's dashboard; to generate it anew, change "
        "its request or set on_ambiguous_submit='resubmit'.",
        model=row.model,
    )
    return replace(row.ended("ambiguous", error), attempt=job.attempt)


def _warn(items: list[str], message: str) -> None:
    if items:
        named = ", ".join(items[:_MAX_NAMED]) + (" …" if len(items) > _MAX_NAMED else "")
        log.warning(message, len(items), named)
