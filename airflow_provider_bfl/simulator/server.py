# SPDX-License-Identifier: Apache-2.0
"""
All listeners of the simulator in one event loop, each on its own port of the loopback address.

BFL tells its roles apart by host name; here a port stands for a name, so that a client that confuses two hosts fails
as it would against BFL.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from airflow_provider_bfl.simulator.accounts import fingerprint
from airflow_provider_bfl.simulator.api_host import ApiHost
from airflow_provider_bfl.simulator.control import Control
from airflow_provider_bfl.simulator.delivery_host import DeliveryHost
from airflow_provider_bfl.simulator.ledger import Leak, RequestRow, blot, find_leaks
from airflow_provider_bfl.simulator.replies import Ended
from airflow_provider_bfl.simulator.webhooks import Webhooks
from airflow_provider_bfl.simulator.world import World

ADDRESS = "127.0.0.1"

#: In the order in which a fixed first port is counted up.
LISTENERS = (
    "submit:global",
    "submit:eu",
    "submit:us",
    "poll:eu",
    "poll:us",
    "delivery:eu",
    "delivery:us",
    "control",
    "canary",
)

#: Two 20 MB images in base64 and then some, the most BFL takes in a request.
_MAX_REQUEST_BYTES = 256 << 20
_BACKLOG = 1024
_CANARY_BODY_BYTES = 64 << 10

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Watched:
    """A listener whose requests are written into the ledger and searched for keys."""

    world: World
    role: str
    host: str
    answer: Answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        arrived_at = self.world.clock.now()
        leaks = await self._leaks(request, arrived_at)
        if leaks and self.role == "delivery":
            response: web.StreamResponse = web.Response(status=400, text="This request carries an API key.\n")
        else:
            response = await self.answer(request)
        status = response.told_status if isinstance(response, Ended) else response.status
        key = request.headers.get("x-key")
        self.world.ledger.record(
            RequestRow(
                time=arrived_at,
                role=self.role,
                host=self.host,
                method=request.method,
                path=blot(request.raw_path, self.world.seen_keys),
                key=fingerprint(key) if key else None,
                status=status,
                headers=self._blotted_headers(request) if self.role == "canary" else {},
            )
        )
        return response

    async def _leaks(self, request: web.Request, now: float) -> list[Leak]:
        body = ""
        if self.role == "canary":
            body = (await request.content.read(_CANARY_BODY_BYTES)).decode(errors="replace")
        places = find_leaks(
            role=self.role,
            path=request.raw_path,
            headers=request.headers,
            body=body,
            keys=self.world.seen_keys,
        )
        path = blot(request.raw_path, self.world.seen_keys)
        leaks = [Leak(now, where, self.role, self.host, path) for where in places]
        self.world.ledger.leaks += leaks
        return leaks

    def _blotted_headers(self, request: web.Request) -> Mapping[str, str]:
        return {name: blot(value, self.world.seen_keys) for name, value in request.headers.items()}


class Server:
    """
    The simulator's sockets.

    :param world: The service to serve.
    :param port: First port, the listeners taking the following ones in the order of ``LISTENERS``; 0 takes free ones.
    """

    def __init__(self, world: World, *, port: int = 0) -> None:
        self._world = world
        self._port = port
        self._webhooks = Webhooks(world)
        self._runners: list[web.AppRunner] = []
        self.addresses: dict[str, str] = {}

    async def start(self) -> None:
        """
        Bind every listener, then serve.

        :raises OSError: when a fixed port is taken; nothing is left listening.
        """
        sockets: dict[str, socket.socket] = {}
        try:
            for index, name in enumerate(LISTENERS):
                sockets[name] = _bound(self._port + index if self._port else 0)
        except OSError:
            for opened in sockets.values():
                opened.close()
            raise
        self.addresses.update({name: f"http://{ADDRESS}:{sock.getsockname()[1]}" for name, sock in sockets.items()})
        self._world.delivery_urls.update(self._of_role("delivery"))
        for name, sock in sockets.items():
            await self._serve(name, sock)

    async def stop(self) -> None:
        """Close every connection and listener."""
        await self._webhooks.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))

    def _of_role(self, role: str) -> dict[str, str]:
        prefix = f"{role}:"
        return {name.removeprefix(prefix): url for name, url in self.addresses.items() if name.startswith(prefix)}

    async def _serve(self, name: str, sock: socket.socket) -> None:
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._listener(name))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()

    def _listener(self, name: str) -> Answer:
        role, _, host = name.partition(":")
        if role == "control":
            return Control(self._world, self.addresses).answer
        if role == "canary":
            return Watched(self._world, role, role, _greet).handle
        if role == "delivery":
            return Watched(self._world, role, host, DeliveryHost(self._world, host).answer).handle
        api = ApiHost(self._world, role, host, self._of_role("poll"), self._webhooks)
        return Watched(self._world, role, host, api.answer).handle


async def _greet(request: web.Request) -> web.Response:
    """The canary's answer: harmless, and nothing a client could take for BFL's."""
    return web.Response(text="This host is none of BFL's.\n")


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((ADDRESS, port))
    except OSError:
        sock.close()
        raise
    return sock
