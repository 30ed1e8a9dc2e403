# SPDX-License-Identifier: Apache-2.0
"""
Is a downloaded body a whole image or video, and of which type?

Read from the bytes themselves: the first few name the format, and each format says where it ends. Only heads, tails and
chunk headers are read, so a large body costs no memory. The pictures inside are not decoded.

Sources: PNG (W3C, chunk layout), JPEG (ITU-T T.81 annex B), WebP (RFC 9649), ISO-BMFF (ISO/IEC 14496-12, section 4).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_HEAD_BYTES = 1024

#: An encoder may pad a JPEG after its end marker; further back than this, the marker belongs to something else.
_JPEG_TAIL_BYTES = 64 * 1024

_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/gif": "gif",
    "video/quicktime": "mov",
    "video/webm": "webm",
}

#: BFL's ``output_format`` values.
_ASKED_TYPES = {"jpeg": "image/jpeg", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "mp4": "video/mp4"}

_BRANDS = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"qt  ": "video/quicktime"}

_TEXT_START = re.compile(rb"\s*[<{\[]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Media:
    """
    What a body is.

    :param warning: What the user should know about a body that is stored although it is not what was expected.
    """

    content_type: str
    extension: str
    warning: str | None = None


class UnusableBodyError(ValueError):
    """A body that is no result: empty, cut, or not an image or video at all. The text says which."""


def verify(body: BinaryIO, size: int, *, declared_type: str | None = None, output_format: str | None = None) -> Media:
    """
    Return what ``body`` is, having checked that it is whole.

    A whole image or video of another format than asked is accepted with a warning: it is paid for. A body of no known
    format is accepted, with a warning, only when the server calls it an image or a video, no format BFL knows today was
    asked for, and it does not look like text.

    :param size: Bytes in ``body``.
    :param declared_type: The server's Content-Type, or None.
    :param output_format: BFL's parameter of the request, or None when unknown.
    :raises UnusableBodyError: the body is no result.
    """
    if size == 0:
        raise UnusableBodyError("the body is empty")
    body.seek(0)
    head = body.read(_HEAD_BYTES)
    asked = _ASKED_TYPES.get((output_format or "").lower())
    for is_format, check in _FORMATS:
        if is_format(head):
            content_type = check(body, size)
            return Media(content_type, _EXTENSIONS[content_type], _other_than_asked(content_type, asked, output_format))
    return _unknown_format(head, declared_type, asked)


def _other_than_asked(content_type: str, asked: str | None, output_format: str | None) -> str | None:
    if asked is None or asked == content_type:
        return None
    return f"The result is {content_type}, although output_format was {output_format!r}; it is stored as what it is."


def _unknown_format(head: bytes, declared_type: str | None, asked: str | None) -> Media:
    declared = (declared_type or "").partition(";")[0].strip().lower()
    is_type = re.fullmatch(r"[a-z0-9-]{1,20}/[a-z0-9][a-z0-9.+-]{0,60}", declared)
    said = f"the server calls it {declared!r}" if is_type else "the server does not name its type"
    if _TEXT_START.match(head.removeprefix(_BYTE_ORDER_MARK)):
        raise UnusableBodyError(f"the body is text (HTML, XML or JSON), not an image or a video; {said}")
    if asked is not None:
        raise UnusableBodyError(f"the body is not {asked} nor any other known format; {said}")
    kind, _, subtype = declared.partition("/")
    if kind not in {"image", "video"} or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", subtype):
        raise UnusableBodyError(f"the body is of no known format; {said}")
    extension = _EXTENSIONS.get(declared) or re.sub(r"[^a-z0-9]", "", subtype.removeprefix("x-"))[:10] or "bin"
    warning = f"The format of the result is not known here; it is stored as the server's {declared}, unchecked."
    return Media(declared, extension, warning)


def _check_jpeg(body: BinaryIO, size: int) -> str:
    offset = 2
    while True:
        marker = _read_at(body, offset, 4)
        if len(marker) < 4 or marker[0] != 0xFF:
            raise UnusableBodyError("the JPEG is cut or damaged in its header")
        if marker[1] == 0xFF:  # fill bytes may precede a marker
            offset += 1
            continue
        offset += 2 + int.from_bytes(marker[2:4], "big")
        if marker[1] == 0xDA:
            break
    tail_start = max(offset, size - _JPEG_TAIL_BYTES)
    # Inside the image data FF is always followed by 00 or a restart marker, so this is the end and nothing else.
    if b"\xff\xd9" not in _read_at(body, tail_start, _JPEG_TAIL_BYTES):
        raise UnusableBodyError("the JPEG is cut: its end marker is missing")
    return "image/jpeg"


def _check_png(body: BinaryIO, size: int) -> str:
    offset = 8
    while True:
        header = _read_at(body, offset, 8)
        if len(header) < 8:
            raise UnusableBodyError("the PNG is cut: its end chunk is missing")
        offset += 12 + int.from_bytes(header[:4], "big")
        if offset > size:
            raise UnusableBodyError("the PNG is cut inside a chunk")
        if header[4:] == b"IEND":
            return "image/png"


def _check_webp(body: BinaryIO, size: int) -> str:
    if size < 8 + int.from_bytes(_read_at(body, 4, 4), "little"):
        raise UnusableBodyError("the WebP is cut: it is shorter than it says")
    return "image/webp"


def _check_gif(body: BinaryIO, size: int) -> str:
    if not _read_at(body, max(0, size - 16), 16).rstrip(b"\0").endswith(b";"):
        raise UnusableBodyError("the GIF is cut: its trailer is missing")
    return "image/gif"


def _check_iso_media(body: BinaryIO, size: int) -> str:
    content_type = _BRANDS.get(_read_at(body, 8, 4), "video/mp4")
    boxes = {box for box, _ in _boxes(body, size)}
    index = b"meta" if content_type.startswith("image/") else b"moov"
    if index not in boxes:
        raise UnusableBodyError(f"the {content_type} is cut: its {index.decode()} box is missing")
    return content_type


def _boxes(body: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    offset = 0
    while offset < size:
        header = _read_at(body, offset, 16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # the last box may say "to the end of the file"
            length = size - offset
        if len(header) < 8 or length < 8 or offset + length > size:
            raise UnusableBodyError("the video is cut: its boxes do not add up to its size")
        yield header[4:8], length
        offset += length


def _read_at(body: BinaryIO, offset: int, count: int) -> bytes:
    body.seek(offset, os.SEEK_SET)
    return body.read(count)


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], str]], ...] = (
    (lambda head: head.startswith(b"\xff\xd8\xff"), _check_jpeg),
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), _check_png),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", _check_webp),
    (lambda head: head.startswith((b"GIF87a", b"GIF89a")), _check_gif),
    (lambda head: head[4:8] == b"ftyp", _check_iso_media),
)
