# SPDX-License-Identifier: Apache-2.0
"""
Where the record of a task instance is kept between attempts.

XCom cannot hold it: Airflow clears XCom when a retry starts, which is just when the record is needed. The identity
is Dag, run, task and map index and never the try number, so a retry finds what the attempt before it wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_bfl.durable.record import Record
from airflow_provider_bfl.exceptions import BflJournalError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

log = logging.getLogger(__name__)

_KEY = "bfl_generation"


class Journal(Protocol):
    """One record: read, written, removed. Every failure is a ``BflJournalError``, never "no record"."""

    def load(self) -> Record | None:
        """Return the record, or None where none was ever written."""

    def save(self, record: Record) -> None:
        """Write the record over the former one."""

    def delete(self) -> None:
        """Remove the record, if there is one."""


def open_journal(context: Context, *, durable: bool) -> Journal:
    """
    Return the journal of the running task instance.

    :param durable: False keeps the record through deferrals only: then a retry after a crash submits again.
    """
    if not durable:
        return XComJournal(context["ti"])
    from airflow.providers.common.compat.sdk import conf

    store = context.get("task_state_store")
    root = conf.get("bfl", "journal_path", fallback="")
    in_objects = ObjectStorageJournal(root, task_identity(context)) if root else None
    if store is not None:
        return TaskStateJournal(store) if in_objects is None else UpgradedJournal(store, in_objects)
    if in_objects is not None:
        return in_objects
    _warn_once()
    return XComJournal(context["ti"])


def task_identity(context: Context) -> dict[str, Any]:
    """Return what names the task instance across attempts."""
    ti = context["ti"]
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}


class TaskStateJournal:
    """The record in Airflow's task state store (Airflow 3.3 and later), which survives retry and clear."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def load(self) -> Record | None:
        """See :class:`Journal`."""
        try:
            value = self._store.get(_KEY)
        except Exception as error:
            raise _unreadable(error) from error
        return None if value is None else Record.from_json(value)

    def save(self, record: Record) -> None:
        """See :class:`Journal`."""
        try:
            self._store.set(_KEY, record.to_json())
        except Exception as error:
            raise _unwritable(error) from error

    def delete(self) -> None:
        """See :class:`Journal`."""
        try:
            self._store.delete(_KEY)
        except Exception as error:
            raise _unwritable(error) from error


class ObjectStorageJournal:
    """
    The record as a JSON object below ``[bfl] journal_path``.

    :param root: Object-storage URI of a directory.
    :param identity: What names the task instance.
    """

    def __init__(self, root: str, identity: Mapping[str, Any]) -> None:
        self._root = root
        self._identity = dict(identity)

    def load(self) -> Record | None:
        """See :class:`Journal`."""
        try:
            text = self._path().read_text()
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unreadable(error) from error
        try:
            value = json.loads(text)
        except ValueError as error:
            raise _unreadable(error) from error
        return Record.from_json(value.get("record") if isinstance(value, dict) else None)

    def save(self, record: Record) -> None:
        """See :class:`Journal`; a reader never sees half a record."""
        try:
            _write_whole(self._path(), json.dumps({"task_instance": self._identity, "record": record.to_json()}))
        except Exception as error:
            raise _unwritable(error) from error

    def delete(self) -> None:
        """See :class:`Journal`."""
        try:
            self._path().unlink(missing_ok=True)
        except Exception as error:
            raise _unwritable(error) from error

    def _path(self) -> ObjectStoragePath:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        # Hashed, because ids may hold anything; a NUL between the parts keeps ("a", "b_c") and ("a_b", "c") apart.
        identity = "\0".join(str(self._identity[name]) for name in ("dag_id", "run_id", "task_id", "map_index"))
        name = hashlib.sha256(identity.encode()).hexdigest()
        return ObjectStoragePath(self._root) / f"{name}.json"


class UpgradedJournal(TaskStateJournal):
    """
    The record in the task state store, where an earlier Airflow kept it in object storage.

    :param former: Where the record of a task is that submitted before the upgrade. It is moved when it is first read.
    """

    def __init__(self, store: Any, former: ObjectStorageJournal) -> None:
        super().__init__(store)
        self._former = former

    def load(self) -> Record | None:
        """See :class:`Journal`."""
        record = super().load()
        if record is None and (record := self._former.load()) is not None:
            self.save(record)
            self._former.delete()
        return record


class XComJournal:
    """
    The record in the task's own XCom: it outlives a deferral, but Airflow removes it when a retry starts.

    :param ti: The running task instance.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def load(self) -> Record | None:
        """See :class:`Journal`."""
        try:
            value = self._ti.xcom_pull(task_ids=self._ti.task_id, map_indexes=self._ti.map_index, key=_KEY)
        except Exception as error:
            raise _unreadable(error) from error
        return Record.from_json(value) if value else None

    def save(self, record: Record) -> None:
        """See :class:`Journal`."""
        self._push(record.to_json())

    def delete(self) -> None:
        """See :class:`Journal`."""
        # Airflow 3.0 refuses a null.
        self._push({})

    def _push(self, value: Mapping[str, Any]) -> None:
        try:
            self._ti.xcom_push(key=_KEY, value=value)
        except Exception as error:
            raise _unwritable(error) from error


def _write_whole(path: ObjectStoragePath, text: str) -> None:
    if path.protocol not in ("file", "local"):
        # No mkdir: an object store has no directories, and s3fs would make a missing bucket instead of failing.
        path.write_text(text)
        return
    # An object store's PUT is all or nothing; a local file is not, so it is renamed into place.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.rename(path)


def _unreadable(error: Exception) -> BflJournalError:
    return BflJournalError(
        f"The record of this task instance could not be read ({type(error).__name__}: {error}). Whether an earlier "
        "attempt has submitted is unknown, so nothing was submitted. A retry reads it again."
    )


def _unwritable(error: Exception) -> BflJournalError:
    return BflJournalError(f"The record of this task instance could not be written ({type(error).__name__}: {error}).")


@cache
def _warn_once() -> None:
    log.warning(
        "This Airflow has no task state store and [bfl] journal_path is not set: a worker that dies after a submit "
        "leads to a second, paid one. Set journal_path to an object-storage URI."
    )
