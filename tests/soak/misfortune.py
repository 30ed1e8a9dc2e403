# SPDX-License-Identifier: Apache-2.0
"""What may go wrong at BFL, drawn at random: every fault is one that a retry, or the task itself, has to outlive."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

#: Longer than the soak's connection waits, so that the answer to a paid POST comes too late.
TOO_LATE_SECONDS = 12.0

#: Weight and fault. What kills a generation (an error at BFL) is only for tasks whose retry submits anew: in the form
#: of three tasks the sensor cannot.
_FAULTS: tuple[tuple[int, Mapping[str, Any]], ...] = (
    (2, {"on": "submit", "drop": True}),
    (2, {"on": "submit", "drop": True, "accept": True}),
    (1, {"on": "submit", "delay_seconds": TOO_LATE_SECONDS, "accept": True}),
    (2, {"on": "submit", "status": 500}),
    (1, {"on": "submit", "status": 502, "accept": True}),
    (1, {"on": "submit", "status": 502}),
    (2, {"on": "submit", "status": 503}),
    (1, {"on": "submit", "status": 504, "accept": True}),
    (1, {"on": "submit", "status": 200, "body": "not JSON", "accept": True}),
    (2, {"on": "submit", "status": 429, "times": 3}),
    (2, {"on": "task", "final_status": "Request Moderated"}),
    (2, {"on": "task", "final_status": "Content Moderated"}),
    (1, {"on": "task", "final_status": "Error", "prompt": "single"}),
    (2, {"on": "task", "final_status": "Error", "prompt": "mapped"}),
    (2, {"on": "task", "final_status": "Error", "prompt": "batch"}),
    (2, {"on": "task", "hidden_polls": 2}),
    (2, {"on": "task", "latency_seconds": 30.0}),
    (2, {"on": "poll", "drop": True, "times": 2}),
    (2, {"on": "poll", "status": 500, "body": "oops", "times": 4}),
    (2, {"on": "poll", "status": 502, "body": "oops", "times": 2}),
    (1, {"on": "poll", "status": 429, "body": {"detail": "slow down"}, "times": 2}),
    (1, {"on": "poll", "status_body": "Queued"}),
    (1, {"on": "poll", "delay_seconds": TOO_LATE_SECONDS}),
    (3, {"on": "delivery", "drop": True}),
    (3, {"on": "delivery", "status": 503}),
    (3, {"on": "delivery", "cut_after": 0.5}),
    (2, {"on": "delivery", "cut_after": 0.3, "framing": "close"}),
    (2, {"on": "delivery", "bytes_per_second": 20_000}),
    (2, {"on": "delivery", "expired": True}),
    (1, {"on": "delivery", "content_type": "text/html", "content": b"<html>no picture</html>"}),
)


def draw(dice: random.Random) -> dict[str, Any]:
    """Return one fault, at random, to meet one of the next few requests that it fits."""
    fault = dice.choices([fault for _, fault in _FAULTS], weights=[weight for weight, _ in _FAULTS])[0]
    return {**fault, "skip": dice.randrange(4)}


def described(fault: Mapping[str, Any]) -> str:
    """Return a fault's kind, without what varies: for counting."""
    return " ".join([str(fault["on"]), *(f"{name}={value}" for name, value in fault.items() if name not in _VARYING)])


_VARYING = frozenset({"on", "skip", "times", "prompt", "content", "body"})
