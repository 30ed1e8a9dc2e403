# SPDX-License-Identifier: Apache-2.0
"""What is stored already: own objects of earlier attempts, other batches' objects, and names that are taken."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.batch.books import Books
from airflow_provider_bfl.batch.job import Job
from airflow_provider_bfl.batch.lanes import Mark
from airflow_provider_bfl.batch.plan import adopted_row
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.table import Task
from airflow_provider_bfl.exceptions import BflError, BflObjectExistsError
from airflow_provider_bfl.landing import find_landed

_EXTENSIONS = {"jpeg": "jpg", "jpg": "jpg", "png": "png", "webp": "webp", "mp4": "mp4"}


class Shelf:
    """
    Looks at the destination's store for the engine; its methods that ask the store block.

    :param job: The attempt's arguments.
    :param books: Takes what is found.
    """

    def __init__(self, job: Job, books: Books) -> None:
        self._job = job
        self._books = books
        self._stored = self._to_verify()

    def next_to_verify(self) -> tuple[Task, Row, bool] | None:
        """Return the next item that should be stored, its row, and whether that is another batch's."""
        return next(self._stored, None)

    def is_there(self, row: Row) -> bool:
        """Whether a row's object is where it was put, unchanged; blocks."""
        if row.uri is None:
            return False
        found = find_landed(self._job.target, uri=row.uri)
        return found is not None and found.size == row.size

    def verified(self, task: Task, row: Row, *, foreign: bool, there: bool) -> Mark | None:
        """Take note of what was found; return what is still to be done about the item, if anything."""
        if there and foreign:
            self._books.change(adopted_row(task, self._job, row))
        if there:
            # Nobody's rows are lost: what this batch has a row of need not have another.
            twin = row if foreign else self._books.table.foreign_row(task.item, task.fingerprint)
            if twin is not None and twin.uri == row.uri:
                self._books.table.drop_row(twin)
            return None
        return "submit" if foreign or not row.polling_url else "reattach"

    def needs_no_store(self, task: Task) -> bool:
        """Whether an item can be sent as it is."""
        media = get_model(task.model).media_fields
        return self._job.if_exists == "overwrite" and not any(task.request.get(name) is not None for name in media)

    def free_stem(self, task: Task, output_format: str | None) -> str:
        """
        Return the name an item's object gets; blocks.

        :raises BflObjectExistsError: the name is taken and ``if_exists="error"``.
        """
        extension = _EXTENSIONS.get(output_format or "")
        if self._job.if_exists == "overwrite" or extension is None:
            return task.object_stem
        target = self._job.target
        uri = f"{target.uri}{task.object_stem}.{extension}"
        if find_landed(target, uri=uri) is None:
            return task.object_stem
        if self._job.if_exists == "error":
            raise BflObjectExistsError(f"{uri} exists and if_exists='error'. Nothing was submitted.")
        # Kept, and not taken for this item's result: it is of another request, or nobody knows of which.
        return f"{task.object_stem}-{task.fingerprint[:8]}"

    def may_pass(self, error: BflError) -> bool:
        """Whether another attempt may find it otherwise."""
        return not isinstance(error, BflObjectExistsError)

    def _to_verify(self) -> Iterator[tuple[Task, Row, bool]]:
        table = self._books.table
        for task in table.tasks("verify"):
            row = table.row_of(task.item)
            if row is not None:
                yield task, row, False
        for task in table.tasks("adopt"):
            row = table.foreign_row(task.item, task.fingerprint)
            if row is not None:
                yield task, row, True
