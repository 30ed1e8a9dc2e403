# SPDX-License-Identifier: Apache-2.0
"""The promises of a batch whose worker is killed with SIGKILL, again and again, wherever it happens to be."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.simulator import Simulator
from tests.batch.attempt import start, told
from tests.batch.runs import COST, SMALL, prompts, read_lines
from tests.storage_servers import GCSServer, S3Server

ITEMS = 120
_PATIENCE_SECONDS = 120.0

#: How an attempt says for how many items it sends a POST again whose answer was lost.
_TOLD_DOUBTS = re.compile(r"The answer to the POST of (\d+) items was lost")


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(latency_scale=0.02) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_BFL_DEFAULT", simulator.connection_json())
        yield simulator


def kill_when(process: subprocess.Popen[str], happened: Callable[[], bool]) -> str:
    """Kill a process once something has happened, and return what it printed; fail when it ends before."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()[0][-6000:]
        assert time.monotonic() < deadline, "what should have happened did not"
        time.sleep(0.005)
    time.sleep(random.uniform(0.0, 0.15))
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return output


def doubts_in(output: str) -> int:
    """Return how many POSTs an attempt sent again because an earlier one's answer was lost."""
    return sum(map(int, _TOLD_DOUBTS.findall(output)))


def kill(simulator: Simulator, times: int, **arguments: Any) -> tuple[dict[str, Any], int]:
    """Kill so many attempts at random places; return what the last one told, and the doubts of all."""
    doubts = 0
    for killed in range(1, times + 1):
        enough = int(ITEMS * killed / (times + 1) * random.uniform(0.7, 1.0))
        doubts += doubts_in(kill_when(start(**arguments), lambda enough=enough: simulator.ledger.posts >= enough))  # type: ignore[misc]
    end = told(start(**arguments))
    return end, doubts + doubts_in(end["output"])


def check_promises(simulator: Simulator, rows: list[dict[str, Any]], result: dict[str, Any], doubts: int) -> None:
    """Every item has its picture, and nothing was paid for that is not accounted for."""
    ledger = simulator.ledger
    assert result["counts"]["stored"] == len(rows) == ITEMS
    assert [row["position"] for row in rows] == list(range(ITEMS))
    assert len({row["id"] for row in rows}) == len({row["uri"] for row in rows}) == ITEMS
    assert result["possibly_billed_twice"] == sum(row["possibly_billed_twice"] for row in rows)
    # An item may be in doubt at every kill, as far as it was told to the log.
    assert ITEMS <= ledger.posts <= ITEMS + doubts
    # Whatever was paid for beyond a row's own generation belongs to an item that says so.
    asked = Counter(str(task.request["prompt"]) for task in ledger.tasks)
    twice = {prompts(ITEMS)[row["position"]] for row in rows if row["possibly_billed_twice"]}
    assert {prompt for prompt, count in asked.items() if count > 1} <= twice
    assert ledger.spent <= result["cost"] <= (ITEMS + doubts) * COST
    assert ledger.max_active <= 24
    assert ledger.leaks == ()


class TestABatchThatIsKilled:
    def test_lands_everything_in_files_and_pays_once(self, simulator: Simulator, tmp_path: Path) -> None:
        arguments = {
            "requests": prompts(ITEMS),
            "destination": f"file://{tmp_path}/landed/",
            "parameters": SMALL,
            "poll_interval": 0.1,
        }

        end, doubts = kill(simulator, 2, **arguments)

        assert end["error"] is None, end["words"]
        rows = read_lines(tmp_path / "landed" / "manifest.jsonl")
        check_promises(simulator, rows, end["result"], doubts)
        # A killed process may leave the hidden file that it was writing; of the journal nothing else is left.
        files = [path for path in (tmp_path / "landed").rglob("*") if path.is_file() and path.name[0] != "."]
        assert Counter(path.suffix for path in files) == {".jpg": ITEMS, ".json": ITEMS, ".jsonl": 1}
        for row in rows:
            assert (tmp_path / "landed" / f"{row['object_stem']}.jpg").stat().st_size == row["size"]

    def test_lands_everything_in_s3_and_pays_once(self, simulator: Simulator, s3_server: S3Server) -> None:
        bucket = s3_server.new_bucket()
        arguments = {
            "requests": prompts(ITEMS),
            "destination": f"s3://{bucket}/landed/",
            "storage_conn_id": s3_server.conn_id,
            "parameters": SMALL,
            "poll_interval": 0.1,
        }

        end, doubts = kill(simulator, 1, **arguments)

        assert end["error"] is None, end["words"]
        body = s3_server.client.get_object(Bucket=bucket, Key="landed/manifest.jsonl")["Body"].read()
        check_promises(simulator, [json.loads(line) for line in body.splitlines()], end["result"], doubts)
        keys = s3_server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket).search("Contents[].Key")
        assert Counter(str(key).rpartition(".")[2] for key in keys) == {"jpg": ITEMS, "json": ITEMS, "jsonl": 1}

    def test_lands_everything_in_gcs_and_pays_once(self, simulator: Simulator, gcs_server: GCSServer) -> None:
        bucket = gcs_server.new_bucket()
        arguments = {
            "requests": prompts(ITEMS),
            "destination": f"gs://{bucket}/landed/",
            "storage_conn_id": gcs_server.conn_id,
            "parameters": SMALL,
            "poll_interval": 0.1,
        }

        end, doubts = kill(simulator, 1, **arguments)

        assert end["error"] is None, end["words"]
        client = gcs_server.client()
        body = client.bucket(bucket).blob("landed/manifest.jsonl").download_as_bytes()
        check_promises(simulator, [json.loads(line) for line in body.splitlines()], end["result"], doubts)
        keys = [blob.name for blob in client.list_blobs(bucket)]
        assert Counter(key.rpartition(".")[2] for key in keys) == {"jpg": ITEMS, "json": ITEMS, "jsonl": 1}

    def test_never_spends_more_than_it_may(self, simulator: Simulator, tmp_path: Path) -> None:
        limit = 0.9 * ITEMS * COST
        arguments = {
            "requests": prompts(ITEMS),
            "destination": f"file://{tmp_path}/landed/",
            "parameters": SMALL,
            "poll_interval": 0.1,
            "max_cost": limit,
        }

        end, doubts = kill(simulator, 2, **arguments)

        assert end["error"] == "BflBudgetError", end["words"]
        assert simulator.ledger.spent <= limit
        rows = read_lines(tmp_path / "landed" / "manifest.jsonl")
        # What is in doubt is not sent again without the credits for it.
        assert {row["status"] for row in rows} <= {"stored", "ambiguous"}
        left = sum(row["status"] == "ambiguous" for row in rows)
        # As far as the doubts allow, it was used up.
        assert simulator.ledger.spent > limit - (1 + doubts + left) * COST
