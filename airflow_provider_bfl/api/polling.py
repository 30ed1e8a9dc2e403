# SPDX-License-Identifier: Apache-2.0
"""
When to poll next and what a reply means: one pure object for sync and async waits.

A wait loop feeds it replies and does what the verdict says; it neither sleeps nor sends. All times are wall-clock
seconds since the epoch, because a wait may move to another process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_bfl.api.messages import Phase, PollFailure, PollResult

#: Five in a row end a wait: enough to ride out a deployment on BFL's side, few enough not to hide a dead key.
MAX_CONSECUTIVE_FAILURES = 5

#: A cluster may not know a task at once. Both must pass before "Task not found" is believed.
NOT_FOUND_GRACE_SECONDS = 30.0
NOT_FOUND_MIN_ANSWERS = 3

MIN_INTERVAL_SECONDS = 0.5
MAX_INTERVAL_SECONDS = 5.0

#: The first poll comes a little before the model's typical time, later ones at this share of the elapsed time, so
#: the lag stays a small, constant share of what the generation took.
FIRST_POLL_SHARE = 0.8
INTERVAL_SHARE = 0.1
_JITTER_SHARE = 0.1
_MAX_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True)
class Wait:
    """Sleep ``seconds``, then poll again. ``warning`` is a sentence to log once, or None."""

    seconds: float
    warning: str | None = None


@dataclass(frozen=True)
class Finished:
    """The wait is over; the result may be good or bad."""

    result: PollResult


@dataclass(frozen=True)
class TimedOut:
    """The deadline passed and the last answer was not final."""

    last_status: str


@dataclass(frozen=True)
class Unreachable:
    """Too many polls in a row failed; ``failure`` is the last."""

    failure: PollFailure


#: While the account is full: soon at first, because a task ends every few seconds, then patiently.
_MIN_QUEUE_SECONDS = 2.0
_MAX_QUEUE_SECONDS = 30.0

Verdict = Wait | Finished | TimedOut | Unreachable


class Poller:
    """
    The state of one wait.

    :param deadline: When the wait ends; one poll is always made at or after it, so a result that is ready is found
        even when nobody polled in time.
    :param typical_seconds: How long the model usually takes.
    :param submitted_at: When the generation was submitted, or None when unknown (the first poll then stands for it).
    :param poll_interval: Fixed seconds between polls, or None to adapt to the model.
    :param jitter: Returns a number in [0, 1); replaced by tests.
    """

    def __init__(
        self,
        *,
        deadline: float,
        typical_seconds: float,
        submitted_at: float | None = None,
        poll_interval: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._deadline = deadline
        self._typical_seconds = typical_seconds
        self._submitted_at = submitted_at
        self._poll_interval = poll_interval
        self._jitter = jitter
        self._failures = 0
        self._not_found = 0
        self._last_status = "never answered"
        self._warned: set[str] = set()

    def first_delay(self, now: float) -> float:
        """Return the seconds until the first poll: none for a generation that may already be ready."""
        if self._submitted_at is None:
            self._submitted_at = now
            return 0.0
        first = self._poll_interval if self._poll_interval is not None else FIRST_POLL_SHARE * self._typical_seconds
        return min(max(0.0, self._submitted_at + first - now), self._until_deadline(now))

    def judge(self, reply: PollResult | PollFailure, now: float) -> Verdict:
        """Return what ``reply``, received at ``now``, means for the wait."""
        if isinstance(reply, PollFailure):
            return self._judge_failure(reply, now)
        self._failures = 0
        if reply.is_final:
            return Finished(reply)
        if reply.phase is Phase.NOT_FOUND:
            self._not_found += 1
            if self._not_found >= NOT_FOUND_MIN_ANSWERS and self._elapsed(now) >= NOT_FOUND_GRACE_SECONDS:
                return Finished(reply)
        else:
            self._not_found = 0
        self._last_status = reply.status
        warning = None
        if reply.phase is Phase.UNKNOWN and reply.status not in self._warned:
            self._warned.add(reply.status)
            warning = f"BFL answered a status this version does not know, {reply.status!r}; polling goes on."
        return self._wait(self._interval(now), now, warning)

    def _judge_failure(self, failure: PollFailure, now: float) -> Verdict:
        self._failures += 1
        if self._failures >= MAX_CONSECUTIVE_FAILURES:
            return Unreachable(failure)
        backoff = min(MIN_INTERVAL_SECONDS * 2**self._failures, _MAX_BACKOFF_SECONDS)
        seconds = max(backoff, min(failure.retry_after or 0.0, _MAX_BACKOFF_SECONDS))
        return self._wait(self._jittered(seconds), now, None)

    def _wait(self, seconds: float, now: float, warning: str | None) -> Verdict:
        if now >= self._deadline:
            return TimedOut(self._last_status)
        return Wait(min(seconds, self._until_deadline(now)), warning)

    def _interval(self, now: float) -> float:
        if self._poll_interval is not None:
            return self._poll_interval
        # Capped before the jitter, so that long waits do not fall into step with each other.
        share = min(INTERVAL_SHARE * self._elapsed(now), MAX_INTERVAL_SECONDS / (1 + _JITTER_SHARE))
        return max(self._jittered(share), MIN_INTERVAL_SECONDS)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - _JITTER_SHARE + 2 * _JITTER_SHARE * self._jitter())

    def _elapsed(self, now: float) -> float:
        return now - (now if self._submitted_at is None else self._submitted_at)

    def _until_deadline(self, now: float) -> float:
        return max(0.0, self._deadline - now)


def queue_delay(
    queued_seconds: float, retry_after: float | None, *, jitter: Callable[[], float] = random.random
) -> float:
    """
    Return the seconds to wait after a 429 before the next POST.

    Half of what was already waited, between two and thirty seconds, with jitter so that many tasks refused together
    do not come back together; never sooner than the server asked.

    :param queued_seconds: Time since the first 429 of this request.
    :param retry_after: Seconds of the answer's ``Retry-After``, or None.
    """
    patience = min(max(queued_seconds / 2, _MIN_QUEUE_SECONDS), _MAX_QUEUE_SECONDS)
    return max(patience * (0.5 + jitter()), retry_after or 0.0)
