# SPDX-License-Identifier: Apache-2.0
"""A record in every state."""

from __future__ import annotations

from typing import Any

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.durable.record import Record

SUBMISSION = Submission("gen-1", "https://api.eu2.bfl.ai/v1/get_result?id=gen-1", 3.0, 0.0, 1.0)
NOW = 1_800_000_000.0


def record(state: str = "intent", **changes: Any) -> Record:
    """Return a record of one task instance in ``state``."""
    facts: dict[str, Any] = {
        "fingerprint": "same", "model": "flux-2-pro", "region": "eu", "bfl_conn_id": "bfl_default", "epoch": 2,
    }  # fmt: skip
    intent = Record(state="intent", **(facts | changes))
    if state == "intent":
        return intent
    if state == "refused":
        return intent.refused(queued_since=NOW - 60)
    submitted = intent.submitted(SUBMISSION, now=NOW, timeout=1800)
    return submitted if state == "submitted" else submitted.stored({"uri": "s3://b/k.png", "size": 7})
