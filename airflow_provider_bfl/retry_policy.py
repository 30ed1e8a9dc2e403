# SPDX-License-Identifier: Apache-2.0
"""A retry policy that knows what each error of this provider needs (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_bfl import exceptions as bfl
from airflow_provider_bfl.exceptions import BflConfigError

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

#: The signed URL lives ten minutes and the result is paid for: back to it at once.
_AT_ONCE = timedelta(seconds=10)
_SOON = timedelta(minutes=1)
#: Whoever waited an hour for a free slot does not help the queue by coming back in seconds.
_LATER = timedelta(minutes=5)


def bfl_retry_policy() -> ExceptionRetryPolicy:
    """
    Return a policy for an operator's ``retry_policy`` that spaces retries by what the error means.

    A retry that only fetches a paid result again comes soon, one that needs BFL or the account to recover comes later.
    Every other exception follows the task's own ``retry_delay``. How often is still the task's ``retries``. What no
    retry cures is not listed: Airflow fails it at once, before it asks a policy.

    :raises BflConfigError: this Airflow has no retry policies.
    """
    try:
        from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError:
        raise BflConfigError("bfl_retry_policy() needs Airflow 3.3 or later; use retries and retry_delay.") from None

    def retry(*errors: type[Exception], delay: timedelta, reason: str) -> RetryRule:
        return RetryRule(exception=list(errors), action=RetryAction.RETRY, retry_delay=delay, reason=reason)

    return ExceptionRetryPolicy(
        rules=[
            retry(
                bfl.BflDownloadError,
                bfl.BflStorageError,
                bfl.BflResultExpiredError,
                bfl.BflPollError,
                bfl.BflTimeoutError,
                delay=_AT_ONCE,
                reason="the generation is paid for; a retry re-attaches to it",
            ),
            retry(
                bfl.BflServiceError,
                bfl.BflJournalError,
                bfl.BflTaskNotFoundError,
                bfl.BflGenerationFailedError,
                bfl.BflAmbiguousSubmitError,
                bfl.BflBatchIncompleteError,
                delay=_SOON,
                reason="BFL, the journal or the network needs a moment",
            ),
            retry(bfl.BflRateLimitedError, delay=_LATER, reason="the account is full; a retry queues again"),
        ]
    )
