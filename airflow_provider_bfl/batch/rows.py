# SPDX-License-Identifier: Apache-2.0
"""
One row per item: what is known of it, and what an attempt does with what it finds.

A row is a line of the manifest and, while the batch runs, of its journal; the newest row of an item is the truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, get_args

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.arguments import OnAmbiguousSubmit
from airflow_provider_bfl.exceptions import BflError, BflJournalError
from airflow_provider_bfl.landing import Landed
from airflow_provider_bfl.landing.facts import iso_time

#: ``unsubmitted``: nothing was sent. ``intent``: about to be sent. ``refused``: BFL certainly did not accept it and may
#: later. ``ambiguous``: sent, and the answer lost. ``submitted``: accepted, paid, not ended as far as is known.
#: ``unstored``: generated, not landed. ``stored``: landed. The others ended without a result.
Status = Literal[
    "unsubmitted",
    "intent",
    "refused",
    "ambiguous",
    "submitted",
    "unstored",
    "stored",
    "moderated",
    "rejected",
    "failed",
]

#: BFL may have accepted it, and nobody knows.
IN_DOUBT = frozenset({"intent", "ambiguous"})
#: BFL has it, and the result can be had without paying.
AT_BFL = frozenset({"submitted", "unstored"})
#: The same request would end the same way, so no attempt sends it again.
SETTLED = frozenset({"moderated", "rejected"})

_OWNER_FIELDS = ("dag_id", "run_id", "task_id", "map_index")
_MAX_ERROR_CHARS = 600


@dataclass(frozen=True, slots=True)
class Owner:
    """The task instance a row belongs to; never the try number, so that a retry finds its rows."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id} / {self.run_id} / {self.task_id}{index}"


@dataclass(frozen=True, slots=True)
class Row:
    """
    What is known of one item.

    :param item: The item's ``name``, or its position as text.
    :param position: Its place among the requests, from 0.
    :param attempt: Which attempt on this manifest wrote the row; a later one's row wins whatever the order of lines.
    :param object_stem: The name of its object below the destination, without an extension.
    :param cost: Credits of this generation, as BFL reported them.
    :param spent: Credits of all of the item's generations that BFL may bill, this one included.
    :param reserved: Credits that a POST without an answer counts for, in ``spent`` already.
    :param error_type: The class of the error that ended the item, or keeps it from ending.
    """

    item: str
    position: int
    status: Status
    fingerprint: str
    model: str
    attempt: int
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    object_stem: str = ""
    region: str | None = None
    id: str | None = None
    polling_url: str | None = None
    cost: float | None = None
    spent: float = 0.0
    reserved: float = 0.0
    seed: int | None = None
    uri: str | None = None
    sidecar_uri: str | None = None
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    submitted_at: str | None = None
    ready_at: str | None = None
    landed_at: str | None = None
    url_age_seconds: float | None = None
    reattached: bool = False
    possibly_billed_twice: bool = False
    error_type: str | None = None
    error: str | None = None

    @property
    def owner(self) -> Owner:
        """The task instance it belongs to."""
        return Owner(self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def submitted_seconds(self) -> float | None:
        """When it was submitted, wall-clock seconds."""
        return None if self.submitted_at is None else datetime.fromisoformat(self.submitted_at).timestamp()

    def submitted(self, submission: Submission, *, now: float) -> Row:
        """Return the row after BFL accepted the item; a cost BFL does not tell yet stays reserved."""
        row = self if submission.cost is None else self.settled(submission.cost)
        return replace(
            row,
            status="submitted",
            id=submission.id,
            polling_url=submission.polling_url,
            submitted_at=iso_time(now),
            error_type=None,
            error=None,
        )

    def settled(self, cost: float | None) -> Row:
        """Return the row once the generation has ended and BFL told its final cost, or none."""
        if cost is None:
            return self
        former = self.spent - self.reserved - (self.cost or 0.0)
        if self.possibly_billed_twice and not former:
            # The POST that may have been billed before was sent when no price was known yet.
            former = cost
        return replace(self, cost=cost, spent=former + cost, reserved=0.0)

    def stored(self, landed: Landed) -> Row:
        """Return the row after its result has landed."""
        facts = landed.as_xcom()
        kept = ("seed", "uri", "sidecar_uri", "content_type", "size", "sha256", "url_age_seconds")
        times = {name: facts[name] for name in ("ready_at", "landed_at")}
        return replace(
            self, status="stored", error_type=None, error=None, **times, **{name: facts[name] for name in kept}
        )

    def unbilled(self, status: Status, error: BflError) -> Row:
        """Return the row of an item that BFL does not bill: refused, rejected or moderated."""
        return replace(
            self.ended(status, error), spent=self.spent - self.reserved - (self.cost or 0.0), cost=None, reserved=0.0
        )

    def ended(self, status: Status, error: Exception) -> Row:
        """Return the row with what went wrong; what it cost stays."""
        words = str(error)
        clipped = words if len(words) <= _MAX_ERROR_CHARS else words[:_MAX_ERROR_CHARS] + "…"
        return replace(self, status=status, error_type=type(error).__name__, error=clipped)

    def to_line(self) -> bytes:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


_FIELDS = {field.name for field in fields(Row)}
_TEXTS = ("item", "fingerprint", "model", "dag_id", "run_id", "task_id", "object_stem")
_OPTIONAL_TEXTS = ("id", "polling_url", "uri", "submitted_at", "error_type", "error")


def read_row(line: bytes | str) -> Row:
    """
    Read a line back.

    :raises BflJournalError: it is no row. Reading it as "nothing known" would pay again.
    """
    try:
        value = json.loads(line)
        row = Row(**{name: item for name, item in value.items() if name in _FIELDS})
        whole = _is_whole(row)
    except (ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BflJournalError(
            "The batch's manifest has a line that is not one of its rows. Nothing was submitted: whether that item was "
            "paid for is unknown. Restore the manifest, or choose another destination to generate (and pay) anew."
        )
    return row


def _is_whole(row: Any) -> bool:
    # Any, because what was read back need not have the types that are declared.
    at_bfl = row.status in AT_BFL
    return (
        row.status in get_args(Status)
        and all(isinstance(getattr(row, name), str) for name in _TEXTS)
        and all(isinstance(getattr(row, name), str | None) for name in _OPTIONAL_TEXTS)
        and all(isinstance(number, int) for number in (row.position, row.attempt, row.map_index))
        and all(isinstance(number, int | float) for number in (row.spent, row.reserved))
        and isinstance(row.cost, int | float | None)
        and (not at_bfl or (bool(row.id) and bool(row.polling_url)))
        and (row.submitted_at is None or datetime.fromisoformat(row.submitted_at) is not None)
    )


@dataclass(frozen=True, slots=True)
class Submit:
    """
    Send it.

    :param spent: Credits that earlier generations of the item count for.
    :param possibly_billed_twice: An earlier POST of the same request was left without an answer.
    :param changed: The item was paid for with another request before.
    """

    spent: float = 0.0
    possibly_billed_twice: bool = False
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Reattach:
    """BFL has it: poll, land, pay nothing."""

    row: Row


@dataclass(frozen=True, slots=True)
class Verify:
    """It was landed: see that the object is there."""

    row: Row


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing can be done about it."""

    row: Row


Action = Submit | Reattach | Verify | Keep


def decide(row: Row | None, *, fingerprint: str, on_ambiguous_submit: OnAmbiguousSubmit) -> Action:
    """Return what an attempt does with an item, given the row that earlier attempts left."""
    if row is None:
        return Submit()
    if row.fingerprint != fingerprint:
        # What was in doubt stays counted: it may have been billed.
        return Submit(spent=row.spent, changed=row.id is not None or row.status in IN_DOUBT)
    if row.status == "stored":
        return Verify(row)
    if row.status in AT_BFL:
        return Reattach(row)
    if row.status in SETTLED:
        return Keep(row)
    if row.status in IN_DOUBT:
        if on_ambiguous_submit == "fail":
            return Keep(row)
        return Submit(spent=row.spent, possibly_billed_twice=True)
    # Refused, failed at BFL, or never sent. A mark that an earlier attempt made stays.
    return Submit(spent=row.spent, possibly_billed_twice=row.possibly_billed_twice)


def owner_of(identity: Mapping[str, Any]) -> Owner:
    """Return the owner that a task's identity names."""
    return Owner(**{name: identity[name] for name in _OWNER_FIELDS})
