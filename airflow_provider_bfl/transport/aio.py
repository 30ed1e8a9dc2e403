# SPDX-License-Identifier: Apache-2.0
"""BFL over ``aiohttp``, for triggers and batches."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any, BinaryIO

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from airflow_provider_bfl.api import messages
from airflow_provider_bfl.api.messages import HttpReply, HttpRequest, PollFailure, PollResult, Submission
from airflow_provider_bfl.api.trust import is_public_address, private_address
from airflow_provider_bfl.transport.exchange import (
    Receiver,
    api_headers,
    clean_reply,
    describe,
    download_headers,
    env_proxy,
    lost_answer,
    must_be_public,
    never_sent,
    next_hop,
    undownloadable,
    unreachable,
)
from airflow_provider_bfl.transport.settings import (
    CHUNK_BYTES,
    MAX_REPLY_BYTES,
    MAX_RESULT_BYTES,
    Download,
    Settings,
)

_WIRE_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)

#: What certainly came before the first byte of the request: no address, no connection, no TLS.
_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


class AsyncBflClient:
    """
    One account over one connection pool; use it as an async context manager.

    The twin of :class:`airflow_provider_bfl.transport.sync.BflClient`: same methods, same errors.

    :param settings: Account, place and trust.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = _session(settings, aiohttp.TCPConnector(limit=0))
        self._proxies: dict[str, str | None] = {}

    async def __aenter__(self) -> AsyncBflClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        if "_public_session" in self.__dict__:
            await self._public_session.close()

    async def submit(self, model: str, body: Mapping[str, Any]) -> Submission:
        """Send the POST, once; see :meth:`BflClient.submit <airflow_provider_bfl.transport.sync.BflClient.submit>`."""
        request = messages.submit_request(self.settings.base_url, model, body)
        # A connection of its own, for the same reason as in the sync client.
        async with _session(self.settings, aiohttp.TCPConnector(force_close=True)) as session:
            try:
                reply = await self._exchange(session, request)
            except _NEVER_CONNECTED as error:
                raise never_sent(model, error) from None
            except _WIRE_ERRORS as error:
                raise lost_answer(model, error) from None
        return messages.read_submission(reply, model=model)

    async def poll(self, polling_url: str) -> PollResult | PollFailure:
        """Ask once for a result; see :meth:`BflClient.poll <airflow_provider_bfl.transport.sync.BflClient.poll>`."""
        try:
            reply = await self._exchange(self._session, messages.poll_request(polling_url))
        except _WIRE_ERRORS as error:
            return PollFailure(describe(error))
        return messages.read_poll(reply, generation_id=messages.generation_id_of(polling_url))

    async def credits(self) -> float:
        """Return the account's balance in credits; free."""
        try:
            reply = await self._exchange(self._session, messages.credits_request(self.settings.base_url))
        except _WIRE_ERRORS as error:
            raise unreachable(self.settings.base_url, error) from None
        return messages.read_credits(reply)

    async def download(self, url: str, sink: BinaryIO, *, max_bytes: int = MAX_RESULT_BYTES) -> Download:
        """
        Stream a result into ``sink``.

        See :meth:`BflClient.download <airflow_provider_bfl.transport.sync.BflClient.download>`. ``sink.write`` runs
        on the event loop, so the sink should be memory or a local file.
        """
        hop = 0
        try:
            while True:
                self.settings.trust.check_delivery_url(url)
                async with self._get(url) as response:
                    target = next_hop(response.status, response.headers.get("location"), url=url, hop=hop)
                    if target is None:
                        return await _receive(response, Receiver(sink, max_bytes=max_bytes))
                url, hop = target, hop + 1
        except _WIRE_ERRORS as error:
            raise undownloadable(error) from None

    @cached_property
    def _public_session(self) -> aiohttp.ClientSession:
        # Made when something is downloaded: a trigger never does.
        return _session(self.settings, aiohttp.TCPConnector(limit=0, resolver=_PublicResolver()))

    def _proxy(self, url: str) -> str | None:
        # Looking through the environment takes half as long as a poll itself, and the answer is the same for a host.
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = env_proxy(url)
        return self._proxies[origin]

    async def _exchange(self, session: aiohttp.ClientSession, request: HttpRequest) -> HttpReply:
        self.settings.trust.check_api_url(request.url)
        async with session.request(
            request.method,
            _verbatim(request.url),
            headers=api_headers(self.settings, request),
            data=request.body,
            proxy=self._proxy(request.url),
            allow_redirects=False,
        ) as response:
            body = await _read_capped(response)
            return clean_reply(self.settings, response.status, response.headers, body)

    def _get(self, url: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        session = self._public_session if must_be_public(self.settings, url) else self._session
        return session.get(
            _verbatim(url),
            headers=download_headers(),
            proxy=self._proxy(url),
            allow_redirects=False,
            auto_decompress=False,
        )


class _PublicResolver(AbstractResolver):
    """
    Looks up names and refuses those that lead to an address that is not public.

    aiohttp connects to what its resolver returns, so the address that is judged is the one that is used.
    """

    def __init__(self) -> None:
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See ``AbstractResolver``."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public_address(each["host"]):
                raise private_address(host, each["host"])
        return found

    async def close(self) -> None:
        """See ``AbstractResolver``."""
        await self._resolver.close()


def _verbatim(url: str) -> URL:
    # The URL that was judged is the URL that is requested.
    return URL(url, encoded=True)


def _session(settings: Settings, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    seconds = settings.timeout_seconds
    # trust_env would also send what .netrc says; the proxy is given with each request instead.
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=seconds, sock_read=seconds),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    missing = MAX_REPLY_BYTES
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        parts.append(chunk[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    return b"".join(parts)


async def _receive(response: aiohttp.ClientResponse, receiver: Receiver) -> Download:
    receiver.start(response.headers)
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        receiver.write(chunk)
    return receiver.finish()
