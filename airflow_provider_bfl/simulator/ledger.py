# SPDX-License-Identifier: Apache-2.0
"""
The simulator's memory of what was done to it: requests, tasks, webhooks, and every place a key showed up.

A key is kept as a fingerprint only, a signed query not at all, and long values shortened, so that the ledger can be
printed in a test's output.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_bfl.simulator.accounts import fingerprint

_MAX_REQUESTS = 200_000
_MAX_VALUE_CHARS = 200

#: Anything that looks like a key, of whichever account, in a place where no key belongs.
_KEY_LIKE = re.compile(r"bfl_[A-Za-z0-9_\-]{8,}")
_SIGNATURE = re.compile(r"([?&]sig=)[^&\s]+")


@dataclass(frozen=True)
class RequestRow:
    """
    One request that arrived.

    :param time: Unix seconds on the simulator's clock.
    :param role: What the listener plays: ``submit``, ``poll``, ``delivery`` or ``canary``.
    :param host: The region of the listener.
    :param method: The HTTP verb.
    :param path: Path and query, with keys and signatures blotted out.
    :param key: Fingerprint of ``x-key``, None without one.
    :param status: HTTP status of the answer; 0 when the connection was dropped.
    :param headers: Headers with keys blotted out; kept for the canary only.
    """

    time: float
    role: str
    host: str
    method: str
    path: str
    key: str | None
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Leak:
    """
    A key, or a credential header, where it must not be.

    :param where: ``header``, ``authorization``, ``url`` or ``body``.
    :param role: The listener it arrived at.
    :param host: The region of the listener.
    :param path: The path it was sent to, blotted.
    """

    time: float
    where: str
    role: str
    host: str
    path: str


@dataclass(frozen=True)
class WebhookRow:
    """A webhook that was sent: where to, for which task, and the answer (0 when nobody answered)."""

    time: float
    task_id: str
    url: str
    status: int


class Ledger:
    """Everything that happened, in memory; the oldest requests are forgotten after 200,000."""

    def __init__(self) -> None:
        self.requests: deque[RequestRow] = deque(maxlen=_MAX_REQUESTS)
        self.leaks: list[Leak] = []
        self.webhooks: list[WebhookRow] = []
        self.answers: Counter[str] = Counter()

    def record(self, row: RequestRow) -> None:
        self.requests.append(row)
        self.answers[f"{row.role} {row.status}"] += 1

    def as_json(self) -> dict[str, Any]:
        """Everything but the tasks, which are the world's to tell."""
        return {
            "requests": [asdict(row) for row in self.requests],
            "leaks": [asdict(leak) for leak in self.leaks],
            "webhooks": [asdict(row) for row in self.webhooks],
            "answers": dict(self.answers),
        }


def blot(text: str, keys: Iterable[str]) -> str:
    """
    Replace keys by their fingerprint and signatures by an ellipsis.

    :param text: A path, header value or field.
    :param keys: The keys known to exist; what merely looks like a key is blotted too.
    """
    for key in keys:
        text = text.replace(key, f"<key {fingerprint(key)}>")
    text = _KEY_LIKE.sub(lambda found: f"<key {fingerprint(found.group())}>", text)
    return _SIGNATURE.sub(r"\1…", text)


def find_leaks(*, role: str, path: str, headers: Mapping[str, str], body: str, keys: Iterable[str]) -> tuple[str, ...]:
    """
    Say where in a request a key stands that must not be there.

    BFL's API hosts are told the key in ``x-key`` and nowhere else; delivery hosts and strangers are told nothing.

    :param role: What the listener plays.
    :param path: The raw path with its query.
    :param headers: The request's headers.
    :param body: The request's body as text, empty where it was not read.
    :param keys: The keys known to exist.
    """
    api_host = role in {"submit", "poll"}
    known = tuple(keys)
    places = []
    if not api_host and "x-key" in headers:
        places.append("header")
    for name, value in headers.items():
        if name.lower() == "x-key":
            continue
        if name.lower() == "authorization" and (not api_host or _holds_key(value, known)):
            places.append("authorization")
        elif _holds_key(value, known):
            places.append("header")
    if _holds_key(path, known):
        places.append("url")
    if body and _holds_key(body, known):
        places.append("body")
    return tuple(dict.fromkeys(places))


def _holds_key(text: str, known: Iterable[str]) -> bool:
    if any(key in text for key in known):
        return True
    return _KEY_LIKE.search(text) is not None


def shortened(request: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a request for the record: secrets blanked, base64 and other long strings cut."""
    return {name: "***" if name == "webhook_secret" else _short(value) for name, value in request.items()}


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_VALUE_CHARS:
        return f"{value[:40]}… ({len(value)} characters)"
    if isinstance(value, list):
        return [_short(each) for each in value]
    return value
