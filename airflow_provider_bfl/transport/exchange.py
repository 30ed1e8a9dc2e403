# SPDX-License-Identifier: Apache-2.0
"""
What sync and async do alike around one exchange: headers, clean replies, the judgement of a download's answer.

Pure, like ``api``; it lives here because only transports need it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_bfl.api.messages import HttpReply, HttpRequest
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflDownloadError,
    BflResultExpiredError,
    BflResultTooLargeError,
    BflServiceError,
)
from airflow_provider_bfl.transport.settings import (
    KEY_HEADER,
    MAX_DOWNLOAD_HOPS,
    USER_AGENT,
    Download,
    Settings,
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def api_headers(settings: Settings, request: HttpRequest) -> dict[str, str]:
    """Return the headers of a request to BFL's API: the only place where the key is put on a request."""
    headers = {
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        KEY_HEADER: settings.api_key,
    }
    return headers if request.body is None else headers | {"content-type": "application/json"}


def download_headers() -> dict[str, str]:
    """Return the headers of a download: no key, and no compression, so the bytes are the stored ones."""
    return {"user-agent": USER_AGENT, "accept-encoding": "identity"}


def env_proxy(url: str) -> str | None:
    """
    Return the proxy that the environment names for ``url``, or None.

    Plain http is for this machine only (see ``trust``), so it never takes one: the key would leave in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get("https") or proxies.get("all")


def must_be_public(settings: Settings, url: str) -> bool:
    """
    Return whether a download has to end at a public address, wherever the name of its host leads.

    A configured delivery host may be in the user's own network. A proxy looks names up itself, so with one there is
    nothing to judge here.
    """
    return env_proxy(url) is None and not settings.trust.may_be_private(url)


def clean_reply(settings: Settings, status: int, headers: Mapping[str, str], body: bytes) -> HttpReply:
    """Return the reply with the key cut out of it, so that a server that echoes it cannot put it into a log."""
    key = settings.api_key
    return HttpReply(
        status=status,
        headers={name.lower(): value.replace(key, "***") for name, value in headers.items()},
        body=body.replace(key.encode(), b"***"),
    )


def describe(error: BaseException) -> str:
    """
    Return what went wrong on the wire without the URL that libraries write into their messages.

    A signed URL is a credential, so only the type of the innermost error and the system's own words are used.
    """
    inner = error
    while (deeper := getattr(inner, "reason", None) or inner.__cause__ or inner.__context__) is not None:
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    words = inner.strerror if isinstance(inner, OSError) and inner.strerror else ""
    return f"{type(inner).__name__}: {words}" if words else type(inner).__name__


def never_sent(model: str, error: BaseException) -> BflServiceError:
    """Return the error of a POST whose connection was never made: it may be repeated at once."""
    message = f"The POST to {model} was not sent: no connection to BFL ({describe(error)}). Nothing was billed."
    return BflServiceError(message, model=model, repeatable=True)


def lost_answer(model: str, error: BaseException) -> BflAmbiguousSubmitError:
    """Return the error of a POST that was sent and whose answer never came."""
    message = (
        f"The POST to {model} was sent and its answer was lost ({describe(error)}): BFL may have accepted and "
        "billed the generation. A retry follows on_ambiguous_submit."
    )
    return BflAmbiguousSubmitError(message, model=model)


def unreachable(base_url: str, error: BaseException) -> BflServiceError:
    """Return the error of a question that costs nothing and got no answer."""
    return BflServiceError(f"BFL at {base_url} could not be reached ({describe(error)}).")


def undownloadable(error: BaseException) -> BflDownloadError:
    """Return the error of a download that broke on the wire."""
    return BflDownloadError(f"The result could not be downloaded ({describe(error)}).")


def next_hop(status: int, location: str | None, *, url: str, hop: int) -> str | None:
    """
    Return where a download goes on, or None when this answer is the result.

    :raises BflResultExpiredError: 403 (or 410): the delivery server's word on an expired signature.
    :raises BflDownloadError: any other status, or a fourth redirect.
    """
    if status == 200:
        return None
    if status in _REDIRECTS and location:
        if hop >= MAX_DOWNLOAD_HOPS:
            raise BflDownloadError(f"The result's URL redirects more than {MAX_DOWNLOAD_HOPS} times.")
        try:
            return urljoin(url, location)
        except ValueError:
            raise BflDownloadError("The delivery server redirected to something that is not a URL.") from None
    if status in (403, 410):
        raise BflResultExpiredError(f"The delivery server refused the signed URL with {status}: it has expired.")
    raise BflDownloadError(f"The delivery server answered {status}.")


class Receiver:
    """
    Writes a body to a sink while hashing it, and stops at a cap.

    :param max_bytes: The most that is accepted; more is an error, not a truncation.
    """

    def __init__(self, sink: BinaryIO, *, max_bytes: int) -> None:
        self._sink = sink
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._headers: dict[str, str] = {}
        self._declared: int | None = None

    def start(self, headers: Mapping[str, str]) -> None:
        """Take the answer's headers; a body declared larger than the cap is refused before any of it is read."""
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._declared = _declared_length(self._headers)
        declared = self._declared
        if declared is not None and declared > self._max_bytes:
            raise BflResultTooLargeError(
                f"The result is {declared} bytes, more than the {self._max_bytes} that are accepted."
            )

    def write(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise BflResultTooLargeError(f"The result is more than the {self._max_bytes} bytes that are accepted.")
        self._hash.update(chunk)
        self._sink.write(chunk)

    def finish(self) -> Download:
        """Return the facts of the whole body, or raise when it is shorter or longer than was declared."""
        if self._declared is not None and self._declared != self._size:
            raise BflDownloadError(f"The result was cut: {self._size} of {self._declared} bytes arrived.")
        ready_at, answered_at = _http_time(self._headers, "last-modified"), _http_time(self._headers, "date")
        return Download(
            size=self._size,
            sha256=self._hash.hexdigest(),
            content_type=self._headers.get("content-type"),
            ready_at=ready_at,
            age_seconds=max(0.0, answered_at - ready_at) if ready_at and answered_at else None,
        )


def _declared_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _http_time(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return parsedate_to_datetime(headers[name]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
