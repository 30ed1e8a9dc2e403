# SPDX-License-Identifier: Apache-2.0
"""The delivery hosts: signed results, streamed, ranged, and spoiled when a fault says so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from airflow_provider_bfl.simulator.delivery import (
    CONTENT_TYPES,
    NO_SUCH_BLOB,
    XmlError,
    blob_id_in,
    blob_path,
    expired,
    refuse,
)
from airflow_provider_bfl.simulator.faults import Fault
from airflow_provider_bfl.simulator.images import draw
from airflow_provider_bfl.simulator.padding import Padded, pad
from airflow_provider_bfl.simulator.replies import Ended, dropped, scripted
from airflow_provider_bfl.simulator.tasks import READY
from airflow_provider_bfl.simulator.video import clip
from airflow_provider_bfl.simulator.world import TaskEntry, World

_SLICES_PER_SECOND = 20
_SEND_BUFFER_BYTES = 1 << 20


@dataclass
class DeliveryHost:
    """
    One delivery host.

    :param world: The service behind it.
    :param region: It stores only this cluster's results.
    """

    world: World
    region: str

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve a result to whoever holds its signed URL, and nothing else."""
        if request.method not in {"GET", "HEAD"}:
            return _refused(XmlError(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb."))
        path, _, query = request.raw_path.partition("?")
        entry = self.world.tasks.get(self.world.blobs.get(blob_id_in(path) or "", ""))
        if entry is None or not self._stores(entry, path):
            return _refused(NO_SUCH_BLOB)
        fault = self.world.fault_for("delivery", entry)
        await asyncio.sleep(fault.delay_seconds)
        if fault.drop:
            return dropped(request)
        if fault.replies:
            return scripted(fault)
        now = self.world.clock.now()
        content_type = CONTENT_TYPES[entry.task.artwork.format]
        denied = refuse(path, query, now=now, content_type=content_type, secret=self.world.secret)
        if fault.expired or denied:
            return _refused(denied or expired(now, now - 1))
        return await self._serve(request, entry, fault, fault.content_type or content_type)

    def _stores(self, entry: TaskEntry, path: str) -> bool:
        task = entry.task
        ready = task.finished(self.world.clock.now()) and task.outcome.status == READY
        return ready and task.region == self.region and path == blob_path(task)

    async def _serve(
        self, request: web.Request, entry: TaskEntry, fault: Fault, content_type: str
    ) -> web.StreamResponse:
        content = fault.content if fault.content is not None else await asyncio.to_thread(_contents, entry)
        headers = _headers(entry, content_type)
        size_bytes = fault.body_bytes or entry.fault.body_bytes
        if size_bytes:
            padded = pad(content, entry.task.artwork.format, size_bytes)
        else:
            padded = Padded(content, (), b"", entry.task.artwork.format)
            # The storage service has no checksum of blobs that were uploaded in blocks, the large ones.
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        span = _span(request, padded.size_bytes)
        if span is None:
            return _refused(XmlError(416, "InvalidRange", "The range specified is invalid for the current size."))
        status = 200 if span == (0, padded.size_bytes) else 206
        if status == 206:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{padded.size_bytes}"
        headers |= fault.headers
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers | {"Content-Length": str(span[1] - span[0])})
        try:
            return await _send(request, status, headers, padded, span, fault)
        except ConnectionError:
            # The client has enough and went away, as one with a byte cap does.
            return Ended(told_status=status)


def _contents(entry: TaskEntry) -> bytes:
    artwork = entry.task.artwork
    return clip(artwork, seconds=entry.clip_seconds) if artwork.format == "mp4" else draw(artwork)


def _headers(entry: TaskEntry, content_type: str) -> dict[str, str]:
    return {
        "Content-Type": content_type,
        "ETag": f'"0x{hashlib.sha256(entry.task.id.encode()).hexdigest()[:15].upper()}"',
        "Last-Modified": formatdate(entry.task.finishes_at, usegmt=True),
        "Accept-Ranges": "bytes",
        "Server": "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-version": "2024-11-04",
    }


def _refused(error: XmlError) -> web.Response:
    return web.Response(
        status=error.status,
        body=error.body.encode(),
        headers={"Content-Type": "application/xml", "x-ms-error-code": error.code},
    )


def _span(request: web.Request, size_bytes: int) -> tuple[int, int] | None:
    """The bytes asked for, as start and end; None for a range outside the body."""
    try:
        wanted = request.http_range
    except ValueError:
        return None
    start, stop, _ = wanted.indices(size_bytes)
    return (start, stop) if start < stop or size_bytes == 0 else None


def _cut(pieces: Iterator[bytes], start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes from start to stop."""
    position = 0
    for piece in pieces:
        wanted = piece[max(0, start - position) : max(0, stop - position)]
        position += len(piece)
        if wanted:
            yield wanted
        if position >= stop:
            return


async def _send(
    request: web.Request,
    status: int,
    headers: Mapping[str, str],
    body: Padded,
    span: tuple[int, int],
    fault: Fault,
) -> web.StreamResponse:
    """Send a body the way the fault wants it: slowly, cut off, or with its end told in another way."""
    start, stop = span
    sent_stop = stop if fault.cut_after is None else start + int((stop - start) * fault.cut_after)
    pieces = _paced(_cut(body.pieces(), start, sent_stop), fault.bytes_per_second)
    if fault.framing == "close":
        return await _send_until_closed(request, status, headers, pieces)
    response = web.StreamResponse(status=status, headers=headers)
    if fault.framing == "chunked":
        response.enable_chunked_encoding()
    else:
        response.content_length = stop - start
    await response.prepare(request)
    async for piece in pieces:
        await response.write(piece)
    if fault.cut_after is not None and request.transport is not None:
        request.transport.close()
        return response
    await response.write_eof()
    return response


async def _paced(pieces: Iterator[bytes], bytes_per_second: float | None) -> AsyncIterator[bytes]:
    if bytes_per_second is None:
        for piece in pieces:
            yield piece
        return
    slice_bytes = max(1, int(bytes_per_second / _SLICES_PER_SECOND))
    for piece in pieces:
        for begin in range(0, len(piece), slice_bytes):
            yield piece[begin : begin + slice_bytes]
            await asyncio.sleep(slice_bytes / bytes_per_second)


async def _send_until_closed(
    request: web.Request, status: int, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """
    Send a body whose end is only told by closing the connection, so that a cut is invisible to HTTP.

    aiohttp never answers that way over HTTP/1.1, so the bytes are written by hand.
    """
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        return Ended(told_status=0)
    lines = [
        f"HTTP/1.1 {status} OK",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Connection: close",
    ]
    transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    async for piece in pieces:
        while transport.get_write_buffer_size() > _SEND_BUFFER_BYTES and not transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # a bare transport has no drain() to wait for
        transport.write(piece)
    transport.close()
    return Ended(told_status=status)
