# SPDX-License-Identifier: Apache-2.0
"""The items of one model on their way: its slots, its pace, and the next few items made ready."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.batch.pace import Pace
from airflow_provider_bfl.batch.rows import Row
from airflow_provider_bfl.batch.table import Table, Task
from airflow_provider_bfl.batch.window import Window

Mark = Literal["submit", "reattach"]

#: Items made ready ahead of a free slot. Each may hold a request's pictures in memory, so few.
LOOKAHEAD = 4


@dataclass(frozen=True)
class Work:
    """
    An item that can be POSTed at once.

    :param row: Its row, still ``unsubmitted``, with what earlier attempts spent on it.
    :param body: What is sent.
    """

    task: Task
    row: Row
    body: Mapping[str, Any] = field(repr=False)


class Lane:
    """
    One model's share of the batch.

    :param model: The model.
    :param max_active: The most that the user wants in flight.
    :param poll_interval: Fixed seconds between polls, or None to learn.
    """

    def __init__(self, model: str, table: Table, *, max_active: int, poll_interval: float | None) -> None:
        known = get_model(model)
        self.model = model
        self.window = Window(min(max_active, known.max_active))
        self.pace = Pace(known.typical_seconds, poll_interval=poll_interval)
        self.ready: deque[Work] = deque()
        self.preparing = 0
        self.refused_since: float | None = None
        self._table = table
        self._positions: dict[Mark, int] = {"submit": -1, "reattach": -1}
        self._returned: dict[Mark, deque[Task]] = {"submit": deque(), "reattach": deque()}

    def give(self, task: Task, todo: Mark) -> None:
        """Take in an item that turned out to need work."""
        self._returned[todo].append(task)

    def take(self, todo: Mark) -> Task | None:
        """Return the next item that is marked so, each once."""
        if self._returned[todo]:
            return self._returned[todo].popleft()
        task = self._table.next_task(todo, after=self._positions[todo], model=self.model)
        if task is not None:
            self._positions[todo] = task.position
        return task

    @property
    def wants_more(self) -> bool:
        """Whether another item should be made ready."""
        return len(self.ready) + self.preparing < LOOKAHEAD

    def refuse(self, work: Work, retry_after: float | None) -> float:
        """Take an item back that BFL had no slot for; return for how many seconds there has been none."""
        now = time.time()
        self.ready.appendleft(work)
        self.window.refused(now, retry_after)
        self.refused_since = self.refused_since or now
        return now - self.refused_since

    def accept(self) -> None:
        """BFL took one."""
        self.window.accepted()
        self.refused_since = None
