# SPDX-License-Identifier: Apache-2.0
"""The memory of one batch, small and large."""

from __future__ import annotations

import resource
from functools import partial

from benchmarks import batch_slots, processes
from benchmarks.results import Finding

TITLE = "Batch: memory"


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the peak of the resident set for a small and a large batch, and their difference."""
    few, many = (5, 30) if tiny else (100, 5000)
    with processes.simulator() as bfl:
        # Memory does not depend on how long generations take.
        bfl.client.settings(overall_limit=24, latency_scale=0.01)

        def run(count: int) -> processes.Numbers:
            return processes.measured("benchmarks.batch_memory", {"count": count}, bfl.env)

        told = processes.in_turns({"few": partial(run, few), "many": partial(run, many)}, runs)
    small, large = (processes.median(told[name], "peak_mb") for name in ("few", "many"))
    return [
        Finding(f"Peak memory of a batch of {many:,}", large, "MB", small, f"a batch of {few:,}", runs=runs),
        Finding(
            f"Growth from {few:,} to {many:,} requests", large - small, "MB", goal=20.0, judged="value", runs=runs,
            note=f"{many / processes.median(told['many'], 'wall'):.0f} generations a second, landed in files",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    told = batch_slots.run_batch(processes.arguments()["count"])
    processes.tell({**told, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6})
