# SPDX-License-Identifier: Apache-2.0
"""
``requests`` that talks to the public internet alone.

A delivery host whose name leads into the worker's own network is either a mistake or an attempt to reach what only the
worker can. The address is judged on the connected socket, before the first byte is sent: a second look-up could get
another answer than the connection did.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import ClassVar

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_bfl.api.trust import is_public_address, private_address
from airflow_provider_bfl.transport.verbatim import TlsConnection, VerbatimAdapter


class _PublicConnection(TlsConnection):
    # The one step of urllib3 between the TCP connection and the TLS handshake, which would name the host.
    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        address = connected.getpeername()[0]
        if not is_public_address(address):
            connected.close()
            raise private_address(self.host, address)
        return connected


class _PublicPool(HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


class PublicAdapter(VerbatimAdapter):
    """Sends https to public addresses and nothing else; it must not be given a proxy."""

    pools: ClassVar[Mapping[str, type[HTTPConnectionPool]]] = {"https": _PublicPool}
