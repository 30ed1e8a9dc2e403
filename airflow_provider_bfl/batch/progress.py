# SPDX-License-Identifier: Apache-2.0
"""One line now and then that tells how far a batch is."""

from __future__ import annotations

#: A line after so many seconds, or after so much of the batch, whichever comes first; and never a flood.
_EVERY_SECONDS = 10.0
_EVERY_SHARE = 0.05
_AT_MOST_EVERY_SECONDS = 1.0
#: A batch that gets no further says so, too.
_STANDING_STILL_SECONDS = 60.0


class Progress:
    """
    Decides when there is something to say, and says it.

    :param total: Items of the batch.
    :param done: Items that were done before this attempt, which say nothing about its rate.
    :param now: Seconds of any steady clock.
    """

    def __init__(self, total: int, *, done: int, now: float) -> None:
        self._total = total
        self._done_before = done
        self._began = now
        self._said_at = now
        self._said_done = done

    def line(self, now: float, *, done: int, in_flight: int, without_result: int, spent: float) -> str | None:
        """Return the line to log, or None when it is not time for one."""
        waited, gained = now - self._said_at, done - self._said_done
        due = waited >= _EVERY_SECONDS or (gained >= _EVERY_SHARE * self._total and waited >= _AT_MOST_EVERY_SECONDS)
        if not due or not (gained or waited >= _STANDING_STILL_SECONDS):
            return None
        self._said_at, self._said_done = now, done
        rate = (done - self._done_before) / max(now - self._began, 0.001)
        to_go = f"about {_duration((self._total - done) / rate)} to go" if rate else "no end in sight yet"
        return (
            f"{done}/{self._total} done ({100 * done // self._total} %), {in_flight} in flight, {without_result} "
            f"without a result, {spent:g} credits, {60 * rate:.1f} per minute, {to_go}"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
