# SPDX-License-Identifier: Apache-2.0
"""The processor time of one poll with a thousand live triggers, against a bare aiohttp loop and other triggers."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes, waits
from benchmarks.results import Finding

TITLE = "Trigger: processor time per poll"

_NAMES = {
    "bare": "bare aiohttp GET loop",
    "http_trigger": "HttpTrigger",
    "threads": "blocking client in threads",
}


#: By then a wait has its connection, and everything is imported.
_WARM_POLLS = 2


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the processor time per poll of this trigger and of each of the others."""
    live, seconds = (20, 1.0) if tiny else (1000, 10.0)
    # Two polls a second and trigger would be 2 000 a second, more than a simulator in Python answers on one core.
    interval = 0.2 if tiny else 2.0
    with processes.simulator() as bfl, tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        json.dump(bfl.submit(live, "flux-2-pro", stuck=True), file)
        file.flush()

        def run(variant: str) -> processes.Numbers:
            arguments = {"variant": variant, "generations": file.name, "interval": interval, "seconds": seconds}
            return processes.measured("benchmarks.trigger_cpu", arguments | {"server": bfl.server.pid}, bfl.env)

        told = processes.in_turns({name: partial(run, name) for name in ("trigger", *_NAMES)}, runs)
    own = processes.median(told["trigger"], "cpu_us")
    busy = max(each["server"] for numbers in told.values() for each in numbers)
    findings = [
        Finding(
            f"Processor time of a poll, {live:,} live triggers",
            own,
            "microseconds",
            processes.median(told[name], "cpu_us"),
            shown,
            goal=1.3 if name == "bare" else None,
            runs=runs,
        )
        for name, shown in _NAMES.items()
    ]
    threads = processes.median(told["threads"], "threads")
    return [
        *findings,
        Finding(
            "Threads of the process", processes.median(told["trigger"], "threads"), "", threads, _NAMES["threads"],
            runs=runs, note=f"the simulator used at most {busy:.0%} of one processor, so it was never waited for",
        ),
    ]  # fmt: skip


async def _poll(generations: list[dict[str, Any]], arguments: dict[str, Any]) -> processes.Numbers:
    wait, interval = waits.WAITS[arguments["variant"]], arguments["interval"]

    counts: list[waits.Count] = []

    async def begin(generation: dict[str, Any]) -> None:
        counts.append(waits.counted())
        await asyncio.sleep(random.uniform(0, interval))
        await wait(generation, interval)

    began = processes.Busy(arguments["server"])
    tasks = [asyncio.create_task(begin(each)) for each in generations]
    # What comes once, such as reading the connection, is told by itself.
    while len(counts) < len(tasks) or min(each.polls for each in counts) < _WARM_POLLS:  # noqa: ASYNC110 - nothing tells when all have
        await asyncio.sleep(0.1)
    started = began.so_far()["cpu"]
    busy, polls = processes.Busy(arguments["server"]), waits.TOTAL.polls
    await asyncio.sleep(arguments["seconds"])
    used, polls = busy.so_far(), waits.TOTAL.polls - polls
    numbers = {**used, "cpu_us": 1e6 * used["cpu"] / polls, "start": started, "threads": threading.active_count()}
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    if broken := [each for each in ended if not isinstance(each, asyncio.CancelledError)]:
        raise RuntimeError(f"a wait ended by itself: {broken[0]!r}")
    await waits.close()
    return numbers


if __name__ == "__main__":
    given = processes.arguments()
    generations = json.loads(Path(given["generations"]).read_text())
    processes.tell(asyncio.run(_poll(generations, given)))
