# SPDX-License-Identifier: Apache-2.0
"""Who may submit, and how much: keys, credits and active-task limits, without any I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace

from airflow_provider_bfl.simulator.tasks import Outcome, Task

_KEY_FORM = re.compile(r"bfl_[A-Za-z0-9_\-]+")

#: BFL never published the body of its 429; only the code is documented.
_TOO_MANY = "Rate limit exceeded. You have too many active tasks."


@dataclass(frozen=True)
class Refusal:
    """An answer other than 200: the HTTP status and the ``detail`` of the body."""

    status: int
    detail: object


def fingerprint(key: str) -> str:
    """Name a key without showing it: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def authenticate(key: str | None, known: frozenset[str] | None) -> Refusal | None:
    """
    Check the ``x-key`` header the way BFL does, before anything else of the request is looked at.

    :param key: The header's value, None when it was not sent.
    :param known: The keys that exist; None takes every well-formed key.
    """
    if not key:
        return Refusal(403, "Not authenticated")
    if not _KEY_FORM.fullmatch(key):
        return Refusal(422, "Invalid API key format")
    if known is not None and key not in known:
        return Refusal(403, "Not authenticated - Invalid Authentication")
    return None


@dataclass
class Account:
    """
    The balance and the running tasks of one key.

    ``spent`` counts what was debited and not given back, so ``credits + spent`` never changes by submitting.
    """

    credits: float
    spent: float = 0.0
    active: dict[str, Task] = field(default_factory=dict)
    max_active: int = 0

    def settle(self, now: float) -> None:
        """Release what has ended by now, and give back what is not billed."""
        for task in [task for task in self.active.values() if task.finished(now)]:
            del self.active[task.id]
            if task.refunded:
                self._debit(-task.quote.cost)

    def refuse(self, model: str, cost: float, *, overall: int, of_model: int) -> Refusal | None:
        """
        Say whether a request of this cost is turned away: no credits first, then too many active tasks.

        :param model: The endpoint asked for.
        :param cost: Credits it would cost.
        :param overall: Active tasks allowed for the account.
        :param of_model: Active tasks of that model allowed for the account.
        """
        if cost > self.credits:
            return Refusal(402, "Insufficient credits")
        if len(self.active) >= overall or self.active_of(model) >= of_model:
            return Refusal(429, _TOO_MANY)
        return None

    def active_of(self, model: str) -> int:
        """How many tasks of a model are running."""
        return sum(task.model == model for task in self.active.values())

    def admit(self, task: Task) -> None:
        """Take a task on: debit its cost and let it occupy a slot."""
        self._debit(task.quote.cost)
        self.active[task.id] = task
        self.max_active = max(self.max_active, len(self.active))

    def end(self, task: Task, now: float, outcome: Outcome) -> Task:
        """Let a running task end now with this outcome; a finished one keeps the end it had."""
        if task.id not in self.active:
            return task
        ended = replace(task, latency_seconds=now - task.submitted_at, outcome=outcome)
        self.active[task.id] = ended
        self.settle(now)
        return ended

    def _debit(self, amount: float) -> None:
        self.credits -= amount
        self.spent += amount
