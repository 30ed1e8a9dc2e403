# SPDX-License-Identifier: Apache-2.0
"""
One paid POST, in two phases: the intent is written before it, the outcome right after it.

So a later attempt always knows which it was: never sent, refused, accepted, or sent with the answer lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.durable.journal import Journal
from airflow_provider_bfl.durable.record import Record
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflError,
    BflJournalError,
    BflRateLimitedError,
    BflRefusedError,
)

log = logging.getLogger(__name__)

#: Repeats of a POST that BFL cannot have accepted, inside one attempt; seconds before each.
REPEAT_DELAYS = (1.0, 3.0)

#: Tries to write the outcome of a paid POST; the metadata database may be away for a moment.
_SAVE_DELAYS = (0.0, 1.0, 3.0, 5.0)


def submit_durably(
    journal: Journal,
    intent: Record,
    post: Callable[[], Submission],
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Record:
    """
    Write the intent, POST, write the outcome; return the ``submitted`` record.

    :param intent: The record to write before the POST.
    :param post: Sends the POST, once.
    :param timeout: Seconds the generation will be waited for; sets the record's deadline.
    :raises BflJournalError: the intent could not be written, so nothing was sent.
    :raises BflRateLimitedError: 429; the record says ``refused`` and since when the request queues.
    :raises BflAmbiguousSubmitError: the answer was lost; the record stays at ``intent``.
    :raises BflError: BFL refused; the record says so.
    """
    for delay in (*REPEAT_DELAYS, None):
        _save_intent(journal, intent)
        try:
            submission = post()
        except BflAmbiguousSubmitError:
            raise
        except BflError as error:
            save_best_effort(journal, _refusal(intent, error))
            if delay is None or not _may_repeat(error):
                raise
            log.warning("%s Trying again in %g s.", error, delay)
            sleep(delay)
            continue
        record = intent.submitted(submission, now=time.time(), timeout=timeout)
        _save_submitted(journal, record, sleep)
        return record
    raise AssertionError("the last repeat returns or raises")


def save_best_effort(journal: Journal, record: Record) -> bool:
    """
    Write a record whose loss costs nothing but a warning: the older one stays and is the more careful.

    :return: Whether it was written.
    """
    try:
        journal.save(record)
    except BflJournalError as error:
        log.warning("%s The older record stays.", error)
        return False
    return True


def _may_repeat(error: BflError) -> bool:
    return isinstance(error, BflRefusedError) and error.repeatable and not isinstance(error, BflRateLimitedError)


def _refusal(intent: Record, error: BflError) -> Record:
    if isinstance(error, BflRateLimitedError):
        return intent.refused(queued_since=intent.queued_since or time.time())
    return intent.refused()


def _save_intent(journal: Journal, intent: Record) -> None:
    try:
        journal.save(intent)
    except BflJournalError as error:
        raise BflJournalError(f"{error} Without it nothing is submitted; a retry tries again.") from error


def _save_submitted(journal: Journal, record: Record, sleep: Callable[[float], None]) -> None:
    # Never an error: the generation is paid, so the task goes on with it while it lives.
    for delay in _SAVE_DELAYS:
        sleep(delay)
        try:
            journal.save(record)
        except BflJournalError as error:
            failure = error
        else:
            return
    log.error(
        "Generation %s is submitted and billed, but %s If this attempt dies, a later one cannot know its id.",
        record.id,
        failure,
    )
