# SPDX-License-Identifier: Apache-2.0
"""
The simulated service without its sockets: clock, accounts, tasks, faults and ledger, and the rules between them.

One event loop owns it, so nothing here locks.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from airflow_provider_bfl.api.catalogue import DEFAULT_MAX_ACTIVE, Model
from airflow_provider_bfl.simulator.accounts import Account, Refusal, fingerprint
from airflow_provider_bfl.simulator.artwork import artwork_of, clip_seconds, shown_prompt
from airflow_provider_bfl.simulator.delivery import (
    CONTENT_TYPES,
    blob_id,
    blob_path,
    lifetime_seconds,
    signed_query,
)
from airflow_provider_bfl.simulator.faults import Fault, FaultBook, Kind
from airflow_provider_bfl.simulator.ledger import Ledger, blot, shortened
from airflow_provider_bfl.simulator.pricing import quote
from airflow_provider_bfl.simulator.tasks import Outcome, Task, jittered

REGIONS = ("eu", "us")

_UNKNOWN_TYPICAL_SECONDS = 10.0


class Clock:
    """Wall-clock time that can be moved ahead."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def now(self) -> float:
        return time.time() + self.offset_seconds


@dataclass(frozen=True)
class Settings:
    """
    What can be changed while the simulator runs.

    :param latency_scale: Factor on every model's typical time: 0.01 makes a 12 s model take 0.12 s.
    :param jitter: Largest relative deviation of a task's time from the scaled one.
    :param overall_limit: Active tasks allowed per key.
    :param limits: Active tasks allowed per model and key, over the catalogue's own.
    :param fresh_urls: Every poll of a finished task mints a URL with a lifetime of its own; otherwise the same URL
        comes back each time. BFL does not say which of the two it does.
    :param url_lifetime_seconds: Lifetime of every signed URL; None is BFL's 10 minutes, an hour for FLUX 3 and video.
    :param retry_after_seconds: ``Retry-After`` of the 429 for too many active tasks; None sends none, as far as known
        like BFL.
    """

    latency_scale: float = 1.0
    jitter: float = 0.1
    overall_limit: int = DEFAULT_MAX_ACTIVE
    limits: Mapping[str, int] = field(default_factory=dict)
    fresh_urls: bool = False
    url_lifetime_seconds: float | None = None
    retry_after_seconds: int | None = None

    def limit_of(self, model: Model) -> int:
        """Active tasks allowed of one model: its own limit where it has a lower one, else the overall one."""
        own = model.max_active if model.max_active < DEFAULT_MAX_ACTIVE else self.overall_limit
        return self.limits.get(model.slug, own)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """
        Return the settings with some replaced.

        :raises ValueError: for a name that is no setting.
        """
        known = {each.name for each in fields(self)}
        if strangers := sorted(set(changes) - known):
            raise ValueError(f"There is no setting {', '.join(strangers)}; there are {', '.join(sorted(known))}.")
        return replace(self, **changes)


@dataclass
class TaskEntry:
    """
    A task with what the simulator remembers around it.

    :param request: What was asked for, shortened for the ledger.
    :param clip_seconds: Length of the result when it is a video.
    :param fault: What is scripted for the task.
    :param webhook_url: Where its end is posted; None for a task that is polled.
    :param polls: How often its own polling host was asked for it.
    """

    task: Task
    request: Mapping[str, Any]
    clip_seconds: float
    fault: Fault
    webhook_url: str | None = None
    polls: int = 0


@dataclass
class World:
    """
    The state of one simulator.

    :param keys: The keys that exist; None takes every well-formed one.
    :param starting_credits: Balance of a key seen for the first time.
    :param dice: Source of task ids, seeds and cluster choices; seeded, they repeat from run to run.
    """

    keys: frozenset[str] | None
    starting_credits: float
    settings: Settings
    dice: random.Random
    clock: Clock = field(default_factory=Clock)
    faults: FaultBook = field(default_factory=FaultBook)
    ledger: Ledger = field(default_factory=Ledger)
    accounts: dict[str, Account] = field(default_factory=dict)
    tasks: dict[str, TaskEntry] = field(default_factory=dict)
    blobs: dict[str, str] = field(default_factory=dict)
    delivery_urls: dict[str, str] = field(default_factory=dict)
    max_active_by_model: Counter[str] = field(default_factory=Counter)
    seen_keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.secret = self.dice.randbytes(32)

    def account(self, key: str) -> Account:
        """The settled account of an accepted key; the first sight of a key opens one."""
        self.seen_keys.add(key)
        account = self.accounts.setdefault(fingerprint(key), Account(self.starting_credits))
        account.settle(self.clock.now())
        return account

    def submit(self, model: Model, body: Mapping[str, Any], *, key: str, region: str) -> TaskEntry | Refusal:
        """
        Accept a valid request, or turn it away for credits or active tasks.

        :param model: The endpoint.
        :param body: The request, already found valid.
        :param key: The key that pays.
        :param region: Where it was submitted: ``global`` spreads over the clusters.
        """
        account = self.account(key)
        price = quote(model, body)
        overall, of_model = self.settings.overall_limit, self.settings.limit_of(model)
        refusal = account.refuse(model.slug, price.cost, overall=overall, of_model=of_model)
        if refusal:
            return refusal
        artwork = artwork_of(model, body, self.dice)
        fault = self.faults.take("task", model=model.slug, prompt=artwork.prompt)
        task_id = str(uuid.UUID(bytes=self.dice.randbytes(16), version=4))
        task = Task(
            id=task_id,
            model=model.slug,
            account=fingerprint(key),
            region=region if region in REGIONS else REGIONS[len(self.tasks) % len(REGIONS)],
            artwork=artwork,
            quote=price,
            submitted_at=self.clock.now(),
            latency_seconds=self._latency(model, task_id, fault),
            outcome=fault.outcome(),
            prompt_shown=shown_prompt(model, body),
        )
        webhook_url = body.get("webhook_url") if model.takes_webhooks else None
        account.admit(task)
        self._count_active(account, model.slug)
        entry = TaskEntry(task, shortened(body), clip_seconds(body), fault, webhook_url)
        self.tasks[task_id] = entry
        self.blobs[blob_id(task_id)] = task_id
        return entry

    def _latency(self, model: Model, task_id: str, fault: Fault) -> float:
        if fault.stuck:
            return float("inf")
        if fault.latency_seconds is not None:
            return fault.latency_seconds
        typical = (model.typical_seconds or _UNKNOWN_TYPICAL_SECONDS) * self.settings.latency_scale
        return jittered(typical, jitter=self.settings.jitter, task_id=task_id)

    def _count_active(self, account: Account, model: str) -> None:
        self.max_active_by_model[model] = max(self.max_active_by_model[model], account.active_of(model))

    def fault_for(self, on: Kind, entry: TaskEntry | None) -> Fault:
        """Take the fault a request about a task meets; about an unknown one, those for any task."""
        if entry is None:
            return self.faults.take(on)
        task = entry.task
        return self.faults.take(on, model=task.model, task_id=task.id, prompt=task.artwork.prompt)

    def finish(self, task_id: str, outcome: Outcome) -> None:
        """
        End a running task now.

        :raises KeyError: for an unknown task.
        """
        entry = self.tasks[task_id]
        now = self.clock.now()
        entry.task = self.accounts[entry.task.account].end(entry.task, now, outcome)

    def sample_url(self, entry: TaskEntry) -> str:
        """The signed URL a poll shows now, for a task that has finished."""
        task = entry.task
        path = blob_path(task)
        lifetime = self.settings.url_lifetime_seconds
        begins = self.clock.now() if self.settings.fresh_urls else task.finishes_at
        query = signed_query(
            path,
            expires_at=begins + (lifetime_seconds(task.model) if lifetime is None else lifetime),
            content_type=CONTENT_TYPES[task.artwork.format],
            secret=self.secret,
        )
        url = f"{self.delivery_urls[task.region]}{path}?{query}"
        return entry.fault.sample_url.replace("{url}", url) if entry.fault.sample_url else url

    def poll_body(self, entry: TaskEntry) -> dict[str, object]:
        """The body of ``get_result`` now; a URL is only minted for a finished task."""
        now = self.clock.now()
        return entry.task.poll_body(now, self.sample_url(entry) if entry.task.finished(now) else "")

    def reset(self) -> None:
        """Forget tasks, accounts, faults, ledger and the clock's offset; keep the settings and the addresses."""
        self.faults.clear()
        self.ledger = Ledger()
        self.accounts.clear()
        self.tasks.clear()
        self.blobs.clear()
        self.max_active_by_model.clear()
        self.clock.offset_seconds = 0.0

    def ledger_json(self) -> dict[str, Any]:
        """Everything that happened, as the control API shows it."""
        now = self.clock.now()
        for account in self.accounts.values():
            account.settle(now)
        rows = [self._task_json(entry, now) for entry in self.tasks.values()]
        return self.ledger.as_json() | {
            "tasks": rows,
            "posts": len(rows),
            "active": sum(len(account.active) for account in self.accounts.values()),
            "max_active": max((account.max_active for account in self.accounts.values()), default=0),
            "max_active_by_model": dict(self.max_active_by_model),
            "credits": {name: account.credits for name, account in self.accounts.items()},
            "spent": sum(account.spent for account in self.accounts.values()),
            "faults_left": self.faults.left,
        }

    def _task_json(self, entry: TaskEntry, now: float) -> dict[str, Any]:
        task = entry.task
        endless = task.finishes_at == float("inf")
        return {
            "id": task.id,
            "model": task.model,
            "key": task.account,
            "region": task.region,
            "request": {
                name: blot(value, self.seen_keys) if isinstance(value, str) else value
                for name, value in entry.request.items()
            },
            "status": task.status(now),
            "cost": task.quote.cost,
            "refunded": task.finished(now) and task.refunded,
            "seed": task.artwork.seed,
            "submitted_at": task.submitted_at,
            "finishes_at": None if endless else task.finishes_at,
            "polls": entry.polls,
        }
