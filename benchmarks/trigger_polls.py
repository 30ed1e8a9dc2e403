# SPDX-License-Identifier: Apache-2.0
"""
How many polls a generation takes, and how long after its end that is noticed, against BFL's half-second loop.

Every generation is waited for by both at once, so both see the same one. How long generations take is drawn from what
was measured of BFL's models.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from airflow_provider_bfl.hooks.bfl import BflHook
from benchmarks import processes, waits
from benchmarks.results import Finding

TITLE = "Trigger: polls per generation, and how late its end is noticed"

#: Seconds from submit to result as seen from outside, shortest and longest (September 2026, about one megapixel).
LATENCIES = {
    "flux-2-klein-4b": (2.3, 2.7),
    "flux-2-klein-9b": (2.4, 4.9),
    "flux-dev": (4.6, 4.9),
    "flux-2-flex": (6.7, 8.8),
    "flux-kontext-pro": (6.6, 8.6),
    "flux-pro-1.1-ultra": (10.8, 13.8),
    "flux-2-pro": (11.6, 13.8),
    "flux-2-max": (36.0, 40.6),
    "flux-3-video": (40.0, 69.0),
}

#: Not at once: a burst of submits would delay the first polls of all.
_SUBMITTED_WITHIN_SECONDS = 15.0

_FEW = 10

_TINY = ("flux-2-klein-4b",)


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return polls and lag, for all models together and for each."""
    models = _TINY if tiny else tuple(LATENCIES)
    dice = random.Random(20_26)
    with processes.simulator() as bfl:
        told = [_run(bfl, models, 2 if tiny else 20, dice) for _ in range(runs)]
    ratios = [each["own_polls"] / each["seed_polls"] for each in told]
    findings = [
        Finding(
            "Polls per generation, all models",
            processes.median(told, "own_polls"),
            "",
            processes.median(told, "seed_polls"),
            "0.5 s loop",
            goal=0.25,
            runs=runs,
            note=f"between {min(ratios):.2f} and {max(ratios):.2f} of the baseline's in single runs",
        ),
        Finding(
            "Median lag, share of the generation's time",
            100 * processes.median(told, "own_lag"),
            "%",
            100 * processes.median(told, "seed_lag"),
            "0.5 s loop",
            goal=10.0,
            judged="value",
            runs=runs,
        ),
    ]
    for model in models:
        findings += [
            Finding(
                f"{model}: polls per generation",
                processes.median(told, f"own_polls {model}"),
                "",
                processes.median(told, f"seed_polls {model}"),
                "0.5 s loop",
                runs=runs,
                note=f"median lag {1000 * processes.median(told, f'own_late {model}'):.0f} ms, "
                f"{100 * processes.median(told, f'own_lag {model}'):.1f} % of the generation's time",
            )
        ]
    return findings


def _run(bfl: processes.Bfl, models: Sequence[str], count: int, dice: random.Random) -> processes.Numbers:
    generations = [
        {"model": model, "prompt": f"<{model} {number}>", "seconds": dice.uniform(*LATENCIES[model])}
        for model in models
        for number in range(count)
    ]
    bfl.client.clear_faults()
    for each in generations:
        bfl.client.fault("task", prompt=each["prompt"], latency_seconds=each["seconds"])
    return processes.measured("benchmarks.trigger_polls", {"generations": generations}, bfl.env)


async def _watch(generations: list[dict[str, Any]]) -> processes.Numbers:
    seen: dict[str, list[tuple[str, int, float, float]]] = {"own": [], "seed": []}
    hook = BflHook()
    await hook.asettings()
    within = _SUBMITTED_WITHIN_SECONDS if len(generations) > _FEW else 0.0

    async def follow(who: str, generation: dict[str, Any]) -> None:
        count = waits.counted()
        await (waits.trigger if who == "own" else waits.seed)(generation, None)
        late = time.time() - generation["submitted_at"] - generation["seconds"]
        seen[who].append((generation["model"], count.polls, max(0.0, late), generation["seconds"]))

    async def live(generation: dict[str, Any]) -> None:
        await asyncio.sleep(random.uniform(0.1, 1.0) * within)
        body = {"prompt": generation["prompt"], **processes.NEEDED.get(generation["model"], {})}
        answer = await hook.asubmit(generation["model"], body)
        submitted = {**generation, "polling_url": answer.polling_url, "submitted_at": time.time()}
        await asyncio.gather(follow("own", dict(submitted)), follow("seed", dict(submitted)))

    async with asyncio.TaskGroup() as group:
        for generation in generations:
            group.create_task(live(generation))
    await waits.close()
    numbers: processes.Numbers = {}
    for who, rows in seen.items():
        for model in (None, *dict.fromkeys(each[0] for each in rows)):
            chosen = [each for each in rows if model in (None, each[0])]
            name = "" if model is None else f" {model}"
            numbers[f"{who}_polls{name}"] = statistics.fmean(polls for _, polls, _, _ in chosen)
            numbers[f"{who}_late{name}"] = statistics.median(late for _, _, late, _ in chosen)
            numbers[f"{who}_lag{name}"] = statistics.median(late / seconds for _, _, late, seconds in chosen)
    return numbers


if __name__ == "__main__":
    processes.tell(asyncio.run(_watch(processes.arguments()["generations"])))
