# SPDX-License-Identifier: Apache-2.0
"""What operator and transfers do alike with a finished generation: bring it into the user's storage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.arguments import IfExists
from airflow_provider_bfl.durable.journal import task_identity
from airflow_provider_bfl.exceptions import BflObjectExistsError
from airflow_provider_bfl.landing import Generation, Landed, Target, find_landed, land
from airflow_provider_bfl.landing.preview import MAX_SOURCE_BYTES, Thumbnail, can_make_thumbnails, make_thumbnail
from airflow_provider_bfl.landing.store import described
from airflow_provider_bfl.metrics import Metric, count, count_landed, timing
from airflow_provider_bfl.operators.previews import Previews

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.api.messages import PollResult
    from airflow_provider_bfl.hooks.bfl import BflHook

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """
    One result on its way into one place.

    :param hook: Asks again and downloads.
    :param target: Where the result goes.
    :param if_exists: What happens to another object of that name.
    :param output_format: What BFL was asked to deliver, or None when unknown.
    """

    hook: BflHook
    target: Target
    if_exists: IfExists
    output_format: str | None

    def find_before_submit(self) -> dict[str, Any] | None:
        """
        Return what is stored under a full name when it makes the generation needless.

        :raises BflObjectExistsError: there is an object and ``if_exists="error"``.
        """
        if self.target.is_directory or self.if_exists == "overwrite":
            return None
        existing = find_landed(self.target)
        if existing is None:
            return None
        if self.if_exists == "error":
            raise BflObjectExistsError(
                f"{existing.uri} exists and if_exists='error'. Nothing was submitted; choose another destination."
            )
        log.info("%s exists and if_exists='skip': nothing is submitted.", existing.uri)
        return existing.as_xcom()

    def is_stored(self, result: Mapping[str, Any]) -> bool:
        """Whether a landed result's object is still where it was put, unchanged, and that is where it should be."""
        uri = str(result.get("uri"))
        if not (uri.startswith(self.target.uri) if self.target.is_directory else uri == self.target.uri):
            return False
        existing = find_landed(self.target, uri=uri)
        return existing is not None and existing.size == result.get("size")

    def land(
        self, generation: Generation, result: PollResult, *, polling_url: str, previews: Previews
    ) -> dict[str, Any]:
        """
        Land the result and say so in one line.

        :param previews: Where what the gallery shows of it goes.
        :raises BflError: see :func:`airflow_provider_bfl.landing.land`.
        """
        thumbnails: list[Thumbnail | None] = []
        landed = land(
            result=result,
            poll=lambda: self.hook.get_result(polling_url),
            download=self.hook.download,
            target=self.target,
            generation=generation,
            output_format=self.output_format,
            if_exists=self.if_exists,
            record_prompt=previews.record_prompt,
            look=lambda landed, body: thumbnails.append(make_thumbnail(body, landed.size)),
        )
        _report(landed, generation)
        stored = landed.as_xcom()
        thumbnail = thumbnails[0] if thumbnails else self.thumbnail_of(stored)
        previews.push(generation, status=result.status, landed=stored, thumbnail=thumbnail)
        return stored

    def thumbnail_of(self, result: Mapping[str, Any]) -> Thumbnail | None:
        """Return a thumbnail of a result that was stored before, read from the store; None where that is no picture."""
        uri, size = str(result.get("uri")), result.get("size")
        key = self.target.key_of(uri)
        if key is None or not isinstance(size, int) or size > MAX_SOURCE_BYTES or not can_make_thumbnails():
            return None
        try:
            with self.target.store.open(key) as body:
                return make_thumbnail(BytesIO(body.read(MAX_SOURCE_BYTES)), size)
        except Exception as error:  # noqa: BLE001 - the preview is an ornament; the result is stored all the same
            log.debug("%s could not be read for a thumbnail: %s", uri, described(error))
            return None


def task_facts(context: Context) -> dict[str, Any]:
    """Return what a sidecar says about the task instance that landed the result."""
    return {**task_identity(context), "try_number": context["ti"].try_number}


def credits_text(cost: float | None) -> str:
    """Return a cost as every log line says it."""
    return "unknown" if cost is None else f"{cost:g} credits"


def _report(landed: Landed, generation: Generation) -> None:
    run = landed.ready_at - landed.submitted_at if landed.ready_at and landed.submitted_at else None
    times = {"queue": generation.queue_seconds, "run": run}
    known = [f"{name} {max(0.0, seconds):.1f} s" for name, seconds in times.items() if seconds is not None]
    log.info(
        "Landed generation %s (%s) at %s: %d bytes, seed %s, cost %s%s.",
        landed.id,
        landed.model or "model unknown",
        landed.uri,
        landed.size,
        landed.seed,
        credits_text(landed.cost),
        "".join(f", {each}" for each in known),
    )
    count_landed(model=landed.model, size=landed.size, url_age_seconds=landed.url_age_seconds)
    if generation.cost is None and landed.cost:
        count(Metric.COST, model=landed.model, by=landed.cost)
    if run is not None:
        timing(Metric.RUN_TIME, run, model=landed.model)
