# SPDX-License-Identifier: Apache-2.0
"""Where the fuzzer starts: well-formed inputs of every kind, and values that have hurt readers before."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from tests.fuzz.targets import KEY, SIGNED, TRUSTS

GENERATION = "b1946ac9-2492-4d23-8f1a-0c1d2e3f4a5b"
POLLING_URL = f"https://api.eu2.bfl.ai/v1/get_result?id={GENERATION}"

#: Put in the place of any value of a JSON document.
NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**70, -(2**2000), 0.5, 1e308, -0.0, float("nan"), float("inf"), "", " ", "\0", "a\nb",
    "\ud800", "\u200b", "\u2028", "x" * 3000, "https:\u200b//h/x?sig=1", SIGNED, "inf", "nan", "1e999", "0001-01-01",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "20260101", [], {}, [None],
    [[[[]]]], {"status": "Ready"}, {"detail": [{"loc": ["body", 1], "msg": []}]}, ["a", {"b": [1]}],
)  # fmt: skip

#: What a mutation on bytes alone would take long to hit upon.
WORDS = (
    "id", "polling_url", "webhook_url", "cost", "status", "result", "sample", "seed", "progress", "details", "detail",
    "loc", "msg", "credits", "input_mp", "Ready", "Task not found", "Content Moderated", "https://", "http://",
    "api.bfl.ai", "api.eu.bfl.ai", "delivery.eu4.bfl.ai", "bfldeliveryprodeu4.blob.core.windows.net", "gw.example:8443",
    "127.0.0.1:8080", "[::1]", "localhost", "@", "\\", "//", "?sig=", "#", "%2f", "%00", ":443", "\u3002", "xn--",
    "IHDR", "IEND", "ftyp", "moov", "mdat", "RIFF", "WEBP", "image/", "video/", "schema_version", "version",
)  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Return for each target the inputs it starts from."""
    return {
        "submission": _answers(_SUBMISSIONS, statuses=(200, 202, 307, 402, 403, 422, 429, 500, 502, 503)),
        "poll": [b"1\n" + each for each in _polls("an-id")] + [b"\n" + each for each in _polls(GENERATION)],
        "urls": [bytes([number]) + url.encode() for number in range(len(TRUSTS)) for url in _URLS],
        "hops": [
            f"{status}\n{hop}\n{url}".encode() for status in (200, 302, 403) for hop in ("", "aaa") for url in _URLS
        ],
        "body": _bodies(),
        "echo": [b"x-key\nv\n{}", f"{KEY}\n{KEY[:-1]}\n{KEY[:9]}".encode()],
        "record": [json.dumps(each).encode() for each in _records()],
        "sidecar": [json.dumps(_SIDECAR).encode(), json.dumps(_SIDECAR | {"landed_at": None}).encode()],
        "media": [f"{kind}\n{asked}\n".encode() + each for kind, asked, each in _media()],
    }


_SUBMISSIONS: tuple[Any, ...] = (
    {"id": GENERATION, "polling_url": POLLING_URL, "cost": 3.0, "input_mp": 0.0, "output_mp": 1.05},
    {"id": GENERATION, "status": "Pending", "webhook_url": "https://example.com/hook"},
    {"detail": "Insufficient credits"},
    {"detail": [{"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": {"prompt": "p"}}]},
    {"detail": "Invalid API key format"},
    {"credits": 12.5},
    {},
    [],
)
_RESULT = {"sample": SIGNED, "prompt": "p", "seed": 42, "start_time": 1.0, "end_time": 2.0, "duration": 1.0}
_URLS = (
    POLLING_URL,
    SIGNED,
    "https://api.bfl.ai/v1/get_result?id=x%2fy",
    "https://bfldeliveryprodeu4.blob.core.windows.net/r/x.jpeg?se=1&sig=a%2Bb",
    "http://127.0.0.1:8080/v1/get_result?id=x",
    "https://gw.example:8443/x",
    "https://[::1]/x",
    "https://api.bfl.ai@evil.com/",
    "https://user:password@api.bfl.ai/",
    "https://user@delivery.us4.bfl.ai/x",
    "https://api.bfl.ai.evil.com/",
    "https://evil.com\\@api.bfl.ai/",
    "//api.bfl.ai/x",
    "/elsewhere?sig=1",
)
_SIDECAR = {
    "schema_version": 1,
    "uri": "s3://bucket/a.jpg",
    "size": 5,
    "id": GENERATION,
    "model": "flux-2-pro",
    "status": "Ready",
    "seed": 42,
    "cost": 3.0,
    "content_type": "image/jpeg",
    "sha256": "ab",
    "sidecar_uri": "s3://bucket/a.jpg.json",
    "submitted_at": "2026-01-01T00:00:00+00:00",
    "ready_at": "2026-01-01T00:00:09+00:00",
    "landed_at": "2026-01-01T00:00:10+00:00",
    "url_age_seconds": 1.0,
    "reattached": False,
    "possibly_billed_twice": False,
    "request": {"prompt": "p"},
}


def _answers(bodies: tuple[Any, ...], *, statuses: tuple[int, ...]) -> list[bytes]:
    made = [f"{status}\n1.5\n{json.dumps(each)}".encode() for status in statuses for each in bodies]
    return [*made, b"200\n\n<html>no</html>", b"502\nsoon\n", b'200\n\n{"id": NaN}', b"200\n\n" + b"[" * 5000]


def _polls(identity: str) -> list[bytes]:
    statuses = ("Pending", "Ready", "Error", "Request Moderated", "Content Moderated", "Task not found", "Dreaming")
    details = {"Moderation Reasons": ["Violence"], "error": "x", "input": {"prompt": "p"}}
    answers = tuple(
        {"id": identity, "status": status, "result": _RESULT, "progress": 0.5, "cost": 3, "details": details}
        for status in statuses
    )
    return _answers((*answers, {"detail": "Not authenticated"}), statuses=(200, 404, 422, 503))


def _bodies() -> list[bytes]:
    dates = ("Mon, 01 Jan 2026 00:00:00 GMT", "", "0", "Mon, 99 Zzz 99999 99:99:99 +9999", "1 Jan 0001 00:00:00 +1400")
    return [
        f"{length}\n{first}\n{second}\nbytes".encode()
        for length in ("5", "", "4", "99999")
        for first in dates
        for second in dates
    ]


def _records() -> list[dict[str, Any]]:
    intent = {
        "version": 1, "state": "intent", "fingerprint": "x", "model": "flux-2-pro", "region": "global",
        "bfl_conn_id": "bfl_default", "epoch": 1, "possibly_billed_twice": False, "reattached": False,
    }  # fmt: skip
    submitted = intent | {
        "state": "submitted", "id": GENERATION, "polling_url": POLLING_URL, "cost": 3.0,
        "submitted_at": 1e9, "deadline": 2e9,
    }  # fmt: skip
    stored = submitted | {"state": "stored", "result": {"uri": "s3://b/k", "size": 5}}
    return [intent, intent | {"state": "refused", "queued_since": 1.0}, submitted, stored, intent | {"version": 2}]


def _media() -> list[tuple[str, str, bytes]]:
    chunk = b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0) + chunk
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xda\x00\x02\x01\x02\xff\xd9"
    webp = b"RIFF" + struct.pack("<I", 8) + b"WEBPVP8 "
    mp4 = struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 8) + b"moov"
    long_box = struct.pack(">I", 16) + b"ftypavif\0\0\0\0" + struct.pack(">I", 1) + b"meta" + struct.pack(">Q", 16)
    known = (("image/png", png), ("image/jpeg", jpeg), ("image/webp", webp), ("video/mp4", mp4), ("", long_box))
    cases = [(kind, asked, each) for kind, each in known for asked in ("", "png", "jpeg")]
    return [
        *cases,
        ("image/gif", "", b"GIF89a;"),
        ("image/x-new", "", b"\1\2\3\4"),
        ("text/html", "", b"<html>"),
        ("", "", b""),
    ]
