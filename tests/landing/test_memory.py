# SPDX-License-Identifier: Apache-2.0
"""A large result costs disk, not memory: measured in a process of its own, so that the servers do not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.storage_servers import GCSServer, S3Server

#: What the growth of the resident set is held to for a body of any size.
MAX_GROWTH_MB = 64

SCRIPT = """
import hashlib, io, sys, threading, zlib
from pathlib import Path
from airflow_provider_bfl.api.messages import Phase, PollResult
from airflow_provider_bfl.landing import Generation, land, open_target
from airflow_provider_bfl.transport.settings import Download

destination, conn_id, megabytes = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
HEAD = b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0\\0\\0\\0IHDRcrc!"
TAIL = b"\\0\\0\\0\\0IEND\\xaeB`\\x82"
CHUNK = bytes(range(256)) * 1024

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def delivery(megabytes):
    yield HEAD
    for _ in range(megabytes):
        yield (1024 * 1024).to_bytes(4, "big") + b"IDAT"
        for _ in range(4):
            yield CHUNK
        yield b"crc!"
    yield TAIL

def run(name, megabytes):
    def download(url, sink):
        digest, size = hashlib.sha256(), 0
        for chunk in delivery(megabytes):
            sink.write(chunk); digest.update(chunk); size += len(chunk)
        return Download(size, digest.hexdigest(), "image/png")
    ready = PollResult(id=name, status="Ready", phase=Phase.READY, sample="https://delivery.eu.bfl.ai/x")
    target = open_target(destination, storage_conn_id=conn_id)
    return land(
        result=ready, poll=lambda: ready, download=download, target=target, generation=Generation(id=name)
    )

run("warm-up", 1)
before, peak, done = pages(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, pages())

watcher = threading.Thread(target=watch)
watcher.start()
landed = run("large", megabytes)
done.set(); watcher.join()
print("RESULT", landed.size, (peak - before) // 1024**2)
"""


def measure(destination: str, conn_id: str, megabytes: int, scratch: Path) -> tuple[int, int]:
    """Return the bytes landed and the growth of the resident set in MB."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, destination, conn_id, str(megabytes)],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    size, growth = next(line for line in result.stdout.splitlines() if line.startswith("RESULT")).split()[1:]
    return int(size), int(growth)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident set is read from /proc")
class TestALargeResultIsNotHeldInMemory:
    @pytest.mark.parametrize("megabytes", [160, pytest.param(500, marks=pytest.mark.slow)])
    def test_on_its_way_to_s3(self, s3_server: S3Server, tmp_path: Path, megabytes: int) -> None:
        bucket = s3_server.new_bucket()
        size, growth = measure(f"s3://{bucket}/", s3_server.conn_id, megabytes, tmp_path)
        try:
            assert s3_server.client.head_object(Bucket=bucket, Key="large.png")["ContentLength"] == size
        finally:
            s3_server.client.delete_object(Bucket=bucket, Key="large.png")
        assert growth <= MAX_GROWTH_MB

    def test_on_its_way_to_google(self, gcs_server: GCSServer, tmp_path: Path) -> None:
        bucket = gcs_server.new_bucket()
        size, growth = measure(f"gs://{bucket}/", gcs_server.conn_id, 160, tmp_path)
        blob = gcs_server.client().bucket(bucket).get_blob("large.png")
        assert blob.size == size
        blob.delete()
        assert growth <= MAX_GROWTH_MB

    def test_on_its_way_to_a_file(self, tmp_path: Path) -> None:
        size, growth = measure(f"file://{tmp_path}/", "", 160, tmp_path)
        assert (tmp_path / "large.png").stat().st_size == size
        assert growth <= MAX_GROWTH_MB
