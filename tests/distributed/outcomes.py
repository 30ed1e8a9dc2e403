# SPDX-License-Identifier: Apache-2.0
"""What the user's side says: results of tasks, rows of manifests, and the images themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from demo.airflow_api import AirflowApi
from tests.distributed.books import Outcome

MANIFEST = "manifest.jsonl"


def of_result(prompt: str, result: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a landed result, or a manifest row of one, tells."""
    return Outcome(
        prompt=prompt,
        ended="landed",
        id=result["id"],
        uri=result["uri"],
        sha256=result["sha256"],
        cost=result["cost"],
        doubtful=result["possibly_billed_twice"],
    )


def of_mapped(api: AirflowApi, dag_id: str, run_id: str, task_id: str, count: int) -> Iterator[Outcome]:
    """Return the outcomes of a mapped task whose prompts are its name and the map index."""
    for index in range(count):
        yield of_result(f"{task_id} {index}", api.xcom(dag_id, run_id, task_id, map_index=index))


def of_manifest(manifest: Path) -> Iterator[tuple[int, Outcome | None]]:
    """Return the position and the outcome of every item of a batch; None for one that has none."""
    for line in manifest.read_text().splitlines():
        row = json.loads(line)
        position = row["position"]
        if row["status"] == "stored":
            yield position, of_result("", row)
        elif row["status"] == "moderated":
            yield position, Outcome("", "moderated", doubtful=row["possibly_billed_twice"])
        else:
            yield position, None


def stored_images(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every whole image below a folder, by URI; a broken one raises."""
    found = {}
    for path in folder.rglob("*"):
        # A process that was killed while it wrote leaves its hidden temporary file.
        if not path.is_file() or path.name.startswith(".") or path.suffix in (".json", ".jsonl"):
            continue
        if path.parent.name == f"{MANIFEST}.d":
            continue
        with Image.open(path) as image:
            image.verify()
        found[f"file://{path}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
