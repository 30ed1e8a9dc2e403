# SPDX-License-Identifier: Apache-2.0
"""What came of a batch, and whether its task fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from airflow_provider_bfl.batch.rows import AT_BFL, IN_DOUBT, Row
from airflow_provider_bfl.exceptions import BflBatchFailedError, BflBatchIncompleteError, BflError

FailOn = Literal["any", "all", "none"]
OnModeratedItem = Literal["record", "skip", "fail"]

#: Ended without a result. ``doubtful`` is an answer that was lost under ``on_ambiguous_submit="fail"``, ``gone`` a
#: result that BFL no longer has or whose name is taken.
ENDED = ("moderated", "rejected", "failed", "doubtful", "gone")

#: A later attempt goes on with these.
UNFINISHED = ("in_flight", "unstored", "ambiguous", "unsubmitted")

#: Every count of the result, so that none is missing where it is 0.
COUNTS = ("stored", *ENDED, *UNFINISHED)


#: Errors of results that no later attempt will have.
_GONE = frozenset({"BflResultExpiredError", "BflObjectExistsError", "BflResultTooLargeError", "BflTaskNotFoundError"})
_DOUBTFUL = "BflUnresolvedSubmitError"

_CATEGORIES: Mapping[str, str] = {
    "submitted": "in_flight",
    "intent": "ambiguous",
    "refused": "unsubmitted",
}


@dataclass(frozen=True)
class Policies:
    """
    When the task fails.

    :param fail_on: ``any`` item without a result, ``all`` of them, ``none``, or more than this share of them.
    :param on_moderated: ``record``: a moderated item is one without a result; ``skip``: it does not count;
        ``fail``: one is enough.
    """

    fail_on: FailOn | float
    on_moderated: OnModeratedItem


def category(row: Row) -> str:
    """Return the count an item belongs to."""
    if row.status in AT_BFL and row.error_type in _GONE:
        return "gone"
    if row.status in IN_DOUBT and row.error_type == _DOUBTFUL:
        return "doubtful"
    return _CATEGORIES.get(row.status, row.status)


def judge(counts: Mapping[str, int], policies: Policies, *, manifest_uri: str) -> BflError | None:
    """
    Return the error of a batch that was gone through, or None where the task succeeds.

    Work that a retry can finish always fails the task; ``fail_on`` is about items that ended without a result.
    """
    total = sum(counts.values())
    told = f"{described(counts)}. Every item is a row of {manifest_uri}."
    unfinished = sum(counts[name] for name in UNFINISHED)
    if unfinished:
        return BflBatchIncompleteError(
            f"{unfinished} of {total} items are not done: {told} What is landed stays; a retry re-attaches to what is "
            "in flight, lands what is generated, and submits only what never was."
        )
    if policies.on_moderated == "fail" and counts["moderated"]:
        return BflBatchFailedError(
            f"{counts['moderated']} of {total} items were moderated and on_moderated='fail': {told} BFL does not "
            "charge for them; change their prompts and clear the task."
        )
    bad = sum(counts[name] for name in ENDED)
    if policies.on_moderated == "skip":
        bad, total = bad - counts["moderated"], total - counts["moderated"]
    if not bad or not _too_many(bad, total, policies.fail_on):
        return None
    message = (
        f"{bad} of {total} items ended without a result (fail_on={policies.fail_on!r}): {told} What is landed stays "
        "and is not paid again."
    )
    # BFL's own failures may pass; everything else would end the same way.
    return BflBatchIncompleteError(message) if counts["failed"] else BflBatchFailedError(message)


def described(counts: Mapping[str, int]) -> str:
    """Return the counts that are not 0, in words."""
    return ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in COUNTS if counts[name]) or "no items"


def _too_many(bad: int, total: int, fail_on: FailOn | float) -> bool:
    if fail_on == "none":
        return False
    if fail_on == "any":
        return True
    if fail_on == "all":
        return bad == total
    return bad > fail_on * total
