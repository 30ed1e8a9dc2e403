# SPDX-License-Identifier: Apache-2.0
"""Arguments that several operators share: their defaults, and the words of those that are one of a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from airflow_provider_bfl.exceptions import BflConfigError

DEFAULT_CONN_ID = "bfl_default"

#: FLUX 3 video can queue for a quarter of an hour; every other model is done long before.
DEFAULT_TIMEOUT_SECONDS = 1800.0

#: Long enough for some hundred generations ahead in the queue, short enough that a dead account is noticed.
DEFAULT_MAX_QUEUE_WAIT_SECONDS = 3600.0

IfExists = Literal["overwrite", "skip", "error"]
OnAmbiguousSubmit = Literal["resubmit", "fail"]
OnModerated = Literal["fail", "skip"]
OnStaleState = Literal["resubmit", "fail"]
Validation = Literal["error", "warn", "off"]

_CHOICES: Mapping[str, Any] = {
    "if_exists": IfExists,
    "on_ambiguous_submit": OnAmbiguousSubmit,
    "on_moderated": OnModerated,
    "on_stale_state": OnStaleState,
    "validation": Validation,
}


def check_choices(operator: Any) -> None:
    """
    Check the arguments of an operator that are one of a few words, when the Dag is parsed.

    :raises BflConfigError: one is not; the message lists the words.
    """
    for name, literal in _CHOICES.items():
        value, allowed = getattr(operator, name, None), get_args(literal)
        if value is not None and value not in allowed:
            raise BflConfigError(f"{operator.task_id}: {name}={value!r} is not one of {', '.join(map(repr, allowed))}.")
