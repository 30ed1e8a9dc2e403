# SPDX-License-Identifier: Apache-2.0
"""
When to poll a generation of a batch, learnt from those that ended before it.

A slot is refilled when its generation is seen to have ended, so every second a poll comes late is a second the slot
stands empty. A batch makes many generations of one kind: soon their usual time is known, and polls come closely spaced
just around it.
"""

from __future__ import annotations

from collections import deque

from airflow_provider_bfl.api.polling import (
    FIRST_POLL_SHARE,
    INTERVAL_SHARE,
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
)

#: Enough for a tail, few enough that a change of BFL's load is soon learnt.
_MEMORY = 64
_ENOUGH = 4


class Pace:
    """
    The polls of one model's generations.

    :param typical_seconds: The catalogue's figure, until this batch has its own.
    :param poll_interval: Fixed seconds between polls, or None to learn.
    """

    def __init__(self, typical_seconds: float, *, poll_interval: float | None = None) -> None:
        self._typical_seconds = typical_seconds
        self._poll_interval = poll_interval
        self._seen: deque[float] = deque(maxlen=_MEMORY)

    def ended(self, seconds: float) -> None:
        """A generation was seen to end so long after its submit."""
        self._seen.append(seconds)

    @property
    def learnt(self) -> tuple[float, float] | None:
        """Seconds between which most generations end, or None before enough have ended."""
        if len(self._seen) < _ENOUGH:
            return None
        ordered = sorted(self._seen)
        # Seen means polled, which may be one interval late.
        return max(0.0, ordered[len(ordered) // 20] - MIN_INTERVAL_SECONDS), ordered[-1 - len(ordered) // 20]

    def first_delay(self, elapsed: float) -> float:
        """Return the seconds to the first poll of a generation submitted ``elapsed`` seconds ago."""
        if self._poll_interval is not None:
            return max(0.0, self._poll_interval - elapsed)
        learnt = self.learnt
        first = FIRST_POLL_SHARE * self._typical_seconds if learnt is None else learnt[0]
        return max(0.0, first - elapsed)

    def next_delay(self, elapsed: float) -> float:
        """Return the seconds from a poll that found it running to the next."""
        if self._poll_interval is not None:
            return self._poll_interval
        learnt = self.learnt
        if learnt is None:
            return _clamped(INTERVAL_SHARE * elapsed)
        if elapsed < learnt[0]:
            return max(MIN_INTERVAL_SECONDS, min(learnt[0] - elapsed, MAX_INTERVAL_SECONDS))
        # Past the usual time it is a straggler, which is worth fewer polls the longer it takes.
        return MIN_INTERVAL_SECONDS if elapsed <= learnt[1] else _clamped(INTERVAL_SHARE * (elapsed - learnt[1]))


def _clamped(seconds: float) -> float:
    return min(max(seconds, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)
