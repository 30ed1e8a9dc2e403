# SPDX-License-Identifier: Apache-2.0
"""The longest time one step of a trigger holds the event loop, with a thousand of them from start to end."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import loop_steps, processes, waits
from benchmarks.results import Finding

TITLE = "Trigger: longest block of the event loop"

_BEAT_SECONDS = 0.02

_NAMES = {"bare": "bare aiohttp GET loop", "http_trigger": "HttpTrigger", "threads": "blocking client in threads"}


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the longest step, by processor time and by the clock, and the worst delay of another coroutine."""
    live, seconds = (20, 2.0) if tiny else (1000, 20.0)

    def run(variant: str) -> processes.Numbers:
        # Made anew for each: a generation that has ended is polled once.
        with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
            json.dump(bfl.submit(live, "flux-2-pro", latency_seconds=seconds), file)
            file.flush()
            arguments = {"variant": variant, "generations": file.name, "interval": seconds / 5}
            return processes.measured("benchmarks.trigger_block", arguments, bfl.env)

    with processes.simulator() as bfl:
        told = processes.in_turns({name: partial(run, name) for name in ("trigger", *_NAMES)}, runs)

    def finding(what: str, number: str, other: str, **more: Any) -> Finding:
        own, baseline = processes.median(told["trigger"], number), processes.median(told[other], number)
        return Finding(what, own, "ms", baseline, _NAMES[other], judged="value", runs=runs, **more)

    step = f"Longest step of the event loop, {live:,} live triggers"
    collection = max(each["collection_ms"] for numbers in told.values() for each in numbers)
    note = (
        "from the first import to the last event, less collections of garbage, which took up to "
        f"{collection:.0f} ms and fall into whatever step allocates next"
    )
    return [
        finding(f"{step}, processor time", "cpu_ms", "bare", goal=50.0, note=note),
        finding(f"{step}, by the clock", "wall_ms", "bare"),
        *(finding("Longest delay of another coroutine", "delay_ms", name) for name in _NAMES),
    ]


async def _poll(generations: list[dict[str, Any]], arguments: dict[str, Any]) -> processes.Numbers:
    wait, delays = waits.WAITS[arguments["variant"]], [0.0]

    async def beat() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_BEAT_SECONDS)
            delays.append(time.perf_counter() - begun - _BEAT_SECONDS)

    heart = asyncio.create_task(beat())
    tasks: list[asyncio.Task[None]] = []
    for generation in generations:
        # As Airflow's triggerer starts what it finds in the database: one after the other, with a look around.
        tasks.append(asyncio.create_task(wait(generation, arguments["interval"])))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    heart.cancel()
    await waits.close()
    return {"delay_ms": 1000 * max(delays)}


if __name__ == "__main__":
    import airflow.triggers.base  # noqa: F401 - a triggerer has it before it has a trigger

    given = processes.arguments()
    generations = json.loads(Path(given["generations"]).read_text())
    with loop_steps.watched() as steps:
        numbers = asyncio.run(_poll(generations, given))
    print(steps)
    processes.tell({**numbers, **{name: getattr(steps, name) for name in ("cpu_ms", "wall_ms", "collection_ms")}})
