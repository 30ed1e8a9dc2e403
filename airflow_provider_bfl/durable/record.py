# SPDX-License-Identifier: Apache-2.0
"""
The record of one task instance's generation, and what a later attempt does with it.

Pure: where records are kept is :mod:`airflow_provider_bfl.durable.journal`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.arguments import OnAmbiguousSubmit, OnStaleState
from airflow_provider_bfl.exceptions import BflJournalError, BflStaleStateError, BflUnresolvedSubmitError

State = Literal["intent", "refused", "submitted", "stored"]

#: Raised when the shape of a record changes so that an older reader would misunderstand it.
RECORD_VERSION = 1


@dataclass(frozen=True)
class Record:
    """
    What is known about the generation of one task instance.

    ``state`` is ``intent`` before the POST, ``refused`` when BFL certainly did not accept it, ``submitted`` once BFL
    accepted, ``stored`` once the result has landed. ``refused`` keeps what a later POST must remember.
    ``epoch`` tells apart the attempts between two clears of the task: a retry has the epoch of its record, a clear
    begins a new one. ``queued_since`` (of the first 429), ``submitted_at`` and ``deadline`` (of the wait) are
    wall-clock seconds; ``queue_seconds`` is how long the account was full before BFL accepted; ``result`` is the landed
    result; ``request`` is kept where it cannot be had again from the task's arguments.
    """

    state: State
    fingerprint: str
    model: str
    region: str
    bfl_conn_id: str
    epoch: int
    id: str | None = None
    polling_url: str | None = None
    cost: float | None = None
    input_mp: float | None = None
    output_mp: float | None = None
    queued_since: float | None = None
    submitted_at: float | None = None
    deadline: float | None = None
    possibly_billed_twice: bool = False
    reattached: bool = False
    queue_seconds: float = 0.0
    result: Mapping[str, Any] | None = None
    request: Mapping[str, Any] | None = None
    version: int = RECORD_VERSION

    def refused(self, *, queued_since: float | None = None) -> Record:
        """Return the record after a POST that BFL certainly did not accept."""
        return replace(self, state="refused", queued_since=queued_since)

    def submitted(self, submission: Submission, *, now: float, timeout: float) -> Record:
        """Return the record after BFL accepted the generation at ``now``, to be waited for ``timeout`` seconds."""
        return replace(
            self,
            state="submitted",
            queued_since=None,
            queue_seconds=0.0 if self.queued_since is None else max(0.0, now - self.queued_since),
            submitted_at=now,
            deadline=now + timeout,
            id=submission.id,
            polling_url=submission.polling_url,
            cost=submission.cost,
            input_mp=submission.input_mp,
            output_mp=submission.output_mp,
        )

    def reattached_until(self, deadline: float) -> Record:
        """Return the record for an attempt that goes on with it, with the deadline of its own wait."""
        return replace(self, reattached=True, deadline=deadline)

    def stored(self, result: Mapping[str, Any]) -> Record:
        """Return the record after the result has landed."""
        return replace(self, state="stored", result=dict(result))

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Record:
        """
        Read a record back.

        :raises BflJournalError: it is not one, or a later version of this provider wrote it. Reading it as "no
            record" would pay again, so nothing is submitted.
        """
        if not isinstance(value, dict) or value.get("version") != RECORD_VERSION:
            version = value.get("version") if isinstance(value, dict) else None
            raise BflJournalError(
                f"The record of this task instance cannot be read (version {version!r}, this provider writes "
                f"{RECORD_VERSION}). Nothing was submitted; upgrade the provider, or set force_new to pay anew."
            )
        known = {field.name for field in fields(cls)}
        try:
            record = cls(**{name: item for name, item in value.items() if name in known})
        except TypeError as error:
            raise BflJournalError(
                f"The record of this task instance is damaged ({error}). Nothing was submitted."
            ) from None
        if not _is_whole(record):
            raise BflJournalError("The record of this task instance is damaged. Nothing was submitted.")
        return record


def _is_whole(record: Any) -> bool:
    # Any, because what was read back need not have the types that are declared.
    texts = (record.fingerprint, record.model, record.region, record.bfl_conn_id)
    numbers = (record.cost, record.input_mp, record.output_mp)
    times = (record.queued_since, record.submitted_at, record.deadline, record.queue_seconds)
    return (
        record.state in get_args(State)
        and isinstance(record.epoch, int)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int | float | None) for number in (*numbers, *times))
        and (record.state in ("intent", "refused") or (isinstance(record.id, str) and bool(record.id)))
        and isinstance(record.polling_url, str | None)
        and isinstance(record.result, Mapping | None)
        and isinstance(record.request, Mapping | None)
    )


@dataclass(frozen=True)
class Submit:
    """Submit a new generation. ``warning`` says why, where that is not plain."""

    possibly_billed_twice: bool = False
    queued_since: float | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Reattach:
    """Go on with the generation of ``record``: nothing is submitted."""

    record: Record


@dataclass(frozen=True)
class Policies:
    """What the user wants where the record alone does not decide."""

    on_ambiguous_submit: OnAmbiguousSubmit = "resubmit"
    on_stale_state: OnStaleState = "resubmit"
    force_new: bool = False


def decide(record: Record | None, *, fingerprint: str, epoch: int, policies: Policies) -> Submit | Reattach:
    """
    Return what an attempt does, given the record it found.

    :raises BflUnresolvedSubmitError: an earlier POST may have been accepted and ``on_ambiguous_submit="fail"``.
    :raises BflStaleStateError: the record is another request's and ``on_stale_state="fail"``.
    """
    if record is None:
        return Submit()
    if policies.force_new and record.epoch != epoch:
        return Submit()
    if record.state == "refused":
        return Submit(possibly_billed_twice=record.possibly_billed_twice, queued_since=record.queued_since)
    if record.state == "intent":
        return _decide_ambiguous(record, policies)
    if record.fingerprint == fingerprint:
        return Reattach(record)
    if policies.on_stale_state == "fail":
        raise BflStaleStateError(
            f"Generation {record.id} ({record.model}) of this task instance was submitted and billed for another "
            "request: model, prompt, parameters, input media, connection or region have changed since. Nothing was "
            "submitted. Restore the request to re-attach, or set force_new to generate (and pay) anew.",
            generation_id=record.id,
            model=record.model,
        )
    return Submit(
        warning=f"The request has changed since generation {record.id} ({record.model}) was submitted and billed; "
        "that one is abandoned and a new one is submitted (on_stale_state='resubmit')."
    )


def _decide_ambiguous(record: Record, policies: Policies) -> Submit:
    story = (
        f"An earlier attempt sent a POST to {record.model} and never learnt its answer: BFL may have accepted and "
        "billed it."
    )
    if policies.on_ambiguous_submit == "fail":
        raise BflUnresolvedSubmitError(
            f"{story} Nothing was submitted now (on_ambiguous_submit='fail'). Look at BFL's dashboard, then clear the "
            "task with force_new=True to generate anew.",
            model=record.model,
        )
    return Submit(
        possibly_billed_twice=True,
        warning=f"{story} It is submitted again (on_ambiguous_submit='resubmit') and marked possibly_billed_twice.",
    )


def fingerprint(*, model: str, request: Mapping[str, Any], bfl_conn_id: str, region: str) -> str:
    """
    Return what decides the picture and who pays, as one hash.

    :param request: The rendered request without secrets, media given as their digests.
    """
    material = {
        "model": model,
        "request": dict(request),
        "bfl_conn_id": bfl_conn_id,
        "region": region,
    }
    canonical = json.dumps(material, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
