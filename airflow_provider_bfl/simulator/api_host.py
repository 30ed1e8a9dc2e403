# SPDX-License-Identifier: Apache-2.0
"""BFL's API hosts: where generations are submitted, and the clusters' own hosts where they are polled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_bfl.api.catalogue import Model, get_model, load_catalogue
from airflow_provider_bfl.api.catalogue_build import openapi_document
from airflow_provider_bfl.simulator.accounts import Refusal, authenticate
from airflow_provider_bfl.simulator.faults import Fault
from airflow_provider_bfl.simulator.replies import dropped, json_reply, missing, refusal, scripted
from airflow_provider_bfl.simulator.tasks import NOT_FOUND, PENDING, task_body
from airflow_provider_bfl.simulator.validation import spec_errors
from airflow_provider_bfl.simulator.webhooks import Webhooks
from airflow_provider_bfl.simulator.world import REGIONS, TaskEntry, World

if TYPE_CHECKING:
    from aiohttp import web

_PREFIX = "/v1/"
_POLLS_PER_SECOND = 1200


@dataclass
class ApiHost:
    """
    One API host.

    :param world: The service behind it.
    :param role: ``submit``, or ``poll`` for a cluster's own host, which only answers ``get_result``.
    :param region: ``global``, ``eu`` or ``us``. A cluster's host knows only that cluster's tasks, and a submit host
        knows none, as BFL's do.
    :param polling_urls: Base URL of each cluster's polling host.
    :param webhooks: Sends what finished tasks owe.
    """

    world: World
    role: str
    region: str
    polling_urls: Mapping[str, str]
    webhooks: Webhooks

    def __post_init__(self) -> None:
        self._window = (0, 0)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; anything BFL does not have is FastAPI's 404 or 405."""
        path = request.path
        if path == "/v1/get_result":
            return await self._poll(request) if request.method == "GET" else _wrong_verb("GET")
        if self.role != "submit":
            return refusal(404, "Not Found")
        if path == "/v1/credits":
            return await self._credits(request) if request.method == "GET" else _wrong_verb("GET")
        if path == "/openapi.json":
            return json_reply(self._openapi)
        model = get_model(path.removeprefix(_PREFIX))
        if not path.startswith(_PREFIX) or not model.known:
            return refusal(404, "Not Found")
        return await self._submit(request, model) if request.method == "POST" else _wrong_verb("POST")

    @cached_property
    def _openapi(self) -> dict[str, Any]:
        return openapi_document(load_catalogue())

    async def _submit(self, request: web.Request, model: Model) -> web.StreamResponse:
        fault = self.world.faults.take("submit", model=model.slug)
        if not fault.accept and (unusual := await _interrupt(request, fault)):
            return unusual
        entry = await self._accept(request, model)
        if isinstance(entry, Refusal):
            return self._refused(entry)
        reply = self._submitted(entry)
        if fault.accept and (unusual := await _interrupt(request, fault)):
            return unusual
        return reply

    async def _accept(self, request: web.Request, model: Model) -> TaskEntry | Refusal:
        """Go through BFL's checks in BFL's order: key, body, credits, active tasks."""
        key = request.headers.get("x-key")
        if denied := authenticate(key, self.world.keys):
            return denied
        body = _parsed(await request.read())
        if isinstance(body, Refusal):
            return body
        if errors := spec_errors(model, body):
            return Refusal(422, errors)
        entry = self.world.submit(model, body, key=key or "", region=self.region)
        if isinstance(entry, TaskEntry) and entry.webhook_url:
            self.webhooks.owe(entry, entry.webhook_url, body.get("webhook_secret"))
        return entry

    def _refused(self, refused: Refusal) -> web.Response:
        seconds = self.world.settings.retry_after_seconds
        headers = {"Retry-After": str(seconds)} if refused.status == 429 and seconds is not None else None
        return refusal(refused.status, refused.detail, headers)

    def _submitted(self, entry: TaskEntry) -> web.Response:
        task = entry.task
        price = task.quote
        figures = {"cost": price.cost, "input_mp": price.input_mp, "output_mp": price.output_mp}
        echoed = figures if price.echoed else dict.fromkeys(figures)
        if entry.webhook_url:
            answer = {"id": task.id, "status": PENDING, "webhook_url": entry.webhook_url}
        else:
            answer = {"id": task.id, "polling_url": self._polling_url(task.id, task.region, entry.fault)}
        return json_reply(answer | echoed)

    def _polling_url(self, task_id: str, region: str, fault: Fault) -> str:
        if fault.polling_url is not None:
            return fault.polling_url.replace("{id}", quote(task_id))
        if fault.wrong_polling_host:
            region = next(other for other in REGIONS if other != region)
        return f"{self.polling_urls[region]}/v1/get_result?id={task_id}"

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        task_id = request.query.get("id")
        if not task_id:
            return refusal(422, missing("query", "id"))
        entry = self.world.tasks.get(task_id)
        fault = self.world.fault_for("poll", entry)
        await asyncio.sleep(fault.delay_seconds)
        if fault.drop:
            return dropped(request)
        body = self._poll_body(entry, fault)
        headers = self._rate_headers()
        if fault.replies:
            return scripted(fault, body=body, headers=headers)
        if body is None:
            return json_reply(task_body(task_id, NOT_FOUND), status=404, headers=headers)
        return json_reply(body, headers=headers)

    def _poll_body(self, entry: TaskEntry | None, fault: Fault) -> dict[str, object] | None:
        """The task's body as this host tells it; None when it does not know the task."""
        if entry is None or self.role != "poll" or entry.task.region != self.region:
            return None
        entry.polls += 1
        if entry.polls <= entry.fault.hidden_polls:
            return None
        if fault.status_body is not None:
            return task_body(entry.task.id, fault.status_body)
        body = self.world.poll_body(entry)
        result = body["result"]
        if fault.sample_url is not None and isinstance(result, dict):
            result["sample"] = fault.sample_url.replace("{url}", result["sample"])
        return body

    def _rate_headers(self) -> dict[str, str]:
        now = self.world.clock.now()
        second, used = self._window
        self._window = (int(now), used + 1 if int(now) == second else 1)
        left = max(0, _POLLS_PER_SECOND - self._window[1])
        return {
            "X-Ratelimit-Limit": str(_POLLS_PER_SECOND),
            "X-Ratelimit-Remaining": str(left),
            "X-Ratelimit-Reset": f"{int(now) + 1:.6f}",
            # BFL sends it with every 200: its presence is no throttle signal.
            "Retry-After": "1",
        }

    async def _credits(self, request: web.Request) -> web.StreamResponse:
        fault = self.world.faults.take("credits")
        if unusual := await _interrupt(request, fault):
            return unusual
        key = request.headers.get("x-key")
        if denied := authenticate(key, self.world.keys):
            return refusal(denied.status, denied.detail)
        return json_reply({"credits": self.world.account(key or "").credits})


async def _interrupt(request: web.Request, fault: Fault) -> web.Response | None:
    """Let the fault have its way; None when the usual answer follows."""
    await asyncio.sleep(fault.delay_seconds)
    if fault.drop:
        return dropped(request)
    return scripted(fault) if fault.replies else None


def _parsed(raw: bytes) -> dict[str, Any] | Refusal:
    """Read a JSON object, with FastAPI's words for what is none."""
    if not raw:
        return Refusal(422, missing("body"))
    try:
        body = json.loads(raw)
    except ValueError as error:
        position = getattr(error, "pos", 0)
        told = {"type": "json_invalid", "loc": ["body", position], "msg": "JSON decode error", "input": {}}
        return Refusal(422, [told | {"ctx": {"error": getattr(error, "msg", "Invalid encoding")}}])
    if not isinstance(body, dict):
        told = {"type": "model_attributes_type", "loc": ["body"], "input": body}
        return Refusal(422, [told | {"msg": "Input should be a valid dictionary or object to extract fields from"}])
    return body


def _wrong_verb(allowed: str) -> web.Response:
    return refusal(405, "Method Not Allowed", {"Allow": allowed})
