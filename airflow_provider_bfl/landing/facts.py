# SPDX-License-Identifier: Apache-2.0
"""
What is known of a landed generation: the result a task returns and the sidecar beside the object.

Both are built here and nowhere else. Neither ever holds a signed URL, a key, a webhook secret or media bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from airflow_provider_bfl import __version__
from airflow_provider_bfl.api.messages import redact_urls

#: Raised when a field changes its meaning; new fields do not raise it.
SIDECAR_SCHEMA_VERSION = 1

SIDECAR_SUFFIX = ".json"

#: Longer than any setting and shorter than any picture: base64 that was left in a request is told by its length.
_MAX_SETTING_CHARS = 2048

_SECRET_FIELDS = frozenset({"webhook_secret"})
_PROMPT_FIELD = re.compile(r"(.*_)?prompt(_\d+)?$")
_TIMES = frozenset({"submitted_at", "ready_at", "landed_at"})


@dataclass(frozen=True)
class Generation:
    """
    What is known of a generation before its result lands.

    :param id: BFL's id.
    :param model: None when only the id is known (a transfer without ``generation``).
    :param region: ``global``, ``eu``, ``us``, or the explicit host; None when unknown.
    :param request: The request's fields, media as references or digests; None when unknown.
    :param cost: Credits, as BFL answered the submit; a cost settled at the end wins over it.
    :param submitted_at: Seconds since the epoch.
    :param reattached: Whether this attempt found the generation already submitted.
    :param possibly_billed_twice: Whether an earlier submit was ambiguous and this one was made all the same.
    :param queue_seconds: How long the account was full before BFL accepted it; None when unknown.
    :param task: ``dag_id``, ``run_id``, ``task_id``, ``map_index``, ``try_number``, as far as they are known.
    """

    id: str
    model: str | None = None
    region: str | None = None
    request: Mapping[str, Any] | None = field(default=None, repr=False)
    cost: float | None = None
    submitted_at: float | None = None
    reattached: bool = False
    possibly_billed_twice: bool = False
    queue_seconds: float | None = None
    task: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Landed:
    """
    A stored result: what a task returns.

    ``id``, ``status`` and what only BFL knows are None for an object that was stored by somebody else and is kept
    under ``if_exists="skip"``. Times are seconds since the epoch. ``ready_at`` and ``url_age_seconds`` are the
    delivery server's where it gives them, otherwise counted from when the result was first seen here.
    """

    uri: str
    size: int
    id: str | None = None
    model: str | None = None
    status: str | None = None
    seed: int | None = None
    cost: float | None = None
    content_type: str | None = None
    sha256: str | None = None
    sidecar_uri: str | None = None
    submitted_at: float | None = None
    ready_at: float | None = None
    landed_at: float | None = None
    url_age_seconds: float | None = None
    reattached: bool = False
    possibly_billed_twice: bool = False

    def as_xcom(self) -> dict[str, Any]:
        """Return the result as JSON values; times are ISO-8601 in UTC."""
        return {name: iso_time(value) if name in _TIMES else value for name, value in asdict(self).items()}


def sidecar_of(landed: Landed, generation: Generation, *, record_prompt: bool) -> bytes:
    """
    Return the sidecar's JSON.

    :param record_prompt: Whether the prompt is part of it (``[bfl] record_prompts``).
    """
    request = generation.request
    document = {
        "schema_version": SIDECAR_SCHEMA_VERSION,
        **landed.as_xcom(),
        "region": generation.region,
        "request": None if request is None else published_request(request, record_prompt=record_prompt),
        "task": dict(generation.task),
        "provider_version": __version__,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str).encode("utf-8", "replace")


def read_sidecar(document: bytes) -> Landed | None:
    """Return the result a sidecar was written for, or None when the document is not one of ours."""
    try:
        parsed = json.loads(document)
        if not isinstance(parsed, dict) or parsed.get("schema_version") != SIDECAR_SCHEMA_VERSION:
            return None
        if not isinstance(parsed.get("uri"), str) or not isinstance(parsed.get("size"), int):
            return None
        known = {each.name: parsed.get(each.name, each.default) for each in fields(Landed)}
        known.update({name: _epoch(known[name]) for name in _TIMES})
        landed = Landed(**known)
        # Whoever can write to the store can put anything here, and it becomes a task's result.
        return landed if _is_plain(landed.as_xcom()) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _is_plain(result: Mapping[str, Any]) -> bool:
    return all(
        (isinstance(value, str) and len(value) <= _MAX_SETTING_CHARS and value.isprintable())
        or (isinstance(value, int | float | None) and abs(value or 0) < float("inf"))
        for value in result.values()
    )


def published_request(request: Mapping[str, Any], *, record_prompt: bool) -> dict[str, Any]:
    """Return a request as it may be stored: no secret, no signed URL, no media bytes, a prompt only where allowed."""
    published: dict[str, Any] = {}
    for name, value in request.items():
        if name in _SECRET_FIELDS:
            continue
        if isinstance(value, str) and _PROMPT_FIELD.fullmatch(name) and name != "image_prompt":
            if record_prompt:
                published[name] = value
            continue
        published[name] = _without_secrets(value)
    return published


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return _digest(bytes(value))
    if isinstance(value, str):
        return redact_urls(value) if len(value) <= _MAX_SETTING_CHARS else _digest(value.encode("utf-8", "replace"))
    return value


def _digest(value: bytes) -> str:
    return f"sha256:{hashlib.sha256(value).hexdigest()}"


def iso_time(seconds: Any) -> str | None:
    """Return wall-clock seconds as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _epoch(text: Any) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
