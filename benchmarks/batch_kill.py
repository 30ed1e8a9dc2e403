# SPDX-License-Identifier: Apache-2.0
"""
Thousands of requests in one task whose worker is killed three times: what was paid for, and the memory it took.

``python -m benchmarks.batch_kill --items 5000 --plot docs/images/batch-memory.svg``. Kills come at a quarter, a half
and three quarters of the way. The table and the plot are those of the page about batches.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_bfl.simulator import SimulatorClient

_KILLS_AT = (0.25, 0.5, 0.75)
_COST = 3.0
_SAMPLE_SECONDS = 1.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1024**2
_CREDITS = 1_000_000.0

#: How an attempt says for how many items it sends a POST again whose answer was lost.
_TOLD_DOUBTS = re.compile(r"The answer to the POST of (\d+) items was lost")

#: By then an attempt has imported and opened all that it will.
_WARM_SECONDS = 15

#: One attempt in a process of its own: the operator as a Dag would have it.
_ATTEMPT = """
import json, sys
from types import SimpleNamespace
from airflow_provider_bfl.operators.batch import BflBatchOperator
ti = SimpleNamespace(
    dag_id="kill", run_id="r", task_id="batch", map_index=-1, try_number=1, max_tries=3, xcom_push=lambda **_: None
)
operator = BflBatchOperator(task_id="batch", do_xcom_push=False, **json.loads(sys.argv[1]))
print("TOLD", json.dumps(operator.execute({"ti": ti})), flush=True)
"""


@dataclass
class Samples:
    """Seconds since the beginning, the attempt, megabytes of its resident set, and POSTs BFL has accepted."""

    began: float = field(default_factory=time.monotonic)
    rows: list[tuple[float, int, float, int]] = field(default_factory=list)

    def take(self, attempt: int, process: subprocess.Popen[str], posts: int) -> None:
        """Take one, unless the process has just ended."""
        try:
            resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE_MB
        except (OSError, IndexError):
            return
        if resident:  # it is ending otherwise
            self.rows.append((round(time.monotonic() - self.began, 1), attempt, round(resident, 1), posts))

    def write(self, path: Path) -> None:
        """Write them as CSV."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("seconds", "attempt", "rss_mb", "posts"))
            writer.writerows(self.rows)


@dataclass(frozen=True)
class Run:
    """
    What became of it.

    :param result: What the last attempt returned.
    :param doubts: How many POSTs the attempts sent again because an answer was lost.
    """

    result: dict[str, Any]
    doubts: int
    max_cost: float


def main() -> int:
    """Run it, print what came of it, and return 1 where a promise was broken."""
    told = _arguments()
    with tempfile.TemporaryDirectory() as scratch, _simulator(told.latency_scale) as simulator:
        simulator.set_credits(_CREDITS)
        root, samples = Path(scratch), Samples()
        run = _run_all(told.items, simulator, root, samples)
        rows = [json.loads(line) for line in (root / "landed" / "manifest.jsonl").read_text().splitlines()]
        samples.write(told.csv)
        broken = _check(told.items, simulator, rows, run)
    if told.plot:
        told.plot.write_text(plot(samples))
    print(table(samples))
    print(json.dumps({"result": run.result, "broken": broken}, indent=2))
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--latency-scale", type=float, default=0.05)
    parser.add_argument("--csv", type=Path, default=Path("batch-rss.csv"))
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def _run_all(items: int, simulator: SimulatorClient, root: Path, samples: Samples) -> Run:
    requests = root / "requests.jsonl"
    requests.write_text("".join(json.dumps({"prompt": f"fox number {number}"}) + "\n" for number in range(items)))
    arguments: dict[str, Any] = {
        "requests": f"file://{requests}",
        "destination": f"file://{root}/landed/",
        "parameters": {"width": 64, "height": 64},
        # The largest batch that could be paid for twice where an answer was lost; never to be passed.
        "max_cost": _COST * (items + len(_KILLS_AT) * 24),
    }
    doubts = 0
    environment = os.environ | {"AIRFLOW_CONN_BFL_DEFAULT": simulator.connection_json(), "AIRFLOW_HOME": str(root)}
    for attempt, share in enumerate((*_KILLS_AT, None), start=1):
        log = root / f"attempt-{attempt}.log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, "-c", _ATTEMPT, json.dumps(arguments)],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            while process.poll() is None:
                posts = _posts(root)
                samples.take(attempt, process, posts)
                if share is not None and posts >= share * items:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                time.sleep(_SAMPLE_SECONDS)
        if share is not None and process.returncode != -signal.SIGKILL:
            raise RuntimeError(log.read_text()[-4000:])
        doubts += sum(map(int, _TOLD_DOUBTS.findall(log.read_text())))
    lines = [line for line in log.read_text().splitlines() if line.startswith("TOLD ")]
    if not lines:
        raise RuntimeError(log.read_text()[-4000:])
    return Run(json.loads(lines[-1].removeprefix("TOLD ")), doubts, float(arguments["max_cost"]))


def _posts(root: Path) -> int:
    # What has landed is as good a clock as the ledger, which is large by now and slow to ask for.
    landed = root / "landed"
    return sum(path.suffix == ".jpg" for path in landed.iterdir()) if landed.exists() else 0


def _check(items: int, simulator: SimulatorClient, rows: list[dict[str, Any]], run: Run) -> list[str]:
    ledger, stored = simulator.ledger, run.result["counts"]["stored"]
    asked = Counter(str(task.request["prompt"]) for task in ledger.tasks)
    marked = sum(row["possibly_billed_twice"] for row in rows)
    print(
        f"{items} items, {stored} stored, {ledger.posts} POSTs accepted, {run.doubts} sent again in doubt for {marked} "
        f"items, {ledger.max_active} in flight at most, {ledger.spent:g} credits billed, "
        f"{run.result['cost']:g} counted, {run.max_cost:g} allowed"
    )
    promises = {
        "every item has its picture": stored == len(rows) == items == len({row["id"] for row in rows}),
        "one POST for each, and one for each doubt at most": items <= ledger.posts <= items + run.doubts,
        "no item was paid for twice that does not say so": sum(count > 1 for count in asked.values()) <= marked,
        "never more than 24 in flight": ledger.max_active <= 24,
        "never more credits than it counted": ledger.spent <= run.result["cost"] <= run.max_cost,
        "the key went nowhere else": ledger.leaks == (),
    }
    return [promise for promise, kept in promises.items() if not kept]


def table(samples: Samples) -> str:
    """Return what each attempt took, as the page about batches shows it."""
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - Attempt", "     - Seconds"]
    lines += [f"     - Memory after {_WARM_SECONDS} s", "     - Peak"]
    for attempt, own in _attempts(samples).items():
        began = own[0][0]
        warm = next((size for second, size in own if second - began >= _WARM_SECONDS), own[-1][1])
        lines += [f"   * - {attempt}", f"     - {own[-1][0] - began:.0f}", f"     - {warm:.0f} MB"]
        lines += [f"     - {max(size for _, size in own):.0f} MB"]
    return "\n".join(lines)


def plot(samples: Samples) -> str:
    """Return the samples as an SVG: seconds to the right, megabytes upwards, a line for each attempt."""
    width, height, left, bottom = 720, 280, 50, 240
    end, top = samples.rows[-1][0], 50.0 * (1 + max(row[2] for row in samples.rows) // 50)

    def x(second: float) -> float:
        return round(left + second / end * (width - left - 20), 1)

    def y(size: float) -> float:
        return round(bottom - size / top * (bottom - 20), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<style>text {font: 12px sans-serif}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for size in range(0, int(top) + 1, 50):
        parts.append(f'<path d="M{left} {y(size)}H{width - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(size) + 4}" text-anchor="end">{size}</text>')
    for attempt, own in _attempts(samples).items():
        points = " ".join(f"{x(second)},{y(size)}" for second, size in own)
        parts.append(f'<polyline points="{points}" fill="none" stroke="#2a6f4e" stroke-width="2"/>')
        parts.append(f'<text x="{x(own[0][0]) + 4}" y="{bottom - 8}">attempt {attempt}</text>')
    parts.append(f'<text x="{left}" y="14">resident set, MB</text>')
    parts.append(f'<text x="{width - 20}" y="{bottom + 20}" text-anchor="end">{end:.0f} seconds</text>')
    return "\n".join([*parts, "</svg>\n"])


def _attempts(samples: Samples) -> dict[int, list[tuple[float, float]]]:
    found: dict[int, list[tuple[float, float]]] = {}
    for second, attempt, size, _ in samples.rows:
        found.setdefault(attempt, []).append((second, size))
    return found


@contextmanager
def _simulator(latency_scale: float) -> Iterator[SimulatorClient]:
    command = [sys.executable, "-m", "airflow_provider_bfl.simulator", "--json", "--latency-scale", str(latency_scale)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield SimulatorClient(json.loads(process.stdout.readline())["addresses"]["control"])
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
