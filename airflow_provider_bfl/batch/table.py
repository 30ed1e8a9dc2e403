# SPDX-License-Identifier: Apache-2.0
"""
Items and rows on the worker's disk, so that memory does not grow with the batch.

A scratch database, gone with the attempt: what has to last is in the journal.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_bfl.batch.rows import Owner, Row, read_row

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE items (
    position INTEGER PRIMARY KEY, item TEXT NOT NULL UNIQUE, model TEXT NOT NULL, fingerprint TEXT NOT NULL,
    object_stem TEXT NOT NULL UNIQUE, request TEXT NOT NULL, todo TEXT NOT NULL DEFAULT ''
);
CREATE TABLE rows (
    owner TEXT NOT NULL, item TEXT NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL, line TEXT NOT NULL,
    PRIMARY KEY (owner, item)
) WITHOUT ROWID;
"""

#: SQLite's own cache, of which two of the three tables' pages are enough; negative means kilobytes.
_CACHE_KB = 1024


@dataclass(frozen=True)
class Task:
    """
    An item that is ready to be worked on.

    :param object_stem: Its object's name below the destination, without an extension.
    :param request: All of it, in BFL's field names.
    """

    position: int
    item: str
    model: str
    fingerprint: str
    object_stem: str
    request: Mapping[str, Any] = field(repr=False)


class Table:
    """
    The items of a batch and the newest row of each.

    :param directory: Where the file goes; whoever made the directory removes it.
    :param owner: The task instance whose batch it is.
    """

    def __init__(self, directory: Path, owner: Owner) -> None:
        self.owner = owner
        # The thread that fills it is not the one that runs the batch; never both at once.
        self._db = sqlite3.connect(directory / "batch.sqlite", isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Items

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Take many items in at the price of one."""
        self._db.execute("BEGIN")
        yield
        self._db.execute("COMMIT")

    def add(self, task: Task) -> int | None:
        """Take an item in and return None, or return the position of another that has its name."""
        values = (task.position, task.item, task.model, task.fingerprint, task.object_stem, json.dumps(task.request))
        try:
            self._db.execute(
                "INSERT INTO items (position, item, model, fingerprint, object_stem, request) VALUES (?,?,?,?,?,?)",
                values,
            )
        except sqlite3.IntegrityError:
            twin = self._db.execute(
                "SELECT position FROM items WHERE item = ? OR object_stem = ?", (task.item, task.object_stem)
            ).fetchone()
            return int(twin[0])
        return None

    @property
    def total(self) -> int:
        """How many items there are."""
        return int(self._db.execute("SELECT count(*) FROM items").fetchone()[0])

    def has_item(self, item: str) -> bool:
        """Whether there is such an item."""
        return self._db.execute("SELECT 1 FROM items WHERE item = ?", (item,)).fetchone() is not None

    def models(self) -> list[str]:
        """Return every model that an item asks for, in the order they are first asked for."""
        found = self._db.execute("SELECT model FROM items GROUP BY model ORDER BY min(position)")
        return [model for (model,) in found]

    def tasks(self, todo: str) -> Iterator[Task]:
        """Return the items that are marked so, in order; marks may change meanwhile."""
        position = -1
        while (task := self.next_task(todo, after=position)) is not None:
            yield task
            position = task.position

    def next_task(self, todo: str, *, after: int, model: str | None = None) -> Task | None:
        """Return the next item that is marked so, of one model or of all."""
        found = self._db.execute(
            "SELECT position, item, model, fingerprint, object_stem, request FROM items"
            " WHERE position > ? AND todo = ? AND (? IS NULL OR model = ?) ORDER BY position LIMIT 1",
            (after, todo, model, model),
        ).fetchone()
        if found is None:
            return None
        position, item, model, fingerprint, object_stem, request = found
        return Task(position, item, model, fingerprint, object_stem, json.loads(request))

    def mark(self, position: int, todo: str) -> None:
        """Mark an item with what is to be done about it."""
        self._db.execute("UPDATE items SET todo = ? WHERE position = ?", (todo, position))

    # Rows

    def put(self, row: Row) -> None:
        """Keep a row unless a later attempt's is known."""
        self._db.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?) ON CONFLICT (owner, item) DO UPDATE"
            " SET position = excluded.position, attempt = excluded.attempt, line = excluded.line"
            " WHERE excluded.attempt >= rows.attempt",
            (str(row.owner), row.item, row.position, row.attempt, row.to_line().decode()),
        )

    def forget_rows(self) -> None:
        """Forget all rows, to read them anew."""
        self._db.execute("DELETE FROM rows")

    def row_of(self, item: str) -> Row | None:
        """Return this batch's row of an item."""
        key = (str(self.owner), item)
        found = self._db.execute("SELECT line FROM rows WHERE owner = ? AND item = ?", key).fetchone()
        return None if found is None else read_row(found[0])

    def foreign_row(self, item: str, fingerprint: str) -> Row | None:
        """Return another batch's row of a landed item of that name and request."""
        found = self._db.execute("SELECT line FROM rows WHERE item = ? AND owner <> ?", (item, str(self.owner)))
        rows = (read_row(line) for (line,) in found)
        return next((row for row in rows if row.status == "stored" and row.fingerprint == fingerprint), None)

    def drop_row(self, row: Row) -> None:
        """Forget a row whose object is another row's now."""
        self._db.execute("DELETE FROM rows WHERE owner = ? AND item = ?", (str(row.owner), row.item))

    def rows(self) -> Iterator[Row]:
        """Return this batch's rows in the order of their items."""
        for _, line in self._ordered("owner = ?", str(self.owner)):
            yield read_row(line)

    def lines(self) -> Iterator[bytes]:
        """Return every row as a line of the manifest: other batches' first, then this one's in order of its items."""
        for where in ("owner <> ?", "owner = ?"):
            for _, line in self._ordered(where, str(self.owner)):
                yield line.encode()

    def foreign_owner(self) -> str | None:
        """Return one of the other batches that have rows here."""
        found = self._db.execute("SELECT owner FROM rows WHERE owner <> ? LIMIT 1", (str(self.owner),)).fetchone()
        return None if found is None else str(found[0])

    def newest_attempt(self) -> int:
        """Return the highest attempt of any row; 0 without rows."""
        return int(self._db.execute("SELECT coalesce(max(attempt), 0) FROM rows").fetchone()[0])

    def _ordered(self, where: str, owner: str) -> Iterator[tuple[int, str]]:
        yield from self._db.execute(f"SELECT position, line FROM rows WHERE {where} ORDER BY owner, position", (owner,))  # noqa: S608
