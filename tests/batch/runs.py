# SPDX-License-Identifier: Apache-2.0
"""What the tests of batches share: a task instance of one, and its manifest read back."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_fixtures import TaskRun, World

SMALL = {"width": 64, "height": 64}

#: What one request of flux-2-pro costs in the simulator.
COST = 3.0

#: Seconds between tries inside one attempt; what is tested here is what they lead to.
_BACK_OFFS = (
    ("batch.segments", "_WRITE_DELAYS", (0.0, 0.0)),
    ("batch.journal", "_READ_DELAYS", (0.0, 0.0)),
    ("batch.way", "_REPEAT_DELAYS", (0.0, 0.0)),
    ("batch.window", "_FIRST_PAUSE_SECONDS", 0.05),
    ("batch.window", "_MAX_PAUSE_SECONDS", 0.2),
)


def hasten(patch: pytest.MonkeyPatch) -> None:
    """Take the waiting out of what is tried again."""
    for module, name, value in _BACK_OFFS:
        patch.setattr(importlib.import_module(f"airflow_provider_bfl.{module}"), name, value)


def prompts(count: int) -> list[str]:
    """Return so many different prompts."""
    return [f"fox number {index} in the snow" for index in range(count)]


def batch(bfl: World, requests: Any, **arguments: Any) -> TaskRun:
    """Return the task instance of a quick batch."""
    from airflow_provider_bfl.operators.batch import BflBatchOperator

    defaults: dict[str, Any] = {"destination": bfl.destination, "parameters": SMALL, "poll_interval": 0.05}
    run: TaskRun = bfl.run(BflBatchOperator, requests=requests, **(defaults | arguments))
    return run


def rows(bfl: World) -> list[dict[str, Any]]:
    """Return the manifest's rows, and nothing but the manifest may be left of the journal."""
    landed = bfl.root / "landed"
    assert not (landed / "manifest.jsonl.d").exists(), "the journal is still there"
    return read_lines(landed / "manifest.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def statuses(bfl: World) -> Counter[str]:
    """Return how many rows have which status."""
    return Counter(row["status"] for row in rows(bfl))


def pictures(bfl: World) -> list[Path]:
    """Return every stored result."""
    return sorted(path for path in (bfl.root / "landed").rglob("*") if path.suffix in {".jpg", ".png", ".webp"})
