# SPDX-License-Identifier: Apache-2.0
"""Signed delivery URLs in the shape of the service that stands behind BFL's: minting, checking, refusing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

from airflow_provider_bfl.simulator.tasks import Task

CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "mp4": "video/mp4"}

_SERVICE_VERSION = "2026-02-06"
_IMAGE_LIFETIME_SECONDS = 600
_LONG_LIFETIME_SECONDS = 3600
_EXPIRY = re.compile(r"se=(\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\dZ)&")
_ACCOUNT_NAMESPACE = uuid.UUID("0b3f6f0e-6f0a-4f57-9a3e-0c1d5b1c9f11")


@dataclass(frozen=True)
class XmlError:
    """A refusal as the storage service words it."""

    status: int
    code: str
    message: str
    detail: str = ""

    @property
    def body(self) -> str:
        detail = f"<AuthenticationErrorDetail>{escape(self.detail)}</AuthenticationErrorDetail>" if self.detail else ""
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>{detail}</Error>"
        )


NO_SUCH_BLOB = XmlError(404, "BlobNotFound", "The specified blob does not exist.")


def lifetime_seconds(model: str) -> int:
    """How long a result's URL lives after the task finished: ten minutes, an hour for FLUX 3 and video."""
    long_lived = model.startswith("flux-3-") or "video" in model
    return _LONG_LIFETIME_SECONDS if long_lived else _IMAGE_LIFETIME_SECONDS


def blob_id(task_id: str) -> str:
    """The 32 hex digits that name a task's result in its path."""
    return hashlib.sha256(task_id.encode()).hexdigest()[:32]


def blob_path(task: Task) -> str:
    """The path of a finished task's result, as BFL's hosts have laid it out since July 2026."""
    blob = blob_id(task.id)
    spread = hashlib.sha256(blob.encode()).hexdigest()
    hour = datetime.fromtimestamp(task.finishes_at, UTC).strftime("%Y%m%d%H")
    account = uuid.uuid5(_ACCOUNT_NAMESPACE, task.account)
    return f"/durable/{hour}/{account}/{spread[:2]}/{spread[2:8]}{blob[:8]}/{blob}/sample.{task.artwork.format}"


def blob_id_in(path: str) -> str | None:
    """Read the result's name out of a path; None when the path is not one of ours."""
    parts = path.split("/")
    return parts[-2] if len(parts) == 8 and parts[1] == "durable" else None


def signed_query(path: str, *, expires_at: float, content_type: str, secret: bytes) -> str:
    """
    Build the query that opens a path until a moment.

    :param path: The blob's path.
    :param expires_at: Unix seconds; fractions are dropped, as the query has whole seconds.
    :param content_type: What the host will declare; its slash stays a slash.
    :param secret: The signing key.
    """
    return _query(
        path,
        datetime.fromtimestamp(int(expires_at), UTC).strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ"),
        content_type,
        secret,
    )


def _query(path: str, expiry: str, content_type: str, secret: bytes) -> str:
    unsigned = f"se={expiry}&sp=r&sv={_SERVICE_VERSION}&sr=b&rsct={content_type}"
    digest = hmac.new(secret, f"{path}\n{unsigned}".encode(), hashlib.sha256).digest()
    return f"{unsigned}&sig={quote(base64.b64encode(digest).decode(), safe='/')}"


def refuse(path: str, query: str, *, now: float, content_type: str, secret: bytes) -> XmlError | None:
    """
    Say why a request may not read a blob; None when it may.

    The query has to be the signed one byte for byte: one that was decoded and encoded again is a forged one.

    :param path: The blob's path.
    :param query: The raw query of the request.
    :param now: Unix seconds on the simulator's clock.
    :param content_type: The blob's content type.
    :param secret: The signing key.
    """
    expiry = _EXPIRY.match(query)
    if expiry is None or not hmac.compare_digest(query, _query(path, expiry[1], content_type, secret)):
        return _denied("Signature did not match. String to sign used was r")
    end = datetime.strptime(expiry[1], "%Y-%m-%dT%H%%3A%M%%3A%SZ").replace(tzinfo=UTC)
    if now >= end.timestamp():
        return expired(now, end.timestamp())
    return None


def expired(now: float, end: float) -> XmlError:
    """The refusal of a URL whose time is over."""
    shown_end, shown_now = (
        datetime.fromtimestamp(moment, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT") for moment in (end, now)
    )
    return _denied(f"Signed expiry time [{shown_end}] must be after signed start time [{shown_now}]")


def _denied(detail: str) -> XmlError:
    message = (
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
        "including the signature."
    )
    return XmlError(403, "AuthenticationFailed", message, detail)
