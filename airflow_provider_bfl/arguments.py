# SPDX-License-Identifier: Apache-2.0
"""What several operators share: defaults of arguments, the words some of them are one of, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal, get_args

from airflow_provider_bfl.exceptions import BflConfigError

DEFAULT_CONN_ID = "bfl_default"

#: FLUX 3 video can queue for a quarter of an hour; every other model is done long before.
DEFAULT_TIMEOUT_SECONDS = 1800.0

#: Long enough for some hundred generations ahead in the queue, short enough that a dead account is noticed.
DEFAULT_MAX_QUEUE_WAIT_SECONDS = 3600.0

#: What a killed task leaves behind; BFL has no way to cancel.
KILLED = (
    "The task was killed, but generation %s cannot be cancelled: it goes on at BFL, is billed once and holds one of "
    "the account's slots until it ends. Its record stays; a retry or a clear re-attaches to it and pays nothing."
)

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


#: Seconds and credits; None is the default where it is allowed at all. Those of a wait must be more than none.
_POSITIVE = ("timeout", "poll_interval", "max_cost")
_NOT_NEGATIVE = ("inline_wait", "max_queue_wait", "min_credits")


def check_arguments(operator: Any, **choices: tuple[str, ...]) -> None:
    """
    Check what can be checked of an operator's arguments when the Dag is parsed: words and numbers, nothing templated.

    :param choices: Words that this operator's argument of that name may be, in place of the usual ones.
    :raises BflConfigError: one cannot be used; the message says what it may be.
    """
    for name, literal in _CHOICES.items():
        value, allowed = getattr(operator, name, None), choices.get(name) or get_args(literal)
        if value is not None and value not in allowed:
            raise BflConfigError(f"{operator.task_id}: {name}={value!r} is not one of {', '.join(map(repr, allowed))}.")
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        value = getattr(operator, name, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise BflConfigError(f"{operator.task_id}: {name}={value!r} is not a plain number.")
        if value < 0 or (value == 0 and name in _POSITIVE):
            raise BflConfigError(f"{operator.task_id}: {name}={value!r} must be more than 0.")
