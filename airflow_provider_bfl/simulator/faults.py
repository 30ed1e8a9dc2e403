# SPDX-License-Identifier: Apache-2.0
"""
Scripted misfortune: what is to go wrong, for which requests, how often. Deciding only; the servers act on it.

A fault names what it waits for (``on``) and what happens then. Several effects can be combined in one fault. One
request meets at most one fault, the oldest that matches and is not used up.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from airflow_provider_bfl.simulator.tasks import Outcome

Kind = Literal["submit", "task", "poll", "delivery", "credits"]
Framing = Literal["length", "chunked", "close"]

_REQUESTS: frozenset[Kind] = frozenset({"submit", "poll", "delivery", "credits"})
_ONLY_FOR: Mapping[str, frozenset[Kind]] = {
    "model": frozenset({"submit", "task", "poll", "delivery"}),
    "prompt": frozenset({"task", "poll", "delivery"}),
    "task_id": frozenset({"poll", "delivery"}),
    "delay_seconds": _REQUESTS,
    "drop": _REQUESTS,
    "status": _REQUESTS,
    "body": _REQUESTS,
    "redirect_to": _REQUESTS,
    "accept": frozenset({"submit"}),
    "polling_url": frozenset({"task"}),
    "wrong_polling_host": frozenset({"task"}),
    "final_status": frozenset({"task"}),
    "details": frozenset({"task"}),
    "latency_seconds": frozenset({"task"}),
    "stuck": frozenset({"task"}),
    "hidden_polls": frozenset({"task"}),
    "sample_url": frozenset({"task", "poll"}),
    "status_body": frozenset({"poll"}),
    "expired": frozenset({"delivery"}),
    "content": frozenset({"delivery"}),
    "content_type": frozenset({"delivery"}),
    "body_bytes": frozenset({"task", "delivery"}),
    "bytes_per_second": frozenset({"delivery"}),
    "cut_after": frozenset({"delivery"}),
    "framing": frozenset({"delivery"}),
}


@dataclass(frozen=True)
class Fault:
    """
    One scripted fault.

    :param on: What it waits for: a request (``submit``, ``poll``, ``delivery``, ``credits``), or a ``task`` that has
        just been accepted. A submit can meet one of each: lost in answer, say, and moderated in the end.
    :param times: How many it hits; None hits all until the faults are cleared.
    :param skip: How many pass unharmed first.
    :param model: Only for this model.
    :param prompt: Only where the prompt contains this (task, poll and delivery).
    :param task_id: Only for this task (poll and delivery).
    :param delay_seconds: Real seconds to wait before anything else happens; with ``accept``, after the task exists.
    :param drop: Close the connection instead of answering.
    :param status: Answer with this HTTP status instead of the usual answer.
    :param body: The body sent with ``status``: a string is sent as it is, anything else as JSON. With a status and
        no body, a poll answers its ordinary task body and everything else ``{"detail": …}``.
    :param headers: Headers added to a scripted answer, and to a delivered result.
    :param redirect_to: Answer with a redirect to this URL (status 307 unless ``status`` says otherwise).
    :param accept: Submit: the task is created (and debited) although the answer is lost, late or an error.
    :param polling_url: Task: the ``polling_url`` to return; ``{id}`` stands for the task id.
    :param wrong_polling_host: Task: return the polling URL of a cluster that does not know the task.
    :param final_status: Task: how it ends, in BFL's word or an invented one.
    :param details: Task: the ``details`` object of that ending.
    :param latency_seconds: Task: how long it runs, unscaled.
    :param stuck: Task: it never ends by itself.
    :param hidden_polls: Task: its first so many polls answer 404.
    :param sample_url: Task or poll: the URL to show as the result's ``sample``; ``{url}`` stands for the right one.
    :param status_body: Poll: report this task status (with HTTP 200 unless ``status`` says otherwise).
    :param expired: Delivery: answer as if the URL's time were over.
    :param content: Delivery: serve these bytes instead of the result (base64 in JSON).
    :param content_type: Delivery: declare this content type.
    :param body_bytes: Task or delivery: grow the result to this size, still a valid file.
    :param bytes_per_second: Delivery: send the body no faster than this.
    :param cut_after: Delivery: close the connection after this share (below 1) of the body.
    :param framing: Delivery: how the end of the body is told: its length, chunks, or closing the connection.
    """

    on: Kind
    times: int | None = 1
    skip: int = 0
    model: str | None = None
    prompt: str | None = None
    task_id: str | None = None
    delay_seconds: float = 0.0
    drop: bool = False
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    redirect_to: str | None = None
    accept: bool = False
    polling_url: str | None = None
    wrong_polling_host: bool = False
    final_status: str | None = None
    details: Mapping[str, object] | None = None
    latency_seconds: float | None = None
    stuck: bool = False
    hidden_polls: int = 0
    sample_url: str | None = None
    status_body: str | None = None
    expired: bool = False
    content: bytes | None = None
    content_type: str | None = None
    body_bytes: int | None = None
    bytes_per_second: float | None = None
    cut_after: float | None = None
    framing: Framing = "length"

    def __post_init__(self) -> None:
        if self.on not in get_args(Kind):
            raise ValueError(f"A fault waits for one of {', '.join(get_args(Kind))}, not for {self.on!r}.")
        for name, kinds in _ONLY_FOR.items():
            if self.on not in kinds and getattr(self, name) != getattr(Fault, name):
                raise ValueError(f"{name!r} means nothing for {self.on!r}; it belongs to {', '.join(sorted(kinds))}.")
        if self.times is not None and self.times < 1:
            raise ValueError(f"A fault hits at least once; times={self.times!r} hits nothing. None hits all.")
        if self.framing not in get_args(Framing):
            raise ValueError(f"A body is framed by one of {', '.join(get_args(Framing))}, not by {self.framing!r}.")
        if self.cut_after is not None and not 0 <= self.cut_after < 1:
            raise ValueError(f"cut_after is a share of the body in [0, 1), not {self.cut_after!r}.")

    @property
    def replies(self) -> bool:
        """Whether the usual answer is replaced by the fault's own."""
        return self.status is not None or self.redirect_to is not None

    def outcome(self) -> Outcome:
        """How a task that meets this fault ends."""
        return Outcome(self.final_status, self.details) if self.final_status else Outcome()

    def matches(self, on: Kind, model: str | None, task_id: str | None, prompt: str | None) -> bool:
        """Whether this is what the fault waits for."""
        return (
            self.on == on
            and (self.model is None or self.model == model)
            and (self.prompt is None or self.prompt in (prompt or ""))
            and (self.task_id is None or self.task_id == task_id)
        )


NO_FAULTS: Mapping[Kind, Fault] = {kind: Fault(on=kind) for kind in get_args(Kind)}


def fault_from_json(document: Mapping[str, Any]) -> Fault:
    """
    Read a fault from the control API's JSON.

    :raises ValueError: for a name that is no field of a fault, and whatever ``Fault`` itself refuses.
    """
    known = {each.name for each in fields(Fault)}
    strangers = sorted(set(document) - known)
    if strangers:
        raise ValueError(f"A fault has no {', '.join(strangers)}; it has {', '.join(sorted(known))}.")
    if "on" not in document:
        raise ValueError("A fault needs 'on': submit, task, poll, delivery or credits.")
    values = dict(document)
    if isinstance(values.get("content"), str):
        values["content"] = base64.b64decode(values["content"])
    return Fault(**values)


class FaultBook:
    """The faults still to come, oldest first."""

    def __init__(self) -> None:
        self._pending: list[_Scripted] = []

    def add(self, fault: Fault) -> None:
        self._pending.append(_Scripted(fault, fault.skip, fault.times))

    def clear(self) -> None:
        self._pending.clear()

    @property
    def left(self) -> int:
        """How many scripted faults have not been used up."""
        return len(self._pending)

    def take(
        self, on: Kind, *, model: str | None = None, task_id: str | None = None, prompt: str | None = None
    ) -> Fault:
        """
        Return the fault this request or task meets, and count it as used; one without effects when there is none.

        :param on: The kind of request, or ``task``.
        :param model: The model it is for.
        :param task_id: The task it is for.
        :param prompt: That task's prompt.
        """
        for scripted in self._pending:
            if not scripted.fault.matches(on, model, task_id, prompt):
                continue
            if scripted.skips_left > 0:
                scripted.skips_left -= 1
                continue
            if scripted.times_left is not None:
                scripted.times_left -= 1
                if scripted.times_left <= 0:
                    self._pending.remove(scripted)
            return scripted.fault
        return NO_FAULTS[on]


@dataclass
class _Scripted:
    fault: Fault
    skips_left: int
    times_left: int | None
