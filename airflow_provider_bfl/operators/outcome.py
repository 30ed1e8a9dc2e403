# SPDX-License-Identifier: Apache-2.0
"""What others learn of a landed result: the link on the task instance, the events of its outlets, its lineage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.landing.store import described
from airflow_provider_bfl.links.bfl import OBJECT_LINK_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bfl.landing import Target
    from airflow_provider_bfl.operators.generation import BflGenerationOperator
    from airflow_provider_bfl.transfers.base import BflTransferOperator

log = logging.getLogger(__name__)

#: What an asset event says of a generation.
EVENT_FACTS = ("id", "uri", "model", "seed", "cost", "sha256")


def announce(operator: BflGenerationOperator | BflTransferOperator, context: Context, target: Target) -> None:
    """Push the link to the place where the result will land, so that it works while the task is deferred."""
    _push_link(operator, context, target, uri=None)


def publish(
    operator: BflGenerationOperator | BflTransferOperator, context: Context, target: Target, result: Mapping[str, Any]
) -> None:
    """Tell of a landed result; nothing of it fails the task, whose result is stored and paid for."""
    operator.landed = dict(result)
    _push_link(operator, context, target, uri=str(result["uri"]))
    facts = {name: result[name] for name in EVENT_FACTS}
    for outlet in operator.outlets:
        try:
            _tell(context, outlet, facts)
        except Exception as error:  # noqa: BLE001 - such as a URI that Airflow takes for no asset
            log.warning("Generation %s: no asset event for %r (%s).", result["id"], outlet, described(error))


def _tell(context: Context, outlet: Any, facts: dict[str, Any]) -> None:
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    events: Any = context["outlet_events"]
    if isinstance(outlet, AssetAlias):
        events[outlet].add(Asset(uri=facts["uri"]), extra=facts)
    elif isinstance(outlet, Asset):
        events[outlet].extra.update(facts)


def _push_link(
    operator: BflGenerationOperator | BflTransferOperator, context: Context, target: Target, *, uri: str | None
) -> None:
    try:
        operator.object_link = target.console_url(uri) or ""
        if operator.object_link and operator.do_xcom_push:
            context["ti"].xcom_push(key=OBJECT_LINK_KEY, value=operator.object_link)
    except Exception as error:  # noqa: BLE001 - whatever a secrets or XCom backend raises
        log.warning("There is no link to %s (%s).", uri or target.uri, described(error))
