# SPDX-License-Identifier: Apache-2.0
"""How full one batch keeps the account: what it gets through, against 24 generations at any time."""

from __future__ import annotations

import json
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from benchmarks import processes
from benchmarks.results import Finding

TITLE = "Batch: slot occupancy"

_SLOTS = 24


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return the share of the slots' time that was used, over the whole batch and until its last submit."""
    count = 60 if tiny else 1000
    with processes.simulator() as bfl:
        # flux-2-pro takes 11.6 to 13.8 seconds.
        bfl.client.settings(overall_limit=_SLOTS, jitter=0.087, latency_scale=0.1 if tiny else 1.0)
        told = processes.in_turns({"batch": partial(_run, bfl, count)}, runs)["batch"]
    rate, ideal = processes.median(told, "rate"), processes.median(told, "ideal")
    what = f"{count:,} requests, {_SLOTS} slots"
    return [
        Finding(
            f"{what}: generations a minute",
            rate,
            "",
            ideal,
            f"{_SLOTS} ÷ mean generation time",
            goal=None if tiny else 0.97,
            bound="least",
            runs=runs,
            note="from the first submit to the last end, with the draining of the last slots",
        ),
        Finding(f"{what}: in use until the last submit", 100 * processes.median(told, "full"), "%", runs=runs),
        Finding(
            f"{what}: processor time for a generation",
            1000 * processes.median(told, "cpu") / count,
            "ms",
            runs=runs,
            note=f"{processes.median(told, 'refused'):g} POSTs were answered 429",
        ),
    ]


def _run(bfl: processes.Bfl, count: int) -> processes.Numbers:
    before = bfl.client.ledger
    told = processes.measured("benchmarks.batch_slots", {"count": count}, bfl.env)
    ledger = bfl.client.ledger
    tasks = ledger.tasks[len(before.tasks) :]
    spans = [(each.submitted_at, each.finishes_at or 0.0) for each in tasks]
    begun, last_submit = min(start for start, _ in spans), max(start for start, _ in spans)
    wall = max(end for _, end in spans) - begun
    mean = sum(end - start for start, end in spans) / len(spans)
    used = sum(min(end, last_submit) - start for start, end in spans)
    return {
        **told,
        "rate": 60 * len(spans) / wall,
        "ideal": 60 * _SLOTS / mean,
        "full": used / (_SLOTS * (last_submit - begun)),
        "refused": ledger.answers.get("submit 429", 0) - before.answers.get("submit 429", 0),
    }


def run_batch(count: int, **arguments: Any) -> processes.Numbers:
    """Run one batch in this process, in its working directory."""
    import logging
    from pathlib import Path

    from airflow_provider_bfl.operators.batch import BflBatchOperator

    logging.disable(logging.INFO)
    requests = Path("requests.jsonl")
    with requests.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"prompt": f"bench {number}", "parameters": {"width": 256, "height": 256}}) + "\n")
    ti: Any = SimpleNamespace(dag_id="d", run_id="r", task_id="batch", map_index=-1, try_number=1, max_tries=0)
    operator = BflBatchOperator(
        task_id="batch",
        requests=f"file://{requests.absolute()}",
        destination=f"file://{Path.cwd()}/landed/",
        **arguments,
    )
    wall, cpu = time.monotonic(), time.process_time()
    result = operator.execute({"ti": ti, "task_instance": ti})
    if result["total"] != count:
        raise RuntimeError(f"the batch ended with {result}")
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    processes.tell(run_batch(processes.arguments()["count"]))
