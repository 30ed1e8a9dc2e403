# SPDX-License-Identifier: Apache-2.0
"""
How many generations of a model may be in flight: as many as the account gives, and it says no with a 429.

Other workloads share the account. A 429 shrinks the window to what is in flight; a slot that the batch frees itself is
filled again at once. Beyond that it asks for one slot more every few seconds, because others give slots back too and
nobody tells: without asking, tasks that wait for a slot would take them one by one until the batch had none.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: Between two questions for one slot more, while the answer is 429; doubled each time.
_FIRST_PAUSE_SECONDS = 1.0
#: About what a slot stays free when its generation ends: seldom enough for BFL, often enough to get one now and then.
_MAX_PAUSE_SECONDS = 8.0


class Window:
    """
    The slots of one model.

    :param ceiling: The most there can be: the model's documented limit, or fewer where the user wants that.
    :param jitter: Returns a number in [0, 1); replaced by tests.
    """

    def __init__(self, ceiling: int, *, jitter: Callable[[], float] = random.random) -> None:
        self.ceiling = ceiling
        self.active = 0
        self.limit = ceiling
        self.refusals_in_a_row = 0
        self._not_before = 0.0
        self._ask_again_at = 0.0
        self._jitter = jitter

    def has_room(self, now: float) -> bool:
        """Whether another may be submitted at ``now``: within the limit, or the one that asks for a slot more."""
        return self.opens_in(now) == 0.0

    def opens_in(self, now: float) -> float | None:
        """Return the seconds until time alone makes room, or None where it does not."""
        if self.active >= self.ceiling or self.active > self.limit:
            return None
        opens_at = self._not_before if self.active < self.limit else max(self._not_before, self._ask_again_at)
        return max(0.0, opens_at - now)

    def accepted(self) -> None:
        """BFL took one, which is counted as active; after a slot more, the next is asked for at once."""
        self.refusals_in_a_row = 0
        self.limit = max(self.limit, self.active)

    def refused(self, now: float, retry_after: float | None) -> None:
        """
        BFL answered 429 to one that is still counted as active.

        :param retry_after: Seconds of the answer's ``Retry-After``, which are waited whatever else happens.
        """
        self.refusals_in_a_row += 1
        self.limit = min(self.limit, self.active - 1)
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self.refusals_in_a_row - 1), _MAX_PAUSE_SECONDS)
        self._ask_again_at = now + pause * (0.5 + self._jitter())
        self._not_before = max(self._not_before, now + (retry_after or 0.0))
