# SPDX-License-Identifier: Apache-2.0
"""
How long the steps of an event loop take: what one callback holds the loop for, nobody else can use.

Wall time is what the others wait; processor time is what the callback itself is guilty of. On a machine that other
programs use too, only the second says something about the code.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Steps:
    """
    The longest steps so far, in milliseconds, less the collections of garbage that fell into them.

    A full collection in a process with Airflow in it takes a tenth of a second and meets whoever allocates next.

    :ivar cpu_ms: Processor time of the loop's thread in one callback.
    :ivar wall_ms: Time in one callback.
    :ivar collection_ms: Processor time of the longest collection of garbage in the loop's thread.
    :ivar culprit: The callback of ``cpu_ms``.
    :ivar count: How many callbacks ran.
    """

    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    collection_ms: float = 0.0
    culprit: str = ""
    count: int = 0


class _Garbage:
    """Clocks that stand still while garbage is collected in this thread."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._thread = threading.get_ident()
        self._cpu = self._wall = self._begun_cpu = self._begun_wall = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._begun_cpu, self._begun_wall = time.thread_time(), time.perf_counter()
            return
        took = time.thread_time() - self._begun_cpu
        self._cpu += took
        self._wall += time.perf_counter() - self._begun_wall
        self._steps.collection_ms = max(self._steps.collection_ms, 1000 * took)

    def cpu(self) -> float:
        """Processor seconds of this thread."""
        return time.thread_time() - self._cpu

    def wall(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._wall


@contextmanager
def watched() -> Iterator[Steps]:
    """Time every callback that an event loop of this thread runs meanwhile."""
    really = asyncio.Handle._run
    steps = Steps()
    clocks = _Garbage(steps)

    def run(handle: asyncio.Handle) -> None:
        cpu, wall = clocks.cpu(), clocks.wall()
        try:
            really(handle)
        finally:
            cpu, wall = 1000 * (clocks.cpu() - cpu), 1000 * (clocks.wall() - wall)
            steps.count += 1
            steps.wall_ms = max(steps.wall_ms, wall)
            if cpu > steps.cpu_ms:
                steps.cpu_ms, steps.culprit = cpu, repr(handle)

    asyncio.Handle._run = run  # type: ignore[method-assign, assignment]
    gc.callbacks.append(clocks)
    try:
        yield steps
    finally:
        asyncio.Handle._run = really  # type: ignore[method-assign]
        gc.callbacks.remove(clocks)
