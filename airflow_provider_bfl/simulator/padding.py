# SPDX-License-Identifier: Apache-2.0
"""
Large results without large memory: a small file grown to any size, piece by piece, and still valid.

Each format has a place for bytes a reader must skip; the filler goes there. So a half-gigabyte picture passes the
same checks as a small one, and nobody holds it in memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE_BYTES = 1 << 20
_JPEG_SEGMENT_BYTES = 65_535

#: A private chunk that is safe to copy and to ignore, by the letter case rules of PNG.
_PNG_FILLER = b"paDd"


@dataclass(frozen=True)
class Padded:
    """
    A file with filler in it.

    :param head: The bytes before the filler.
    :param segments: Length of each filler segment, its own header included.
    :param tail: The bytes after the filler.
    :param format: ``png``, ``jpeg``, ``webp`` or ``mp4``.
    """

    head: bytes
    segments: tuple[int, ...]
    tail: bytes
    format: str

    @property
    def size_bytes(self) -> int:
        return len(self.head) + sum(self.segments) + len(self.tail)

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes in order, in pieces of about a megabyte."""
        yield self.head
        cached: dict[int, bytes] = {}
        for length in self.segments:
            if length > _PIECE_BYTES:
                yield from _stream_box(self.format, length)
                continue
            if length not in cached:
                cached[length] = _segment(self.format, length)
            yield cached[length]
        yield self.tail


def pad(content: bytes, file_format: str, size_bytes: int) -> Padded:
    """
    Grow a file to a size.

    :param content: A complete file of that format.
    :param file_format: ``png``, ``jpeg``, ``webp`` or ``mp4``.
    :param size_bytes: Size wanted. The result can be some bytes off where the format cannot meet it exactly, and
        is ``content`` itself when that is already as large.
    """
    filler = size_bytes - len(content)
    if filler < 64:
        return Padded(content, (), b"", file_format)
    if file_format == "png":
        return Padded(content[:-12], _split(filler, _PIECE_BYTES), content[-12:], file_format)
    if file_format == "jpeg":
        return Padded(content[:2], _split(filler, _JPEG_SEGMENT_BYTES), content[2:], file_format)
    if file_format == "webp":
        filler -= filler % 2
        riff_bytes = len(content) - 8 + filler
        return Padded(b"RIFF" + struct.pack("<I", riff_bytes) + content[8:], (filler,), b"", file_format)
    return Padded(content, (filler,), b"", file_format)


def _split(total: int, largest: int) -> tuple[int, ...]:
    count = -(-total // largest)
    short, longer = divmod(total, count)
    return (short + 1,) * longer + (short,) * (count - longer)


def _segment(file_format: str, length: int) -> bytes:
    if file_format == "png":
        data = _PNG_FILLER + bytes(length - 12)
        return struct.pack(">I", length - 12) + data + struct.pack(">I", zlib.crc32(data))
    if file_format == "jpeg":
        return b"\xff\xfe" + struct.pack(">H", length - 2) + bytes(length - 4)
    return _box_head(file_format, length) + bytes(length - 8)


def _box_head(file_format: str, length: int) -> bytes:
    if file_format == "webp":
        return b"PADD" + struct.pack("<I", length - 8)
    return struct.pack(">I", length) + b"free"


def _stream_box(file_format: str, length: int) -> Iterator[bytes]:
    yield _box_head(file_format, length)
    blank = bytes(_PIECE_BYTES)
    for left in range(length - 8, 0, -_PIECE_BYTES):
        yield blank if left >= _PIECE_BYTES else blank[:left]
