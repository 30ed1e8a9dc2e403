# SPDX-License-Identifier: Apache-2.0
"""
Input images and videos: named by reference, read and encoded only when the request is about to be sent.

A value that came through XCom or a template is data, not an order to read a file, so only three forms are taken: an
https URL (BFL fetches it), base64 that decodes to an image or a video, and an object-storage URI.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.api.catalogue import Model
from airflow_provider_bfl.exceptions import BflError, BflValidationError
from airflow_provider_bfl.landing.store import described

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

#: BFL takes 20 MB for an image (https://docs.bfl.ai, image editing); videos have no documented limit.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_VIDEO_BYTES = 256 * 1024 * 1024

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Inputs:
    """
    A request whose media were resolved.

    :param body: What is sent: media as https URL or plain base64. Large and private, so not in the repr.
    :param reference: The same with each medium as its URL, or its digest and where it came from: what is
        fingerprinted and written to the sidecar.
    """

    body: Mapping[str, Any] = field(repr=False)
    reference: Mapping[str, Any] = field(repr=False)


def resolve_inputs(request: Mapping[str, Any], model: Model, *, storage_conn_id: str | None) -> Inputs:
    """
    Return the request with its media read.

    :param model: Says which fields hold media: each a string, or a list of strings or objects.
    :param storage_conn_id: Airflow connection that object-storage URIs are read with; None for the URI's own.
    :raises BflValidationError: a medium is none of the three forms, too large or not there. Nothing was sent.
    :raises BflError: its store could not be asked; a retry may help.
    """
    from airflow.providers.common.compat.sdk import conf

    reader = _Reader(
        storage_conn_id,
        allow_local_files=conf.get("bfl", "allow_local_files", fallback=""),
        max_bytes=MAX_VIDEO_BYTES if model.kind == "video" else MAX_IMAGE_BYTES,
    )
    body, reference = dict(request), public_request(request)
    for name in model.media_fields:
        if request.get(name) is not None:
            body[name], reference[name] = reader.resolve(name, request[name])
    return Inputs(body, reference)


def media_uris(request: Mapping[str, Any], model: Model) -> list[str]:
    """Return where a request's media come from, as far as they are named by a URI."""
    return sorted({uri for name in model.media_fields for uri in _uris(request.get(name))})


def _uris(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # Base64 has no "://" in it, whatever it encodes.
        if "://" in value and not value.startswith("data:"):
            yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _uris(item)


def public_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request without its secret: what may be fingerprinted and stored."""
    return {name: value for name, value in request.items() if name != "webhook_secret"}


@dataclass(frozen=True)
class _Reader:
    storage_conn_id: str | None
    allow_local_files: str
    max_bytes: int

    def resolve(self, name: str, value: Any) -> tuple[Any, Any]:
        if isinstance(value, str):
            return self._resolve_text(name, value)
        if isinstance(value, list):
            pairs = [self.resolve(f"{name}[{index}]", item) for index, item in enumerate(value)]
            return [body for body, _ in pairs], [reference for _, reference in pairs]
        if isinstance(value, dict):
            # An object (a keyframe) has fields beside its medium; only what names a place is a medium.
            resolved = {
                key: self.resolve(f"{name}.{key}", item) if isinstance(item, str) and "://" in item else (item, item)
                for key, item in value.items()
            }
            return {key: pair[0] for key, pair in resolved.items()}, {key: pair[1] for key, pair in resolved.items()}
        return value, value

    def _resolve_text(self, name: str, text: str) -> tuple[str, Any]:
        if text.startswith("https://"):
            return text, text
        if text.startswith("data:"):
            text = text.partition(",")[2]
        elif "://" in text:
            content = self._read(name, text)
            return base64.b64encode(content).decode(), {"uri": text, "sha256": _sha256(content), "size": len(content)}
        content = self._decode(name, text)
        return text, {"sha256": _sha256(content), "size": len(content)}

    def _decode(self, name: str, text: str) -> bytes:
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            content = b""
        if not _is_media(content):
            raise BflValidationError(
                f"{name} is neither an https URL nor base64 of an image or video nor an object-storage URI (s3://…, "
                "gs://…). A bare path is never read; give file:// below [bfl] allow_local_files, or object storage. "
                "Nothing was sent."
            )
        self._check_size(name, len(content))
        return content

    def _read(self, name: str, uri: str) -> bytes:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        scheme = uri.partition("://")[0].lower()
        if scheme == "http":
            raise BflValidationError(f"{name} is a plain http URL; use https. Nothing was sent.")
        try:
            path = (
                ObjectStoragePath(uri, conn_id=self.storage_conn_id) if self.storage_conn_id else ObjectStoragePath(uri)
            )
            self._check_local(name, uri, path)
            self._check_size(name, path.stat().st_size)
            with path.open("rb") as file:  # type: ignore[no-untyped-call]
                content: bytes = file.read(self.max_bytes + 1)
        except BflValidationError:
            raise
        except FileNotFoundError:
            raise BflValidationError(f"{name}: there is no object {uri}. Nothing was sent.") from None
        except (ImportError, ValueError) as error:
            raise BflValidationError(f"{name}: {uri} cannot be read ({error}). Nothing was sent.") from error
        except Exception as error:  # noqa: BLE001 - whatever a client raises; its words may hold a signed URL
            raise BflError(
                f"{name}: {uri} could not be read ({described(error)}). Nothing was sent; a retry reads it again."
            ) from None
        self._check_size(name, len(content))
        if not _is_media(content):
            raise BflValidationError(f"{name}: {uri} is not an image or video. Nothing was sent.")
        return content

    def _check_local(self, name: str, uri: str, path: ObjectStoragePath) -> None:
        from fsspec.implementations.local import LocalFileSystem

        # What will be opened is judged and not the text: "://../etc/x" and "file://conn@/etc/x" are local paths too.
        if not isinstance(path.fs, LocalFileSystem):
            return
        allowed = self.allow_local_files
        # Resolved, so that neither ".." nor a link leads out of the directory.
        if not allowed or not Path(path.path).resolve().is_relative_to(Path(allowed).resolve()):
            raise BflValidationError(
                f"{name}: {uri} may not be read: local files are sent to BFL only from below [bfl] allow_local_files"
                f" (now {allowed or 'empty'}). Nothing was sent."
            )

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_bytes:
            raise BflValidationError(f"{name} is {size} bytes; BFL takes {self.max_bytes} at most. Nothing was sent.")


def _is_media(content: bytes) -> bool:
    head = content[:12]
    return (
        head.startswith(_MAGIC)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:8] in (b"ftyp", b"moov")
        or head[:4] == b"\x1aE\xdf\xa3"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
