# SPDX-License-Identifier: Apache-2.0
"""How the listeners answer: JSON, FastAPI's refusals, a scripted fault's own words, or a connection that just ends."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_bfl.simulator.faults import Fault

_REDIRECT = 307


def json_reply(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    encoded = json.dumps(body).encode()
    return web.Response(body=encoded, status=status, headers=headers, content_type="application/json")


def refusal(status: int, detail: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer as FastAPI does: ``detail`` is a string, or the list of validation errors."""
    return json_reply({"detail": detail}, status=status, headers=headers)


def missing(where: str, *path: str) -> list[dict[str, object]]:
    """FastAPI's complaint about something required that is not there."""
    return [{"type": "missing", "loc": [where, *path], "msg": "Field required", "input": None}]


def scripted(fault: Fault, *, body: Any = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """
    Answer what a fault says.

    :param fault: A fault with a status or a redirect.
    :param body: What to send when the fault names no body of its own.
    :param headers: The headers of the usual answer, under the fault's.
    """
    merged = {**(headers or {}), **fault.headers}
    if fault.redirect_to is not None:
        return web.Response(status=fault.status or _REDIRECT, headers=merged | {"Location": fault.redirect_to})
    status = fault.status or 200
    chosen = fault.body if fault.body is not None else body
    if isinstance(chosen, str):
        merged.setdefault("Content-Type", "text/plain; charset=utf-8")
        return web.Response(body=chosen.encode(), status=status, headers=merged)
    return json_reply({"detail": _phrase(status)} if chosen is None else chosen, status=status, headers=merged)


def dropped(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return Ended(told_status=0)


class Ended(web.Response):
    """
    What a handler returns after it closed the connection by itself; it is never sent.

    :param told_status: The HTTP status the client saw, 0 for none.
    """

    def __init__(self, *, told_status: int) -> None:
        super().__init__()
        self.told_status = told_status


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
