# SPDX-License-Identifier: Apache-2.0
"""
What is fuzzed: everything that reads bytes from BFL, a delivery server, XCom, the journal or the store.

A target takes any bytes. It returns when the reader gave a value that keeps its promises or raised one of the errors
it documents; everything else is a finding. The bytes begin with lines (a status, a header, a choice); the rest is the
body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from urllib3.util import parse_url
from yarl import URL

from airflow_provider_bfl.api import messages, trust
from airflow_provider_bfl.api.messages import HttpReply, PollFailure, PollResult, Submission
from airflow_provider_bfl.api.trust import Origin, Trust
from airflow_provider_bfl.durable.record import Policies, Record, Submit, decide
from airflow_provider_bfl.exceptions import (
    BflConfigError,
    BflDownloadError,
    BflError,
    BflJournalError,
    BflResultExpiredError,
    BflUntrustedUrlError,
)
from airflow_provider_bfl.landing.facts import read_sidecar
from airflow_provider_bfl.landing.verify import UnusableBodyError, verify
from airflow_provider_bfl.transport.exchange import Receiver, clean_reply, next_hop
from airflow_provider_bfl.transport.settings import Settings

KEY = "bfl_CANARYkey0123456789abcdef"
SIGNED = "https://delivery.us4.bfl.ai/x?sig=CANARYsignature"

#: What a log line and an error may hold of a server's words; BFL's own are far shorter.
_MAX_WORDS = 3000
#: BFL's ids are UUIDs of 36.
_MAX_ID = 200
_UNREDACTED = re.compile(r"https?://[^\s?\"'<>]+\?(?!…)", re.IGNORECASE)

_LOOPBACK = Origin("127.0.0.1", 8080, "http")
_GATEWAY = Origin("gw.example", 8443)
TRUSTS = (
    Trust(),
    Trust(region="eu"),
    Trust(region="us"),
    Trust(base=_LOOPBACK, delivery_hosts=frozenset({_LOOPBACK})),
    Trust(region="eu", trusted_hosts=frozenset({_GATEWAY}), delivery_hosts=frozenset({_GATEWAY})),
    Trust(trusted_hosts=frozenset({Origin("::1", 443)}), delivery_hosts=frozenset({Origin("localhost")})),
)
_CONFIGURED = {"127.0.0.1", "gw.example", "::1", "localhost"}
_BFLS = ("bfl.ai", ".blob.core.windows.net")


def submission(data: bytes) -> None:
    """The answer to the POST, and to the question for credits."""
    reply = _reply(data)
    try:
        submitted = messages.read_submission(reply, model="flux-2-pro")
    except BflError as error:
        _check_error(error)
    else:
        assert isinstance(submitted, Submission)
        _check_id(submitted.id)
        assert submitted.polling_url is None or (isinstance(submitted.polling_url, str) and submitted.polling_url)
        for number in (submitted.cost, submitted.input_mp, submitted.output_mp):
            _check_number(number)
    try:
        _check_number(messages.read_credits(reply))
    except BflError as error:
        _check_error(error)
    _check_words(messages.read_detail(reply.body))


def poll(data: bytes) -> None:
    """The answer to a poll; the first line says whether the id is known."""
    known, _, rest = data.partition(b"\n")
    generation_id = "an-id" if known else None
    answer = messages.read_poll(_reply(rest), generation_id=generation_id)
    if isinstance(answer, PollFailure):
        _check_words(answer.reason)
        assert answer.retry_after is None or 0 <= answer.retry_after < float("inf")
        return
    assert isinstance(answer, PollResult)
    assert generation_id is None or answer.id == generation_id
    if answer.id is not None:
        _check_id(answer.id)
    _check_words(answer.status)
    _check_words(answer.detail or "")
    _check_number(answer.cost)
    _check_number(answer.progress)
    try:
        messages.check_outcome(answer, generation_id=answer.id or "unknown")
    except BflError as error:
        _check_error(error)


def urls(data: bytes) -> None:
    """A URL from an answer, XCom or a record; the first byte picks the connection."""
    url = data[1:].decode("utf-8", "surrogateescape")
    judge = TRUSTS[data[0] % len(TRUSTS)] if data else TRUSTS[0]
    for check in (judge.check_api_url, judge.check_delivery_url):
        try:
            accepted = check(url)
        except BflUntrustedUrlError as error:
            _check_words(str(error))
        else:
            assert accepted == url
            check_trusted(url, judge)
    with suppress(BflConfigError):
        trust.configured_origin(url, setting="trusted_hosts")
    identity = messages.generation_id_of(url)
    assert identity is None or identity.isprintable()
    redacted = messages.redact_urls(f"{url}{SIGNED} {url}")
    assert "CANARYsignature" not in redacted
    assert messages.redact_urls(redacted) == redacted


def hops(data: bytes) -> None:
    """A delivery server's redirect: status, hop, then the Location header."""
    status, hop, location = _lines(data, 2)
    here = "https://delivery.us4.bfl.ai/a/b?sig=CANARYsignature"
    try:
        target = next_hop(_status(status), location.decode("latin-1"), url=here, hop=len(hop) % 5)
    except (BflDownloadError, BflResultExpiredError) as error:
        # A signature that is shown becomes a line break, which no error may have.
        _check_words(str(error).replace("CANARYsignature", "\n"))
        return
    if target is not None:
        with suppress(BflUntrustedUrlError):
            check_trusted(Trust().check_delivery_url(target), Trust())


def body(data: bytes) -> None:
    """A delivered body: three headers, then its bytes in two parts."""
    length, modified, date, content = _lines(data, 3)
    names = ("Content-Length", "Last-Modified", "Date")
    headers = {name: value.decode("latin-1") for name, value in zip(names, (length, modified, date), strict=True)}
    sink = BytesIO()
    receiver = Receiver(sink, max_bytes=4096)
    try:
        receiver.start(headers)
        receiver.write(content[: len(content) // 2])
        receiver.write(content[len(content) // 2 :])
        received = receiver.finish()
    except BflDownloadError:
        assert len(sink.getvalue()) <= 4096
        return
    assert received.size == len(content) == len(sink.getvalue())
    assert received.age_seconds is None or received.age_seconds >= 0


def echo(data: bytes) -> None:
    """A server that sends the key back."""
    head, value, rest = _lines(data, 2)
    settings = Settings(api_key=KEY, base_url="https://api.bfl.ai", trust=Trust())
    headers = {head.decode("latin-1"): value.decode("latin-1") + KEY + KEY}
    reply = clean_reply(settings, 403, headers, rest + KEY.encode() + rest)
    assert KEY.encode() not in reply.body
    assert not any(KEY in text for text in reply.headers.values())


def record(data: bytes) -> None:
    """A stored record, and what an attempt does with it."""
    value = _json(data)
    try:
        known = Record.from_json(value)
    except BflJournalError:
        return
    if not _has_nan(value):
        assert Record.from_json(known.to_json()) == known
    for policies in (Policies(), Policies("fail", "fail"), Policies(force_new=True)):
        with suppress(BflError):
            action = decide(known, fingerprint="x", epoch=1, policies=policies)
            must_not_pay = known.state in ("submitted", "stored") and known.fingerprint == "x"
            assert not (must_not_pay and isinstance(action, Submit) and not policies.force_new)


def sidecar(data: bytes) -> None:
    """A JSON object that lies where a sidecar would."""
    landed = read_sidecar(data)
    if landed is not None:
        json.dumps(landed.as_xcom())


def media(data: bytes) -> None:
    """A delivered body as an image or video: its declared type, output_format, then its bytes."""
    declared, asked, content = _lines(data, 2)
    try:
        kinds = {"declared_type": declared.decode("latin-1"), "output_format": asked.decode("latin-1")}
        found = verify(BytesIO(content), len(content), **kinds)
    except UnusableBodyError as error:
        _check_words(str(error))
        return
    assert re.fullmatch(r"(image|video)/[a-z0-9][a-z0-9.+-]{0,60}", found.content_type)
    assert re.fullmatch(r"[a-z0-9]{1,10}", found.extension)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (submission, poll, urls, hops, body, echo, record, sidecar, media)
}

#: How many lines stand before the JSON document of a target; None for those without one.
HEAD_LINES: dict[str, int] = {"submission": 2, "poll": 3, "record": 0, "sidecar": 0}


def check_trusted(url: str, judge: Trust) -> None:
    """Fail unless every HTTP library asks the host that was judged, and that host is one that may be asked."""
    theirs, standard, requested = parse_url(url), urlsplit(url), URL(url, encoded=True)
    host = standard.hostname or ""
    assert host == (theirs.host or "").strip("[]").lower() == (requested.raw_host or "").lower(), url
    port = {"https": 443, "http": 80}[standard.scheme]
    assert (standard.port or port) == (theirs.port or port) == (requested.port or port), url
    assert not theirs.auth
    assert requested.raw_user is None
    assert "@" not in standard.netloc
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert standard.scheme == "https" or (standard.scheme == "http" and judge.base and trust.is_loopback(host))
    is_bfls = host.endswith(_BFLS)
    assert is_bfls or host in _CONFIGURED, url
    if judge.region == "eu" and is_bfls:
        assert re.match(r"api\.eu|delivery[.-]eu|bfldelivery[a-z0-9]*eu\d", host), url


def _reply(data: bytes) -> HttpReply:
    status, retry_after, content = _lines(data, 2)
    return HttpReply(_status(status), {"retry-after": retry_after.decode("latin-1")}, content)


def _lines(data: bytes, count: int) -> list[bytes]:
    found = data.split(b"\n", count)
    return found + [b""] * (count + 1 - len(found))


def _status(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) == 3 else 200


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _has_nan(value: Any) -> bool:
    return "NaN" in json.dumps(value)


def _check_error(error: BflError) -> None:
    _check_words(str(error))
    assert error.generation_id is None or isinstance(error.generation_id, str)


def _check_words(text: str) -> None:
    assert text.isprintable(), ascii(text)
    assert len(text) <= _MAX_WORDS
    assert not _UNREDACTED.search(text), text


def _check_id(identity: str) -> None:
    assert isinstance(identity, str)
    assert identity
    assert identity.isprintable(), ascii(identity)
    assert len(identity) <= _MAX_ID


def _check_number(number: float | None) -> None:
    assert number is None or (isinstance(number, float) and abs(number) < float("inf"))
