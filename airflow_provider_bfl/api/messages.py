# SPDX-License-Identifier: Apache-2.0
"""
What goes to BFL and what its answers mean, without a socket.

A transport sends an :class:`HttpRequest` and hands back an :class:`HttpReply`; the ``read_*`` functions turn the
reply into a value or into the one typed error it stands for. Sync and async share this, so they cannot differ.

Sources: BFL's OpenAPI (AsyncResponse, AsyncWebhookResponse, ResultResponse, SettledCostResultResponse,
HTTPValidationError) and https://docs.bfl.ai/api_integration/errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflContentModeratedError,
    BflError,
    BflGenerationFailedError,
    BflInsufficientCreditsError,
    BflRateLimitedError,
    BflRequestModeratedError,
    BflRequestRejectedError,
    BflServiceError,
    BflTaskNotFoundError,
    BflValidationError,
)

#: Where credits are bought; BFL's 402 has no link of its own.
TOP_UP_URL = "https://dashboard.bfl.ai"

#: BFL's own texts are short; anything longer is an HTML page or an attempt to flood the log.
_MAX_DETAIL_CHARS = 500

#: BFL's ids are UUIDs of 36.
_MAX_ID_CHARS = 200

#: A gateway between us and BFL writes these when it lost the answer, so BFL may have accepted the request.
#: 520, 522 and 524 are Cloudflare's.
_GATEWAY_LOST_ANSWER = frozenset({502, 504, 520, 522, 524})

_URL_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*", re.IGNORECASE)

#: Fields of an answer that may repeat what was sent: a prompt, an image, a secret.
_ECHOES = frozenset({"input", "prompt", "request"})


@dataclass(frozen=True)
class HttpRequest:
    """A request to BFL's API. The key is not part of it: the transport adds it after the URL was judged."""

    method: str
    url: str
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpReply:
    """An answer as it came: ``headers`` with lower-case names, ``body`` undecoded."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Submission:
    """
    An accepted generation, as BFL answered the POST.

    ``polling_url`` is None when a webhook was asked for. ``cost`` (credits) and the megapixels are BFL's own
    figures and None where BFL gives none.
    """

    id: str
    polling_url: str | None
    cost: float | None = None
    input_mp: float | None = None
    output_mp: float | None = None


class Phase(Enum):
    """What a status means for the one who waits. ``UNKNOWN`` is a status BFL added after this was written."""

    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    REQUEST_MODERATED = "request moderated"
    CONTENT_MODERATED = "content moderated"
    NOT_FOUND = "not found"
    UNKNOWN = "unknown"


_PHASES = {
    "Pending": Phase.RUNNING,
    "Reasoning": Phase.RUNNING,
    "Generating": Phase.RUNNING,
    "Ready": Phase.READY,
    "Error": Phase.FAILED,
    "Failed": Phase.FAILED,
    "Request Moderated": Phase.REQUEST_MODERATED,
    "Content Moderated": Phase.CONTENT_MODERATED,
    "Task not found": Phase.NOT_FOUND,
}


@dataclass(frozen=True)
class PollResult:
    """
    One answer to a poll.

    ``status`` is BFL's word, ``phase`` its meaning. ``sample`` is the signed URL of the result: a secret, so it is
    not part of the repr. ``seed`` is the effective seed where the model reports one. ``cost`` is set only by models
    that settle it at the end. ``detail`` is BFL's reason for a failure or a moderation, fit for a log.
    """

    id: str | None
    status: str
    phase: Phase
    sample: str | None = field(default=None, repr=False)
    seed: int | None = None
    cost: float | None = None
    progress: float | None = None
    detail: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether another poll of the same host cannot change the answer (``NOT_FOUND`` may, shortly after submit)."""
        return self.phase in _FINAL_PHASES


_FINAL_PHASES = frozenset({Phase.READY, Phase.FAILED, Phase.REQUEST_MODERATED, Phase.CONTENT_MODERATED})


@dataclass(frozen=True)
class PollFailure:
    """
    A poll without an answer about the task: a lost connection, a 5xx, a refused key.

    :param reason: What happened, fit for a log.
    :param retry_after: Seconds the server asked to wait, or None.
    :param unauthorized: Whether the key was refused.
    """

    reason: str
    retry_after: float | None = None
    unauthorized: bool = False


def submit_request(base_url: str, model: str, body: Mapping[str, Any]) -> HttpRequest:
    """
    Return the POST that submits ``body`` to ``model``; slashes in the model (``flux-tools/erase-v1``) are kept.

    :raises BflValidationError: ``body`` is not JSON (NaN is not either).
    """
    try:
        encoded = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        message = f"The request to {model} cannot be written as JSON: {error}. Nothing was sent or billed."
        raise BflValidationError(message, model=model) from None
    return HttpRequest("POST", f"{base_url}/v1/{quote(model)}", encoded)


def poll_request(polling_url: str) -> HttpRequest:
    """Return the GET that asks for a result: the returned URL verbatim, on whatever host it names."""
    return HttpRequest("GET", polling_url)


def credits_request(base_url: str) -> HttpRequest:
    """Return the GET that asks for the balance; it is free."""
    return HttpRequest("GET", f"{base_url}/v1/credits")


def read_submission(reply: HttpReply, *, model: str) -> Submission:
    """
    Read the answer to the POST.

    :raises BflAmbiguousSubmitError: 200 that cannot be read, 502, 504 or a gateway's like: BFL may have accepted.
    :raises BflRateLimitedError: 429.
    :raises BflServiceError: any other 5xx: a refusal; ``repeatable`` for a 503 that says so in its body.
    :raises BflInsufficientCreditsError: 402.
    :raises BflAuthenticationError: 401, 403 or a 422 about the key.
    :raises BflRequestRejectedError: any other 4xx or a redirect.
    """
    if not 200 <= reply.status < 300:
        raise _submit_error(reply, model)
    body = _json_object(reply.body) or {}
    generation_id = _identity(body.get("id"))
    if generation_id is None or not _is_submission(body):
        known = f" It names the id {generation_id!r}." if generation_id else ""
        message = (
            f"BFL answered the POST to {model} with {reply.status} and a body that is not a submission.{known} "
            "The generation may have been accepted and billed. A retry follows on_ambiguous_submit."
        )
        raise BflAmbiguousSubmitError(message, model=model, generation_id=generation_id)
    return Submission(
        id=generation_id,
        polling_url=body.get("polling_url"),
        cost=_number(body.get("cost")),
        input_mp=_number(body.get("input_mp")),
        output_mp=_number(body.get("output_mp")),
    )


def _is_submission(body: Mapping[str, Any]) -> bool:
    polling_url = body.get("polling_url")
    return (isinstance(polling_url, str) and bool(polling_url)) or (
        polling_url is None and isinstance(body.get("webhook_url"), str)
    )


def _submit_error(reply: HttpReply, model: str) -> BflError:
    status, detail = reply.status, read_detail(reply.body)
    said = f"BFL answered the POST to {model} with {status}" + (f": {detail}" if detail else "")
    if status == 429:
        return BflRateLimitedError(
            f"{said}. The account's active tasks are at their limit. Nothing was billed; try again when one ends.",
            model=model,
            repeatable=True,
            retry_after=read_retry_after(reply),
        )
    if status == 402:
        return BflInsufficientCreditsError(
            f"{said}. Nothing was billed. Buy credits at {TOP_UP_URL}, then clear the task.", model=model
        )
    if status in (401, 403) or (status == 422 and _is_key_format_complaint(reply.body)):
        return BflAuthenticationError(
            f"{said}. Nothing was billed. Check the API key in the password of the connection.", model=model
        )
    if status in _GATEWAY_LOST_ANSWER:
        return BflAmbiguousSubmitError(
            f"{said}. A gateway lost the answer, so the generation may have been accepted and billed. "
            "A retry follows on_ambiguous_submit.",
            model=model,
        )
    if status >= 500:
        return BflServiceError(
            f"{said}. It was refused and not billed; a retry submits again.",
            model=model,
            repeatable=status == 503 and bool(detail),
            retry_after=read_retry_after(reply),
        )
    if 300 <= status < 400:
        return BflRequestRejectedError(
            f"{said}, a redirect. Redirects are never followed with the key. Nothing was billed; "
            "check the host of the connection.",
            model=model,
        )
    return BflRequestRejectedError(f"{said}. Nothing was billed; correct the request.", model=model)


def read_poll(reply: HttpReply, *, generation_id: str | None) -> PollResult | PollFailure:
    """
    Read the answer to a poll: the body first, because a failed task may answer 422 or 503 with a task body.

    :param generation_id: The id that was asked for; an answer about another one is a failure. None accepts any.
    """
    body = _json_object(reply.body)
    if body is not None and _is_task_body(reply.status, body):
        answered = body.get("id")
        if generation_id is not None and answered is not None and answered != generation_id:
            return PollFailure("the answer is about another task")
        return _poll_result(body, generation_id)
    if reply.status == 404:
        return PollResult(id=generation_id, status="Task not found", phase=Phase.NOT_FOUND)
    detail = read_detail(reply.body)
    if 200 <= reply.status < 300:
        return PollFailure(f"HTTP {reply.status} with a body that is not a task")
    if 300 <= reply.status < 400:
        return PollFailure(f"HTTP {reply.status}, a redirect, which is never followed with the key")
    return PollFailure(
        f"HTTP {reply.status}" + (f": {detail}" if detail else ""),
        retry_after=read_retry_after(reply),
        unauthorized=reply.status in (401, 403),
    )


def _is_task_body(status_code: int, body: Mapping[str, Any]) -> bool:
    if not isinstance(body.get("status"), str):
        return False
    return 200 <= status_code < 300 or isinstance(body.get("id"), str)


def _poll_result(body: Mapping[str, Any], generation_id: str | None) -> PollResult:
    status: str = body["status"]
    raw_result = body.get("result")
    result = raw_result if isinstance(raw_result, dict) else {}
    sample, seed = result.get("sample"), result.get("seed")
    return PollResult(
        id=_identity(body.get("id")) or generation_id,
        status=_clip(status),
        phase=_PHASES.get(status, Phase.UNKNOWN),
        sample=sample if isinstance(sample, str) and sample else None,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        cost=_number(body.get("cost")),
        progress=_number(body.get("progress")),
        detail=_task_detail(body.get("details")),
    )


def check_outcome(result: PollResult, *, generation_id: str, model: str | None = None) -> None:
    """
    Raise the typed error of a generation that ended without a result; return for any other answer.

    :raises BflRequestModeratedError: BFL refused the input.
    :raises BflContentModeratedError: BFL withheld the result.
    :raises BflGenerationFailedError: the generation failed.
    :raises BflTaskNotFoundError: the polling host does not know the task.
    """
    named = f"Generation {generation_id}" + (f" ({model})" if model else "")
    reason = f" Reason: {result.detail}." if result.detail else ""
    if result.phase is Phase.REQUEST_MODERATED:
        raise BflRequestModeratedError(
            f"{named} was moderated: the prompt or an input image was refused.{reason} BFL does not charge for it. "
            "Change the prompt or the input image; this is not a rate limit.",
            generation_id=generation_id,
            model=model,
        )
    if result.phase is Phase.CONTENT_MODERATED:
        raise BflContentModeratedError(
            f"{named} was moderated: the result was withheld.{reason} BFL does not charge for it. "
            "Change the prompt or the seed; this is not a rate limit.",
            generation_id=generation_id,
            model=model,
        )
    if result.phase is Phase.FAILED:
        raise BflGenerationFailedError(
            f"{named} failed at BFL with status {result.status!r}.{reason} BFL does not say whether a failed "
            "generation is billed. A retry of the submitting task generates anew.",
            generation_id=generation_id,
            model=model,
        )
    if result.phase is Phase.NOT_FOUND:
        raise BflTaskNotFoundError(
            f"{named} is not known to its polling host. BFL has forgotten it or the polling URL is not the one BFL "
            "returned. It was accepted, so it is billed once. Nothing is submitted again by itself; force_new=True "
            "generates (and pays) anew.",
            generation_id=generation_id,
            model=model,
        )


def read_credits(reply: HttpReply) -> float:
    """
    Read the balance in credits.

    :raises BflAuthenticationError: the key was refused.
    :raises BflServiceError: any other answer without a balance.
    """
    body = _json_object(reply.body) or {}
    balance = _number(body.get("credits"))
    if 200 <= reply.status < 300 and balance is not None:
        return balance
    detail = read_detail(reply.body)
    said = f"BFL answered the question for credits with {reply.status}" + (f": {detail}" if detail else "")
    if reply.status in (401, 403) or (reply.status == 422 and _is_key_format_complaint(reply.body)):
        raise BflAuthenticationError(f"{said}. Check the API key in the password of the connection.")
    raise BflServiceError(f"{said}. Nothing was submitted.")


def read_retry_after(reply: HttpReply) -> float | None:
    """Return the seconds of ``Retry-After``, or None. BFL sends it on 200 too, so it means nothing by itself."""
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def read_detail(body: bytes) -> str:
    """
    Return BFL's ``detail`` as one line fit for a log, or an empty string.

    ``detail`` is a string or FastAPI's list; of the list only field and message are used, never the echoed input,
    which may be a prompt, an image or a secret.
    """
    parsed = _json_object(body)
    if parsed is None:
        return ""
    detail = parsed.get("detail")
    if isinstance(detail, str):
        return _clip(detail)
    if isinstance(detail, list):
        return _clip("; ".join(_validation_line(item) for item in detail if isinstance(item, dict)))
    return ""


def generation_id_of(polling_url: str) -> str | None:
    """Return the ``id`` a polling URL asks for, or None where it has none; used for messages, never to build a URL."""
    try:
        values = parse_qs(urlsplit(polling_url).query).get("id")
    except ValueError:
        return None
    return _identity(values[0]) if values else None


def redact_urls(text: str) -> str:
    """Return ``text`` with the query of every URL in it replaced: a signed URL's query is a credential."""
    return _URL_QUERY.sub(r"\1?…", text)


def _identity(value: Any) -> str | None:
    # It goes into logs, XCom and object names as it is.
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        return None
    return value if len(value) <= _MAX_ID_CHARS and redact_urls(value) == value else None


def _validation_line(item: Mapping[str, Any]) -> str:
    location = item.get("loc")
    path = [str(part) for part in location if part != "body"] if isinstance(location, list) else []
    said = item.get("msg")
    message = said if isinstance(said, str) else "not valid"
    return f"{'.'.join(path)}: {message}" if path else message


def _is_key_format_complaint(body: bytes) -> bool:
    # FastAPI's own complaints about a body are a list; the one string BFL sends with 422 is about the key.
    parsed = _json_object(body)
    detail = parsed.get("detail") if parsed else None
    return isinstance(detail, str) and "key" in detail.lower().split()


def _task_detail(details: Any) -> str | None:
    # Only flat values: a nested object may be the request.
    if not isinstance(details, dict):
        return None
    parts = []
    for name, value in details.items():
        flat = [str(item) for item in (value if isinstance(value, list) else [value]) if _is_plain(item)]
        if flat and name.lower() not in _ECHOES:
            parts.append(f"{name}: {', '.join(flat)}")
    return _clip("; ".join(parts)) or None


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < float("inf") else None


def _clip(text: str) -> str:
    # Cleaned first: a character that is dropped could hide a URL from the redaction.
    line = redact_urls("".join(char for char in " ".join(text.split()) if char.isprintable()))
    return line if len(line) <= _MAX_DETAIL_CHARS else line[:_MAX_DETAIL_CHARS] + "…"
