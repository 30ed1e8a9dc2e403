# SPDX-License-Identifier: Apache-2.0
"""
May the next POST be paid for? Judged by BFL's own figures, over all attempts, before every POST.

BFL tells a price only in its answer, so the dearest request of a model seen so far stands for the next one. Before the
first is seen, one request of the model is sent alone, to learn.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from airflow_provider_bfl.batch.rows import AT_BFL, Row


class Answer(Enum):
    """``WAIT``: not before something that is in flight has told its cost or ended."""

    YES = "yes"
    WAIT = "wait"
    NO = "no"


class Budget:
    """
    What was spent, what is reserved for POSTs under way, and what may still be.

    Every change of a row goes through :meth:`change`, so it always agrees with the rows.

    :param max_cost: Credits over all attempts; None for no limit.
    """

    def __init__(self, max_cost: float | None = None) -> None:
        self.max_cost = max_cost
        self.spent = 0.0
        self._reserved = 0.0
        self._dearest: dict[str, float] = {}
        self._unknown: Counter[str] = Counter()
        self._costless: set[str] = set()

    @property
    def committed(self) -> float:
        """Credits that were or may be billed: spent, and reserved for what is under way."""
        return self.spent + self._reserved

    @property
    def costless(self) -> frozenset[str]:
        """Models whose cost BFL does not tell, so that no limit can be kept for them."""
        return frozenset(self._costless)

    def ask(self, model: str) -> Answer:
        """Return whether one more request of ``model`` may be sent."""
        if self.max_cost is None:
            return Answer.YES
        under_way = bool(self._reserved or self._unknown.total())
        dearest = self._dearest.get(model)
        if self._unknown.total() or (dearest is None and under_way):
            return Answer.WAIT
        if dearest is None:
            return Answer.NO if model in self._costless or self.spent >= self.max_cost else Answer.YES
        if self.committed + dearest <= self.max_cost:
            return Answer.YES
        return Answer.WAIT if under_way else Answer.NO

    def estimate(self, model: str) -> float:
        """Return what a request of ``model`` is reckoned to cost; 0 before any cost was seen."""
        return self._dearest.get(model, 0.0)

    def change(self, old: Row | None, new: Row) -> None:
        """Take note of a row that takes the place of another."""
        if old is not None:
            self._count(old, -1)
        self._count(new, +1)
        if new.cost is not None:
            self._dearest[new.model] = max(new.cost, self._dearest.get(new.model, 0.0))
            self._costless.discard(new.model)
        elif new.status in ("stored", "unstored") and new.model not in self._dearest:
            self._costless.add(new.model)

    def _count(self, row: Row, sign: int) -> None:
        under_way = row.status == "intent" or (row.status in AT_BFL and row.cost is None)
        self.spent += sign * (row.spent - (row.reserved if under_way else 0.0))
        if under_way and row.reserved:
            self._reserved = max(0.0, self._reserved + sign * row.reserved)
        elif under_way:
            self._unknown[row.model] = max(0, self._unknown[row.model] + sign)
