# SPDX-License-Identifier: Apache-2.0
"""
The life of one simulated generation, as pure functions of time.

A task never changes by itself: what it is at a moment is computed from the moment. That is what lets a test move the
clock by an hour instead of sleeping through it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

PENDING = "Pending"
REASONING = "Reasoning"
GENERATING = "Generating"
READY = "Ready"
NOT_FOUND = "Task not found"

#: flux-3 tasks report where they are; shares of the running time after which each stage begins.
_FLUX_3_STAGES = ((0.35, GENERATING), (0.1, REASONING), (0.0, PENDING))

_DEFAULT_DETAILS: Mapping[str, Mapping[str, object]] = {
    "Error": {"error": "The generation failed."},
    "Failed": {"error": "The generation failed."},
    "Request Moderated": {"Moderation Reasons": ["Content Policy Violation"]},
    "Content Moderated": {"Moderation Reasons": ["Safety Filter"]},
}


@dataclass(frozen=True)
class Quote:
    """
    What a request costs.

    :param cost: Credits debited when the task is accepted.
    :param input_mp: Megapixels (1,048,576 px) of the references, as echoed to the client.
    :param output_mp: Megapixels of the result, as echoed to the client.
    :param echoed: The submit answer names the figures (FLUX.2 and the tools); otherwise they are null there.
    :param settled: The cost is named by the poll of a finished task instead (FLUX 3 video).
    """

    cost: float
    input_mp: float = 0.0
    output_mp: float = 1.0
    echoed: bool = False
    settled: bool = False


@dataclass(frozen=True)
class Artwork:
    """What has to be drawn for a task: everything the bytes of its result depend on."""

    prompt: str
    seed: int
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Outcome:
    """
    How a task ends.

    :param status: The terminal status, which may be one BFL never documented.
    :param details: The ``details`` object of the poll body; None picks what BFL sends with that status.
    """

    status: str = READY
    details: Mapping[str, object] | None = None

    @property
    def shown_details(self) -> Mapping[str, object] | None:
        return self.details if self.details is not None else _DEFAULT_DETAILS.get(self.status)


@dataclass(frozen=True)
class Task:
    """
    One accepted generation.

    :param id: The task id (UUID).
    :param model: The endpoint it was sent to.
    :param account: Fingerprint of the key that pays for it.
    :param region: The cluster that runs and stores it: the only one whose polling host knows it.
    :param artwork: What its result shows.
    :param quote: What it costs.
    :param submitted_at: Unix seconds on the simulator's clock.
    :param latency_seconds: How long it runs; ``inf`` is a task that never ends.
    :param outcome: How it ends.
    :param prompt_shown: The prompt as the result reports it, which FLUX.2 rewrites.
    """

    id: str
    model: str
    account: str
    region: str
    artwork: Artwork
    quote: Quote
    submitted_at: float
    latency_seconds: float
    outcome: Outcome = field(default_factory=Outcome)
    prompt_shown: str = ""

    @property
    def finishes_at(self) -> float:
        return self.submitted_at + self.latency_seconds

    @property
    def refunded(self) -> bool:
        """Whether the outcome gives the credits back: BFL bills a result, and nothing else."""
        return self.outcome.status != READY

    def finished(self, now: float) -> bool:
        return now >= self.finishes_at

    def status(self, now: float) -> str:
        if self.finished(now):
            return self.outcome.status
        if not self.model.startswith("flux-3-"):
            return PENDING
        share = self._share(now)
        return next(stage for begins, stage in _FLUX_3_STAGES if share >= begins)

    def progress(self, now: float) -> float | None:
        """
        Progress as that model reports it.

        flux-dev counts 0.1 to 1.0 and then falls back to null while still pending; flux-3 gives a fraction; the
        other models say nothing.
        """
        if self.finished(now):
            return None
        share = self._share(now)
        if self.model == "flux-dev":
            tick = math.floor(share * 12)
            return tick / 10 if 1 <= tick <= 10 else None
        if self.model.startswith("flux-3-") and share >= _FLUX_3_STAGES[0][0]:
            return round(share, 2)
        return None

    def _share(self, now: float) -> float:
        if math.isinf(self.latency_seconds) or self.latency_seconds <= 0:
            return 0.0
        return max(0.0, (now - self.submitted_at) / self.latency_seconds)

    def result(self, sample: str) -> dict[str, object]:
        """
        Build the ``result`` object of a ready task.

        :param sample: The signed URL of the result.
        """
        shown: dict[str, object] = {"sample": sample, "prompt": self.prompt_shown}
        if self.model.startswith("flux-3-"):
            return shown | {"duration": round(self.latency_seconds, 3)}
        shown = {"start_time": self.submitted_at} | shown | {"seed": self.artwork.seed}
        if self.model.startswith("flux-2-"):
            return shown
        return shown | {"end_time": self.finishes_at, "duration": self.latency_seconds}

    def poll_body(self, now: float, sample: str) -> dict[str, object]:
        """
        Build the body of ``get_result`` at a moment.

        :param now: Unix seconds on the simulator's clock.
        :param sample: The signed URL to show when the task is ready.
        """
        finished = self.finished(now)
        ready = finished and self.outcome.status == READY
        body = task_body(self.id, self.status(now))
        body["result"] = self.result(sample) if ready else None
        body["progress"] = self.progress(now)
        body["details"] = self.outcome.shown_details if finished and not ready else None
        if finished and self.quote.settled:
            body["cost"] = self.quote.cost if ready else 0.0
        return body


def task_body(task_id: str, status: str) -> dict[str, object]:
    """Build a poll body that says nothing but the status."""
    return {
        "id": task_id,
        "status": status,
        "result": None,
        "progress": None,
        "details": None,
        "preview": None,
    }


def jittered(seconds: float, *, jitter: float, task_id: str) -> float:
    """
    Spread a latency around its typical value, the same way each time for the same task.

    :param seconds: The typical latency.
    :param jitter: Largest relative deviation: 0.1 gives 90 % to 110 %.
    :param task_id: The task, which seeds the deviation.
    """
    return seconds * (1 + jitter * random.Random(task_id).uniform(-1, 1))
