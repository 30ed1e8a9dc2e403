# SPDX-License-Identifier: Apache-2.0
"""The one place where a row changes: on disk, in the journal, in the budget and in the counts, always all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from airflow_provider_bfl.batch.budget import Budget
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.table import Table
from airflow_provider_bfl.batch.verdict import COUNTS, category

#: Counts of items that nothing more is done about in this attempt.
_OVER = ("stored", "moderated", "rejected", "failed", "doubtful", "gone")


class Books:
    """
    Rows, counts and credits of a batch.

    :param table: Items and rows, those of earlier attempts included.
    :param budget: Takes note of every change.
    """

    def __init__(self, table: Table, budget: Budget) -> None:
        self.table = table
        self.budget = budget
        self.note: Callable[[Row], None] = lambda row: None
        self.reattached = 0
        self._counts: Counter[str] = Counter()
        self._twice = 0
        # Nobody is about to get an answer to what an earlier attempt intended.
        for row in [row for row in table.rows() if row.status == "intent"]:
            table.put(replace(row, status="ambiguous"))
        for row in table.rows():
            if table.has_item(row.item):
                budget.change(None, row)
                self._count(row, +1)
            else:
                # No longer asked for, but paid for all the same.
                budget.spent += row.spent
        self._counts["unsubmitted"] += table.total - self._counts.total()

    @property
    def counts(self) -> dict[str, int]:
        """How many items are what, in the words of the result."""
        return {name: self._counts[name] for name in COUNTS}

    @property
    def possibly_billed_twice(self) -> int:
        """How many items BFL may have billed twice."""
        return self._twice

    @property
    def done(self) -> int:
        """How many items are over."""
        return sum(self._counts[name] for name in _OVER)

    @property
    def without_result(self) -> int:
        """How many items ended without a result."""
        return self.done - self._counts["stored"]

    def change(self, new: Row, *, durable: bool = False) -> Row:
        """
        Let a row take the place of the item's former one; return it.

        :param durable: The journal has it already, or will have it before anything depends on it.
        """
        old = self.table.row_of(new.item)
        self.table.put(new)
        self.budget.change(old, new)
        if old is None:
            self._counts["unsubmitted"] -= 1
        else:
            self._count(old, -1)
        self._count(new, +1)
        if not durable:
            self.note(new)
        return new

    def _count(self, row: Row, sign: int) -> None:
        self._counts[category(row)] += sign
        self._twice += sign * row.possibly_billed_twice
