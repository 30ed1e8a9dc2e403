# SPDX-License-Identifier: Apache-2.0
"""BFL over ``requests``, for workers."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any, BinaryIO

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from airflow_provider_bfl.api import messages
from airflow_provider_bfl.api.messages import HttpReply, HttpRequest, PollFailure, PollResult, Submission
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
from airflow_provider_bfl.transport.public import PublicAdapter
from airflow_provider_bfl.transport.settings import (
    CHUNK_BYTES,
    MAX_REPLY_BYTES,
    MAX_RESULT_BYTES,
    Download,
    Settings,
)
from airflow_provider_bfl.transport.verbatim import VerbatimAdapter

_WIRE_ERRORS = (requests.RequestException, HTTPError, OSError)


class BflClient:
    """
    One account over one connection pool; use it as a context manager.

    :param settings: Account, place and trust.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._adapter = VerbatimAdapter()
        self._public_adapter = PublicAdapter()

    def __enter__(self) -> BflClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._adapter.close()
        self._public_adapter.close()

    def submit(self, model: str, body: Mapping[str, Any]) -> Submission:
        """
        Send the POST, once.

        :raises BflServiceError: the connection was never made: not billed, may be repeated at once.
        :raises BflAmbiguousSubmitError: the answer was lost: may be billed.
        :raises BflError: see :func:`~airflow_provider_bfl.api.messages.read_submission`.
        """
        request = messages.submit_request(self.settings.base_url, model, body)
        # A connection of its own: on a pooled one that the server has just closed, a request that never arrived
        # looks the same as an answer that was lost.
        adapter = VerbatimAdapter()
        try:
            reply = self._exchange(adapter, request)
        except _WIRE_ERRORS as error:
            failure = never_sent if _was_never_connected(error) else lost_answer
            raise failure(model, error) from None
        finally:
            adapter.close()
        return messages.read_submission(reply, model=model)

    def poll(self, polling_url: str) -> PollResult | PollFailure:
        """
        Ask once for a result.

        :raises BflUntrustedUrlError: the URL may not get the key; nothing was sent.
        """
        try:
            reply = self._exchange(self._adapter, messages.poll_request(polling_url))
        except _WIRE_ERRORS as error:
            return PollFailure(describe(error))
        return messages.read_poll(reply, generation_id=messages.generation_id_of(polling_url))

    def credits(self) -> float:
        """
        Return the account's balance in credits; free.

        :raises BflAuthenticationError: the key was refused.
        :raises BflServiceError: no balance could be had.
        """
        try:
            reply = self._exchange(self._adapter, messages.credits_request(self.settings.base_url))
        except _WIRE_ERRORS as error:
            raise unreachable(self.settings.base_url, error) from None
        return messages.read_credits(reply)

    def download(self, url: str, sink: BinaryIO, *, max_bytes: int = MAX_RESULT_BYTES) -> Download:
        """
        Stream a result into ``sink`` without the key, following at most three checked redirects.

        :raises BflUntrustedUrlError: a hop may not be downloaded from, or its name leads to an address that is not
            public; nothing was sent to it.
        :raises BflResultExpiredError: the delivery server refused the signature.
        :raises BflDownloadError: the body could not be had whole.
        """
        hop = 0
        try:
            while True:
                self.settings.trust.check_delivery_url(url)
                adapter = self._public_adapter if must_be_public(self.settings, url) else self._adapter
                with self._send(adapter, "GET", url, headers=download_headers()) as response:
                    target = next_hop(response.status_code, response.headers.get("location"), url=url, hop=hop)
                    if target is None:
                        return _receive(response, Receiver(sink, max_bytes=max_bytes))
                url, hop = target, hop + 1
        except _WIRE_ERRORS as error:
            raise undownloadable(error) from None

    def _exchange(self, adapter: VerbatimAdapter, request: HttpRequest) -> HttpReply:
        self.settings.trust.check_api_url(request.url)
        headers = api_headers(self.settings, request)
        with self._send(adapter, request.method, request.url, headers=headers, body=request.body) as response:
            body = response.raw.read(MAX_REPLY_BYTES, decode_content=True)
            return clean_reply(self.settings, response.status_code, response.headers, body)

    def _send(
        self, adapter: VerbatimAdapter, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> requests.Response:
        prepared = requests.Request(method, url, headers=dict(headers), data=body).prepare()
        proxy = env_proxy(url)
        # The URL that was judged is the URL that is requested: requests would re-encode it.
        prepared.url = url
        # Not through a session: it would keep cookies, read .netrc, and look into redirects that are not followed.
        return adapter.send(
            prepared,
            stream=True,
            timeout=self.settings.timeout_seconds,
            verify=_ca_bundle(),
            proxies={"https": proxy} if proxy else {},
        )


def _ca_bundle() -> str | bool:
    # The variables that requests obeys, True being its own bundle.
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _receive(response: requests.Response, receiver: Receiver) -> Download:
    receiver.start(response.headers)
    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
        receiver.write(chunk)
    return receiver.finish()


def _was_never_connected(error: BaseException) -> bool:
    # Only what certainly came before the first byte of the request. A TLS error may also come later, so of those
    # only the refused certificate counts.
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NewConnectionError | ConnectTimeoutError | ssl.SSLCertVerificationError):
            return True
        first = seen.args[0] if seen.args else None
        inner = getattr(seen, "reason", None) or (first if isinstance(first, BaseException) else None)
        seen = inner if isinstance(inner, BaseException) else None
    return False
