# SPDX-License-Identifier: Apache-2.0
"""Both clients behind one face, and servers that do to a connection what no HTTP library would."""

from __future__ import annotations

import asyncio
import datetime
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from airflow_provider_bfl.api.messages import PollFailure, PollResult, Submission
from airflow_provider_bfl.api.trust import Origin, Trust, configured_origin
from airflow_provider_bfl.simulator import Simulator
from airflow_provider_bfl.transport.settings import Download, Settings

KEY = "bfl_CANARYkey0123456789abcdef"

Call = Callable[[Any], Any]


class Client(Protocol):
    """What both clients do, as one blocking call each; ``talk`` makes several over one client."""

    def talk(self, settings: Settings, *calls: Call) -> list[Any]: ...


class SyncClient:
    def talk(self, settings: Settings, *calls: Call) -> list[Any]:
        from airflow_provider_bfl.transport.sync import BflClient

        with BflClient(settings) as client:
            return [call(client) for call in calls]


class AsyncClient:
    def talk(self, settings: Settings, *calls: Call) -> list[Any]:
        from airflow_provider_bfl.transport.aio import AsyncBflClient

        async def converse() -> list[Any]:
            async with AsyncBflClient(settings) as client:
                return [await call(client) for call in calls]

        return asyncio.run(converse())


@dataclass
class Bfl:
    """One account, asked through one of the clients."""

    client: Client
    settings: Settings

    def submit(self, model: str = "flux-2-pro", **body: Any) -> Submission:
        request = {"prompt": "a red kite over dunes"} | body
        submission: Submission = self.client.talk(self.settings, lambda client: client.submit(model, request))[0]
        return submission

    def poll(self, url: str) -> PollResult | PollFailure:
        answer: PollResult | PollFailure = self.client.talk(self.settings, lambda client: client.poll(url))[0]
        return answer

    def credits(self) -> float:
        balance: float = self.client.talk(self.settings, lambda client: client.credits())[0]
        return balance

    def download(self, url: str, **options: Any) -> tuple[Download, bytes]:
        sink = io.BytesIO()
        download = self.client.talk(self.settings, lambda client: client.download(url, sink, **options))[0]
        return download, sink.getvalue()


@pytest.fixture(params=[SyncClient, AsyncClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Client:
    made: Client = request.param()
    return made


@pytest.fixture
def bfl(client: Client, bfl_simulator: Simulator) -> Bfl:
    """The simulator, through each client."""
    return Bfl(client, settings_for(bfl_simulator))


def settings_for(simulator: Simulator) -> Settings:
    return Settings(
        api_key=KEY,
        base_url=simulator.url,
        trust=Trust(
            base=configured_origin(simulator.url, setting="host"),
            trusted_hosts=frozenset(configured_origin(host, setting="t") for host in simulator.trusted_hosts),
            delivery_hosts=frozenset(configured_origin(host, setting="d") for host in simulator.delivery_hosts),
        ),
        timeout_seconds=10.0,
    )


def reset(connection: socket.socket) -> None:
    """End the connection with a reset instead of a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Answer:
    """
    What a raw server does after it has read a request.

    :param data: The bytes it sends, whatever they are.
    :param then: ``keep`` the connection, ``close`` it, ``reset`` it, or ``hang`` without another byte.
    """

    data: bytes = b""
    then: str = "keep"


def ok(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """Return a complete and correct answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return Answer("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


@dataclass
class RawServer:
    """
    A server of bytes on a free port: answers in the given order, the last one again and again.

    :ivar requests: Every request as it arrived, with its body.
    :ivar connection_of: For each request the number of the connection it came over.
    """

    answers: list[Answer]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connection_of: list[int] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> RawServer:
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def settings(self, *, timeout_seconds: float = 10.0) -> Settings:
        """Return the settings of an account whose API and delivery host this is."""
        origin = configured_origin(self.url, setting="host")
        trust = Trust(base=origin, delivery_hosts=frozenset({origin}))
        return Settings(api_key=KEY, base_url=self.url, trust=trust, timeout_seconds=timeout_seconds)

    def request_lines(self) -> list[bytes]:
        return [request.split(b"\r\n")[0] for request in self.requests]

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with ExitStack() as stack:
            stack.enter_context(suppress(OSError))
            stack.enter_context(connection)
            if self.tls:
                connection.settimeout(5)
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            connection.settimeout(0.1)
            while (request := self._read(connection)) is not None:
                answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                self.requests.append(request)
                self.connection_of.append(number)
                connection.sendall(answer.data)
                if answer.then == "hang":
                    self._done.wait(30)
                if answer.then == "reset":
                    reset(connection)
                if answer.then != "keep":
                    return

    def _read(self, connection: socket.socket) -> bytes | None:
        data = b""
        while not self._done.is_set():
            head, end, body = data.partition(b"\r\n\r\n")
            if end and len(body) >= _declared(head):
                return data
            try:
                part = connection.recv(65536)
            except TimeoutError:
                continue
            if not part:
                return None
            data += part
        return None


def _declared(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


class Serve(Protocol):
    def __call__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> RawServer: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start raw servers that are stopped after the test."""
    running: list[RawServer] = []

    def start(*answers: Answer, tls: ssl.SSLContext | None = None) -> RawServer:
        server = RawServer(list(answers), tls).__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__()


@dataclass
class SelfSigned:
    """The TLS side of a server that nobody vouches for, and the file of its key and certificate."""

    context: ssl.SSLContext
    pem: Path


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    """Return the TLS side of a server that nobody vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return SelfSigned(context, pem)


@pytest.fixture
def closed_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Return a port of this machine that does not answer a connection attempt: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port: int = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
            waiting.append(each)
        yield port
        for each in waiting:
            each.close()


def settings_at(port: int, *, timeout_seconds: float = 10.0) -> Settings:
    """Return settings whose API is at a port of this machine."""
    origin = Origin("127.0.0.1", port, "http")
    trust = Trust(base=origin, delivery_hosts=frozenset({origin}))
    return Settings(api_key=KEY, base_url=f"http://127.0.0.1:{port}", trust=trust, timeout_seconds=timeout_seconds)
