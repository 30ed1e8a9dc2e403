# SPDX-License-Identifier: Apache-2.0
"""Bodies of every format, built by hand, and a BFL whose deliveries are scripted."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import pytest

from airflow_provider_bfl.api.messages import Phase, PollResult
from airflow_provider_bfl.landing import Generation, Landed, Target, land
from airflow_provider_bfl.transport.settings import Download

SIGNATURE = "sig=CANARY-of-a-signed-url"
SAMPLE = f"https://delivery.eu.bfl.ai/results/abc/sample.png?se=2026&{SIGNATURE}"

RESULT = PollResult(id="gen-1", status="Ready", phase=Phase.READY, sample=SAMPLE, seed=42)
GENERATION = Generation(
    id="gen-1",
    model="flux-2-pro",
    region="eu",
    request={"prompt": "a red fox", "width": 64, "webhook_secret": "HUSH"},
    cost=3.5,
    submitted_at=1_700_000_000.0,
    task={"dag_id": "d", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "t", "map_index": -1},
)


def png(payload: bytes = b"pixels") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"caBX", b"c2pa manifest") + chunk(b"IDAT", payload) + chunk(b"IEND", b"")
    )


def jpeg() -> bytes:
    # The thumbnail in the metadata has an end marker of its own.
    application = b"\xff\xe1" + struct.pack(">H", 2 + 20) + b"Exif\0\0thumb\xff\xd9" + b"\0" * 7
    scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00" + b"\x12\xff\x00\x34" * 40
    return b"\xff\xd8" + application + scan + b"\xff\xd9"


def webp() -> bytes:
    chunk = b"VP8L" + struct.pack("<I", 40) + b"\x2f" * 40
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def mp4() -> bytes:
    large = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 16 + 200) + b"\x07" * 200
    return box(b"ftyp", b"isom\0\0\2\0isomiso2") + large + box(b"moov", b"\0" * 60)


@pytest.fixture
def bodies() -> dict[str, bytes]:
    """A whole body of each format BFL delivers."""
    return {"png": png(), "jpeg": jpeg(), "webp": webp(), "mp4": mp4()}


@pytest.fixture
def large_png() -> bytes:
    """A whole PNG that takes three parts to upload."""
    return png(bytes(range(256)) * (80 * 1024))


@dataclass
class Bfl:
    """
    One finished generation whose deliveries are scripted.

    :ivar deliveries: For each download a body, an error to raise, or a function of the sink; the last one repeats.
    """

    deliveries: list[bytes | Exception | Callable[[BinaryIO], None]]
    content_type: str | None = "image/png"
    ready_at: float | None = 1_700_000_003.0
    age_seconds: float | None = 4.5
    fresh: PollResult | None = None
    polls: int = 0
    downloads: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    now: float = 1_700_000_010.0
    result: PollResult = RESULT
    generation: Generation = GENERATION

    def poll(self) -> PollResult:
        self.polls += 1
        return self.fresh or self.result

    def download(self, url: str, sink: BinaryIO) -> Download:
        self.downloads.append(url)
        delivery = self.deliveries.pop(0) if len(self.deliveries) > 1 else self.deliveries[0]
        if isinstance(delivery, Exception):
            raise delivery
        if not isinstance(delivery, bytes):
            delivery(sink)
            pytest.fail("a scripted function raises")
        sink.write(delivery)
        sha256 = hashlib.sha256(delivery).hexdigest()
        return Download(len(delivery), sha256, self.content_type, self.ready_at, self.age_seconds)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def land(self, target: Target, **options: Any) -> Landed:
        return land(
            result=self.result,
            poll=self.poll,
            download=self.download,
            target=target,
            generation=self.generation,
            clock=lambda: self.now,
            sleep=self.sleep,
            **options,
        )

    def other(self, delivery: bytes) -> Bfl:
        """Return another generation."""
        return Bfl(
            deliveries=[delivery],
            result=replace(self.result, id="gen-2"),
            generation=replace(self.generation, id="gen-2"),
        )


@pytest.fixture
def bfl(bodies: dict[str, bytes]) -> Bfl:
    """A generation that delivers a PNG."""
    return Bfl(deliveries=[bodies["png"]])
