# SPDX-License-Identifier: Apache-2.0
"""A delivery host may have a name that anybody can point anywhere; a download must not follow it into a network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_bfl.api import trust
from airflow_provider_bfl.api.trust import Origin, Trust
from airflow_provider_bfl.exceptions import BflDownloadError, BflPermanentError, BflUntrustedUrlError
from airflow_provider_bfl.transport.exchange import must_be_public
from airflow_provider_bfl.transport.settings import Settings

from .conftest import KEY, Answer, Bfl, Client, Serve, ok

HOST = "delivery.us4.bfl.ai"
URL = f"https://{HOST}/durable/sample.jpeg?se=x&sig=CANARYsignature"


class Listener:
    """A server in the private network: it keeps what arrives and never answers."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, after everything that was sent has been read."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(5)
                    self.received.append(connection.recv(65536))


class FakeNames:
    """``getaddrinfo``, for which each of BFL's names leads to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.addresses = [("127.0.0.1", port)]
        self.lookups: list[str] = []
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not str(name).endswith(("bfl.ai", "windows.net")):
            return self._real(host, port, *args, **kwargs)
        self.lookups.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def names(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> FakeNames:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    fake = FakeNames(listener.port)
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return fake


def settings(**trusting: Any) -> Settings:
    return Settings(api_key=KEY, base_url="https://api.bfl.ai", trust=Trust(**trusting), timeout_seconds=3.0)


class TestADeliveryHostInAPrivateNetwork:
    def test_is_sent_nothing(self, client: Client, names: FakeNames, listener: Listener) -> None:
        with pytest.raises(BflUntrustedUrlError) as caught:
            Bfl(client, settings()).download(URL)

        listener.close()
        assert b"".join(listener.received) == b""
        assert "127.0.0.1" in str(caught.value)
        assert "delivery_hosts" in str(caught.value)
        assert "CANARY" not in str(caught.value)
        assert isinstance(caught.value, BflPermanentError)

    def test_would_have_been_sent_something_without_the_check(
        self, client: Client, names: FakeNames, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_bfl.transport.public.is_public_address", lambda address: True)
        monkeypatch.setattr("airflow_provider_bfl.transport.aio.is_public_address", lambda address: True)

        with pytest.raises(BflDownloadError):
            Bfl(client, settings()).download(URL)

        listener.close()
        assert HOST.encode() in b"".join(listener.received), "the TLS handshake names the host"

    def test_is_used_when_it_was_configured(self, client: Client, names: FakeNames, listener: Listener) -> None:
        with pytest.raises(BflDownloadError):
            Bfl(client, settings(delivery_hosts=frozenset({Origin(HOST)}))).download(URL)

        listener.close()
        assert HOST.encode() in b"".join(listener.received)

    def test_is_found_out_after_a_redirect_too(
        self, client: Client, names: FakeNames, listener: Listener, serve: Serve
    ) -> None:
        server = serve(ok(b"", f"Location: {URL}", status="302 Found"))

        with pytest.raises(BflUntrustedUrlError):
            Bfl(client, server.settings()).download(f"{server.url}/x")

        listener.close()
        assert (len(server.requests), b"".join(listener.received)) == (1, b"")

    def test_is_looked_up_once_so_that_no_second_answer_can_differ(self, client: Client, names: FakeNames) -> None:
        with pytest.raises(BflUntrustedUrlError):
            Bfl(client, settings()).download(URL)
        assert names.lookups == [HOST]

    def test_does_not_hide_behind_an_address_that_does_not_answer(
        self, client: Client, names: FakeNames, listener: Listener, monkeypatch: pytest.MonkeyPatch, closed_port: int
    ) -> None:
        # The first address plays the public one; what is connected in the end is the second.
        names.addresses = [("127.0.0.2", closed_port), ("127.0.0.1", listener.port)]
        for module in ("public", "aio"):
            path = f"airflow_provider_bfl.transport.{module}.is_public_address"
            monkeypatch.setattr(path, lambda address: address == "127.0.0.2")

        with pytest.raises(BflUntrustedUrlError):
            Bfl(client, settings()).download(URL)

        listener.close()
        assert b"".join(listener.received) == b""


class TestAProxy:
    def test_looks_names_up_itself_so_nothing_is_judged_here(
        self, client: Client, names: FakeNames, listener: Listener, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(Answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "close"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("https_proxy", proxy.url)

        with pytest.raises(BflDownloadError):
            Bfl(client, settings()).download(URL)

        listener.close()
        assert [line.split()[:2] for line in proxy.request_lines()] == [[b"CONNECT", f"{HOST}:443".encode()]]
        assert (names.lookups, listener.received) == ([], [])


class TestWhichDownloadsAreJudged:
    @pytest.mark.parametrize(
        ("url", "judged"),
        [
            (URL, True),
            ("https://bfldeliveryprodeu4.blob.core.windows.net/results/x", True),
            ("https://cache.example/x", False),
            ("https://cache.example:444/x", True),
        ],
    )
    def test_all_but_those_of_configured_hosts(self, names: FakeNames, url: str, judged: bool) -> None:
        assert must_be_public(settings(delivery_hosts=frozenset({Origin("cache.example")})), url) is judged

    def test_a_host_that_gets_the_key_is_not_configured_for_downloads(self, names: FakeNames) -> None:
        trusting = settings(trusted_hosts=frozenset({Origin(HOST)}), base=Origin(HOST))
        assert must_be_public(trusting, URL)


class TestPublicAddresses:
    @pytest.mark.parametrize(
        "address",
        ["20.60.1.2", "8.8.8.8", "2603:1030::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
    )
    def test_are_these(self, address: str) -> None:
        assert trust.is_public_address(address)

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
            "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
            "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
            "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:a00:1::1", "", "localhost", "/run/socket",
        ],
    )  # fmt: skip
    def test_are_none_of_these(self, address: str) -> None:
        assert not trust.is_public_address(address)
