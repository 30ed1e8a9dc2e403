# SPDX-License-Identifier: Apache-2.0
"""The shapes of what goes to XCom: small, JSON, no signed URL, no key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_provider_bfl.api.messages import PollResult
from airflow_provider_bfl.durable.record import Record


def submit_result(record: Record) -> dict[str, Any]:
    """Return the submit result; every key that has a value is also an XCom key of its own."""
    return {
        "id": record.id,
        "polling_url": record.polling_url,
        "model": record.model,
        "region": record.region,
        "cost": record.cost,
        "input_mp": record.input_mp,
        "output_mp": record.output_mp,
        "submitted_at": iso_time(record.submitted_at),
        "reattached": record.reattached,
        "possibly_billed_twice": record.possibly_billed_twice,
    }


def waited_result(result: PollResult, *, cost: float | None = None) -> dict[str, Any]:
    """
    Return the result of a wait that does not land anything.

    :param cost: What BFL reported at submit; a cost settled at the end takes its place.
    """
    return {
        "id": result.id,
        "status": result.status,
        "seed": result.seed,
        "cost": cost if result.cost is None else result.cost,
    }


def iso_time(seconds: float | None) -> str | None:
    """Return wall-clock seconds as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
