# SPDX-License-Identifier: Apache-2.0
"""
What this provider counts, through Airflow's own metrics: StatsD or OpenTelemetry, off where Airflow's are off.

Every metric is emitted in the worker and carries the tag ``model`` where the model is known. ``docs/metrics.rst`` has
the same list for people.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class Metric(StrEnum):
    """Every name; timers end with ``_time``, all others are counters."""

    SUBMITTED = "bfl.submitted"
    REATTACHED = "bfl.reattached"
    AMBIGUOUS = "bfl.ambiguous"
    POSSIBLY_BILLED_TWICE = "bfl.possibly_billed_twice"
    RATE_LIMITED = "bfl.rate_limited"
    COST = "bfl.cost"
    QUEUE_TIME = "bfl.queue_time"
    MODERATED = "bfl.moderated"
    FAILED = "bfl.failed"
    LANDED = "bfl.landed"
    LANDED_BYTES = "bfl.landed_bytes"
    RUN_TIME = "bfl.run_time"
    URL_AGE_TIME = "bfl.url_age_time"


def count(metric: Metric, *, model: str | None, by: float = 1) -> None:
    """
    Add to a counter.

    :param by: What is added; credits may be a fraction.
    """
    from airflow.providers.common.compat.sdk import Stats

    Stats.incr(metric.value, by, tags=_tags(model))  # type: ignore[arg-type]


def timing(metric: Metric, seconds: float, *, model: str | None) -> None:
    """Note how long something took."""
    from airflow.providers.common.compat.sdk import Stats

    # A plain number is milliseconds to one backend and seconds to another.
    Stats.timing(metric.value, timedelta(seconds=max(0.0, seconds)), tags=_tags(model))


def count_landed(*, model: str | None, size: int, url_age_seconds: float | None) -> None:
    """
    Count a result that was stored.

    :param size: Its bytes.
    :param url_age_seconds: How old its signed URL was at the download; None when unknown.
    """
    count(Metric.LANDED, model=model)
    count(Metric.LANDED_BYTES, model=model, by=size)
    if url_age_seconds is not None:
        timing(Metric.URL_AGE_TIME, url_age_seconds, model=model)


def _tags(model: str | None) -> dict[str, str]:
    return {"model": model} if model else {}
