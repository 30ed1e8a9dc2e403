# SPDX-License-Identifier: Apache-2.0
"""
``requests`` that asks for exactly the URL it was given.

A signature covers bytes, and ``urllib3`` rewrites percent-encoding that it would have written otherwise (``%2b``
becomes ``%2B``). It has no switch for that, so it is told the path alone and the whole target is put back where the
request line is written. That also keeps signed queries out of its log and its messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

_target: ContextVar[str] = ContextVar("target")


class _PlainConnection(HTTPConnection):
    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().request(method, _target.get(), *args, **kwargs)


class TlsConnection(HTTPSConnection):
    """Asks for the target of the running ``send``."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().request(method, _target.get(), *args, **kwargs)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = TlsConnection


class VerbatimAdapter(HTTPAdapter):
    """Sends the path and query of each URL unchanged; plain http must not be given a proxy."""

    pools: ClassVar[Mapping[str, type[HTTPConnectionPool]]] = {"http": _PlainPool, "https": _TlsPool}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See ``HTTPAdapter``."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = dict(self.pools)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See ``HTTPAdapter``."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = dict(self.pools)
        return manager

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """Return what ``urllib3`` is told, logs and puts into messages: no query."""
        return "/" + urlsplit(request.url or "").path.lstrip("/")

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """See ``HTTPAdapter``."""
        token = _target.set(_target_of(request.url or ""))
        try:
            return super().send(request, *args, **kwargs)
        finally:
            _target.reset(token)


def _target_of(url: str) -> str:
    parts = urlsplit(url)
    return url[len(parts.scheme) + len("://") + len(parts.netloc) :] or "/"
