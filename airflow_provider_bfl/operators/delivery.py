# SPDX-License-Identifier: Apache-2.0
"""What operator and transfers do alike with a finished generation: bring it into the user's storage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.arguments import IfExists
from airflow_provider_bfl.durable.journal import task_identity
from airflow_provider_bfl.exceptions import BflObjectExistsError
from airflow_provider_bfl.landing import Generation, Landed, Target, find_landed, land

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

    def land(self, generation: Generation, result: PollResult, *, polling_url: str) -> dict[str, Any]:
        """
        Land the result and say so in one line.

        :raises BflError: see :func:`airflow_provider_bfl.landing.land`.
        """
        from airflow.providers.common.compat.sdk import conf

        landed = land(
            result=result,
            poll=lambda: self.hook.get_result(polling_url),
            download=self.hook.download,
            target=self.target,
            generation=generation,
            output_format=self.output_format,
            if_exists=self.if_exists,
            record_prompt=conf.getboolean("bfl", "record_prompts", fallback=True),
        )
        _report(landed)
        return landed.as_xcom()


def task_facts(context: Context) -> dict[str, Any]:
    """Return what a sidecar says about the task instance that landed the result."""
    return {**task_identity(context), "try_number": context["ti"].try_number}


def _report(landed: Landed) -> None:
    took = ""
    if landed.submitted_at and landed.ready_at:
        took = f", {max(0.0, landed.ready_at - landed.submitted_at):.1f} s after the submit"
    log.info(
        "Landed generation %s (%s) at %s: %d bytes, seed %s, cost %s credits%s.",
        landed.id,
        landed.model or "model unknown",
        landed.uri,
        landed.size,
        landed.seed,
        "unknown" if landed.cost is None else f"{landed.cost:g}",
        took,
    )
