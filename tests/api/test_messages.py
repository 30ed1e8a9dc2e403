# SPDX-License-Identifier: Apache-2.0
"""What goes to BFL and what each of its answers means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bfl.api import messages
from airflow_provider_bfl.api.messages import HttpReply, HttpRequest, Phase, PollFailure, PollResult
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflContentModeratedError,
    BflError,
    BflGenerationFailedError,
    BflInsufficientCreditsError,
    BflPermanentError,
    BflRateLimitedError,
    BflRefusedError,
    BflRequestModeratedError,
    BflRequestRejectedError,
    BflServiceError,
    BflTaskNotFoundError,
    BflValidationError,
)

MODEL = "flux-2-pro"
ID = "38b4e501-344b-4d19-9ffa-a566b7f36b1c"
POLLING_URL = f"https://api.eu2.bfl.ai/v1/get_result?id={ID}"
SAMPLE = "https://delivery.eu2.bfl.ai/durable/x/sample.jpeg?se=2026&sig=CANARY%2Bsignature%3D"
CANARY = "CANARY-prompt-nobody-may-read"

VALIDATION = [
    {"loc": ["body", "width"], "msg": "Input should be a multiple of 16", "type": "multiple_of", "input": CANARY},
    {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing", "input": {"prompt": CANARY}, "ctx": {}},
]


def reply(status: int, body: Any = b"", **headers: str) -> HttpReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def submit(status: int, body: Any = b"", **headers: str) -> messages.Submission:
    return messages.read_submission(reply(status, body, **headers), model=MODEL)


def poll(status: int, body: Any = b"", *, of: str | None = ID, **headers: str) -> PollResult | PollFailure:
    return messages.read_poll(reply(status, body, **headers), generation_id=of)


def task(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": ID, "status": status, "result": None, "progress": None, "details": None, "preview": None} | fields


def answered(status: int, body: Any, **options: Any) -> PollResult:
    result = poll(status, body, **options)
    assert isinstance(result, PollResult)
    return result


def failed(status: int, body: Any = b"", **options: Any) -> PollFailure:
    result = poll(status, body, **options)
    assert isinstance(result, PollFailure)
    return result


class TestWhatIsSent:
    def test_a_submit_goes_to_the_models_endpoint_as_json(self) -> None:
        request = messages.submit_request("https://api.bfl.ai", MODEL, {"prompt": "ein Fuchs 🦊", "seed": 0})
        assert (request.method, request.url) == ("POST", "https://api.bfl.ai/v1/flux-2-pro")
        assert json.loads(request.body or b"") == {"prompt": "ein Fuchs 🦊", "seed": 0}

    @pytest.mark.parametrize(
        ("model", "path"),
        [("flux-tools/erase-v1", "flux-tools/erase-v1"), ("a b?c#d", "a%20b%3Fc%23d"), ("flux-2.5", "flux-2.5")],
    )
    def test_a_model_cannot_leave_the_path(self, model: str, path: str) -> None:
        assert messages.submit_request("https://gw.corp/bfl", model, {}).url == f"https://gw.corp/bfl/v1/{path}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
    def test_a_request_that_is_not_json_is_refused_before_it_is_sent(self, value: object) -> None:
        with pytest.raises(BflValidationError, match="Nothing was sent or billed"):
            messages.submit_request("https://api.bfl.ai", MODEL, {"guidance": value})

    def test_a_poll_asks_the_returned_url_verbatim(self) -> None:
        url = "https://api.eu2.bfl.ai/v1/get_result?id=a%2fb&x="
        assert messages.poll_request(url) == HttpRequest("GET", url)

    def test_the_balance_is_asked_for_and_never_posted(self) -> None:
        assert messages.credits_request("https://api.bfl.ai") == HttpRequest("GET", "https://api.bfl.ai/v1/credits")

    def test_the_repr_shows_no_prompt_and_no_answer(self) -> None:
        shown = repr(messages.submit_request("https://api.bfl.ai", MODEL, {"prompt": CANARY}))
        shown += repr(reply(200, {"echo": CANARY}, x_echo=CANARY))
        assert CANARY not in shown


class TestAnAcceptedSubmit:
    def test_is_read_whole(self) -> None:
        body = {"id": ID, "polling_url": POLLING_URL, "cost": 3.0, "input_mp": 0.0, "output_mp": 1.0}
        assert submit(200, body) == messages.Submission(ID, POLLING_URL, 3.0, 0.0, 1.0)

    def test_keeps_the_polling_url_byte_for_byte(self) -> None:
        odd = "https://api.us7.bfl.ai/v1/get_result?id=x%2f%2F&&y"
        assert submit(200, {"id": ID, "polling_url": odd}).polling_url == odd

    def test_without_figures_is_accepted_too(self) -> None:
        body = {"id": ID, "polling_url": POLLING_URL, "cost": None, "input_mp": None, "output_mp": None}
        assert submit(200, body) == messages.Submission(ID, POLLING_URL)

    def test_with_a_webhook_has_no_polling_url(self) -> None:
        body = {"id": ID, "status": "Pending", "webhook_url": "https://hook.example/x", "cost": 3.0}
        assert submit(200, body) == messages.Submission(ID, None, 3.0)

    def test_keeps_the_cost_as_bfl_says_it(self) -> None:
        assert submit(200, {"id": ID, "polling_url": POLLING_URL, "cost": 7.000000000000001}).cost == 7.000000000000001

    @pytest.mark.parametrize(
        "cost",
        [True, "3", [3], {}, float("nan"), float("inf"), -float("inf"), 10**400],
        ids=lambda value: str(value)[:9],
    )
    def test_takes_no_figure_that_is_not_a_number(self, cost: object) -> None:
        assert submit(200, {"id": ID, "polling_url": POLLING_URL, "cost": cost}).cost is None


class TestA200ThatCannotBeRead:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>welcome</html>",
            b"\xff\xfe\x00",
            b'{"id": "x", "polling_url": "https://api.bfl.a',
            b"[1]",
            b"null",
            b"[" * 200_000,
            b'{"n": 1' + b"0" * 10_000 + b"}",
            {"id": ID},
            {"id": ID, "polling_url": ""},
            {"id": ID, "polling_url": 7},
            {"id": ID, "webhook_url": None},
            {"id": 7, "polling_url": POLLING_URL},
            {"id": "", "polling_url": POLLING_URL},
            {"id": "\x1b\n", "polling_url": POLLING_URL},
            {"polling_url": POLLING_URL},
        ],
        ids=lambda body: str(body)[:40],
    )
    def test_may_have_been_billed(self, body: Any) -> None:
        with pytest.raises(BflAmbiguousSubmitError, match="may have been accepted and billed") as caught:
            submit(200, body)
        assert not isinstance(caught.value, BflPermanentError)

    def test_names_the_id_when_there_is_one(self) -> None:
        with pytest.raises(BflAmbiguousSubmitError, match=ID) as caught:
            submit(200, {"id": ID})
        assert caught.value.generation_id == ID

    def test_shows_nothing_else_of_the_body(self) -> None:
        with pytest.raises(BflAmbiguousSubmitError) as caught:
            submit(200, {"id": "x" * 100_000, "prompt": CANARY, "detail": CANARY})
        assert CANARY not in str(caught.value)
        assert len(str(caught.value)) < 1000


class TestARefusedSubmit:
    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (400, {"detail": "Finetune not found"}, BflRequestRejectedError),
            (400, b"", BflRequestRejectedError),
            (401, {"detail": "Unauthorized"}, BflAuthenticationError),
            (402, {"detail": "Insufficient credits"}, BflInsufficientCreditsError),
            (402, b"", BflInsufficientCreditsError),
            (403, {"detail": "Not authenticated"}, BflAuthenticationError),
            (403, {"detail": "Not authenticated - Invalid Authentication"}, BflAuthenticationError),
            (403, b"<html>", BflAuthenticationError),
            (404, {"detail": "Not Found"}, BflRequestRejectedError),
            (405, {"detail": "Method Not Allowed"}, BflRequestRejectedError),
            (413, b"<html>too large</html>", BflRequestRejectedError),
            (418, b"", BflRequestRejectedError),
            (422, {"detail": "Invalid API key format"}, BflAuthenticationError),
            (422, {"detail": VALIDATION}, BflRequestRejectedError),
            (422, {"detail": "Too many keyframes"}, BflRequestRejectedError),
            (422, {"detail": [{"loc": ["body", "key"], "msg": "bad key"}]}, BflRequestRejectedError),
            (422, b"", BflRequestRejectedError),
            (429, {"detail": "Rate limit exceeded."}, BflRateLimitedError),
            (429, b"", BflRateLimitedError),
            (500, {"detail": "Internal Server Error"}, BflServiceError),
            (500, b"", BflServiceError),
            (501, b"", BflServiceError),
            (503, {"detail": "Maintenance"}, BflServiceError),
            (503, b"<html>", BflServiceError),
            (301, b"", BflRequestRejectedError),
            (302, b"", BflRequestRejectedError),
            (307, b"", BflRequestRejectedError),
            (308, b"", BflRequestRejectedError),
        ],
    )
    def test_is_the_typed_error_and_says_it_was_not_billed(self, status: int, body: Any, error: type[BflError]) -> None:
        with pytest.raises(error) as caught:
            submit(status, body)
        assert type(caught.value) is error
        assert caught.value.model == MODEL
        assert str(status) in str(caught.value)
        assert "billed" in str(caught.value)

    @pytest.mark.parametrize("status", [502, 504, 520, 522, 524])
    @pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", {"detail": "upstream"}])
    def test_is_ambiguous_when_a_gateway_lost_the_answer(self, status: int, body: Any) -> None:
        with pytest.raises(BflAmbiguousSubmitError, match="may have been accepted and billed"):
            submit(status, body)

    @pytest.mark.parametrize(
        ("status", "body", "repeatable"),
        [
            (429, b"", True),
            (503, {"detail": "Maintenance"}, True),
            (503, b"", False),
            (503, b"<html>Service Unavailable</html>", False),
            (503, {"detail": ""}, False),
            (500, {"detail": "Internal Server Error"}, False),
            (500, b"", False),
        ],
    )
    def test_may_be_repeated_at_once_only_when_bfl_says_it_refused(
        self, status: int, body: Any, repeatable: bool
    ) -> None:
        with pytest.raises(BflRefusedError) as caught:
            submit(status, body)
        assert caught.value.repeatable is repeatable

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("-1", None), ("nan", None), ("inf", None), ("soon", None), ("", None)],
    )
    def test_hands_on_how_long_bfl_asked_to_wait(self, header: str, seconds: float | None) -> None:
        with pytest.raises(BflRateLimitedError) as caught:
            submit(429, b"", retry_after=header)
        assert caught.value.retry_after == seconds

    def test_for_credits_says_where_to_buy_them(self) -> None:
        with pytest.raises(BflInsufficientCreditsError, match=messages.TOP_UP_URL):
            submit(402, {"detail": "Insufficient credits"})

    def test_for_fields_names_each_field_and_its_problem(self) -> None:
        with pytest.raises(BflRequestRejectedError) as caught:
            submit(422, {"detail": VALIDATION})
        assert "width: Input should be a multiple of 16; prompt: Field required" in str(caught.value)
        assert CANARY not in str(caught.value)

    def test_never_shows_an_echo_that_stands_where_a_message_should(self) -> None:
        with pytest.raises(BflRequestRejectedError) as caught:
            submit(422, {"detail": [{"loc": ["body", "x"], "msg": {"input": CANARY}}, CANARY, {"input": CANARY}]})
        assert CANARY not in str(caught.value)

    def test_never_shows_a_body_that_is_not_bfls(self) -> None:
        with pytest.raises(BflRequestRejectedError) as caught:
            submit(400, f"<html>{CANARY}</html>".encode())
        assert CANARY not in str(caught.value)


class TestWhatAnAnswerSaysIsFitForALog:
    def test_long_text_is_cut(self) -> None:
        assert len(messages.read_detail(json.dumps({"detail": "x" * 10_000}).encode())) < 600

    def test_it_is_one_line_without_control_characters(self) -> None:
        detail = messages.read_detail(json.dumps({"detail": "a\nb\r\t\x1b[31mred\x00 \ud800"}).encode())
        assert detail == "a b [31mred "
        detail.encode()

    @pytest.mark.parametrize("scheme", ["https", "http", "HTTPS"])
    def test_signed_urls_lose_their_query(self, scheme: str) -> None:
        text = f'see "{scheme}://delivery.eu.bfl.ai/a.png?se=1&sig=CANARY" and {scheme}://x.y/?CANARY, then more'
        redacted = messages.redact_urls(text)
        assert "CANARY" not in redacted
        assert f"{scheme}://delivery.eu.bfl.ai/a.png?…" in redacted
        assert "then more" in redacted

    @pytest.mark.parametrize("shape", [b"", b"[]", b"7", b'{"detail": 7}', b'{"detail": null}', b'{"error": "x"}'])
    def test_an_unknown_shape_says_nothing(self, shape: bytes) -> None:
        assert messages.read_detail(shape) == ""


class TestPollStatuses:
    @pytest.mark.parametrize(
        ("status", "phase", "final"),
        [
            ("Pending", Phase.RUNNING, False),
            ("Reasoning", Phase.RUNNING, False),
            ("Generating", Phase.RUNNING, False),
            ("Ready", Phase.READY, True),
            ("Error", Phase.FAILED, True),
            ("Failed", Phase.FAILED, True),
            ("Request Moderated", Phase.REQUEST_MODERATED, True),
            ("Content Moderated", Phase.CONTENT_MODERATED, True),
            ("Task not found", Phase.NOT_FOUND, False),
            ("Queued", Phase.UNKNOWN, False),
            ("ready", Phase.UNKNOWN, False),
            ("Dreaming", Phase.UNKNOWN, False),
            ("", Phase.UNKNOWN, False),
        ],
    )
    @pytest.mark.parametrize("code", [200, 422, 503])
    def test_the_body_decides_whatever_the_http_status(self, status: str, phase: Phase, final: bool, code: int) -> None:
        result = answered(code, task(status))
        assert (result.status, result.phase, result.is_final, result.id) == (status, phase, final, ID)

    def test_a_404_is_a_task_that_is_not_known(self) -> None:
        for body in (task("Task not found"), {"detail": "Not Found"}, b"", b"<html>"):
            assert answered(404, body).phase is Phase.NOT_FOUND

    def test_an_answer_about_another_task_is_no_answer(self) -> None:
        for other in ("another", 7, ["x"], ""):
            assert "another task" in failed(200, task("Ready", id=other)).reason

    def test_any_id_will_do_when_none_was_asked_for(self) -> None:
        assert answered(200, task("Pending", id="another"), of=None).id == "another"

    def test_an_answer_without_id_is_about_the_task_asked_for(self) -> None:
        assert answered(200, {"status": "Ready", "result": None}).id == ID

    def test_an_error_with_a_status_but_no_id_is_not_a_task(self) -> None:
        assert failed(503, {"status": "unavailable"}).reason == "HTTP 503"

    def test_an_invented_status_cannot_flood_the_log(self) -> None:
        assert len(answered(200, task("x" * 10_000)).status) < 600


class TestPollResults:
    def test_a_result_is_read_whole(self) -> None:
        result = {"start_time": 1.5, "prompt": CANARY, "seed": 1601288383, "sample": SAMPLE}
        read = answered(200, task("Ready", result=result, cost=80.0, progress=1))
        assert (read.sample, read.seed, read.cost, read.progress) == (SAMPLE, 1601288383, 80.0, 1.0)

    def test_the_repr_shows_neither_the_signed_url_nor_the_prompt(self) -> None:
        read = answered(200, task("Ready", result={"sample": SAMPLE, "prompt": CANARY, "seed": 1}))
        assert "CANARY" not in repr(read)

    @pytest.mark.parametrize("sample", [None, "", 7, ["x"], {"url": SAMPLE}])
    def test_a_sample_that_is_no_text_is_none(self, sample: object) -> None:
        assert answered(200, task("Ready", result={"sample": sample})).sample is None

    @pytest.mark.parametrize("seed", [None, True, "7", 7.0, [7]])
    def test_a_seed_that_is_no_integer_is_none(self, seed: object) -> None:
        assert answered(200, task("Ready", result={"seed": seed})).seed is None

    @pytest.mark.parametrize("result", [None, [], "x", 7, {}])
    def test_a_result_of_any_shape_is_survived(self, result: object) -> None:
        assert answered(200, task("Ready", result=result)).sample is None

    @pytest.mark.parametrize(
        ("details", "told"),
        [
            ({"Moderation Reasons": ["Violence", "Sexual Content"]}, "Moderation Reasons: Violence, Sexual Content"),
            ({"error": "out of memory"}, "error: out of memory"),
            ({"error": "at https://a.b/c?sig=CANARY"}, "error: at https://a.b/c?…"),
            ({"a": 1, "b": ["x", 2.5]}, "a: 1; b: x, 2.5"),
            ({"request": {"prompt": CANARY}, "error": "x"}, "error: x"),
            ({"prompt": CANARY, "Input": CANARY}, None),
            ({"error": {"prompt": CANARY}}, None),
            ({"errors": [{"input": CANARY}, "bad"]}, "errors: bad"),
            ({}, None),
            (None, None),
            ("text", None),
            (["x"], None),
        ],
    )
    def test_details_are_told_without_what_they_echo(self, details: object, told: str | None) -> None:
        assert answered(200, task("Error", details=details)).detail == told


class TestPollFailures:
    @pytest.mark.parametrize("status", [200, 201, 299])
    def test_a_success_that_is_no_task(self, status: int) -> None:
        for body in (b"", b"<html>", {"detail": "x"}, {"status": 7}, b"[]"):
            assert "not a task" in failed(status, body).reason

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect(self, status: int) -> None:
        assert "redirect" in failed(status).reason

    @pytest.mark.parametrize(("status", "unauthorized"), [(401, True), (403, True), (400, False), (429, False)])
    def test_a_refused_key_is_marked(self, status: int, unauthorized: bool) -> None:
        assert failed(status, {"detail": "no"}).unauthorized is unauthorized

    @pytest.mark.parametrize("status", [400, 422, 429, 500, 502, 503, 504])
    def test_an_error_keeps_bfls_words_and_its_wait(self, status: int) -> None:
        failure = failed(status, {"detail": "later"}, retry_after="3")
        assert (failure.reason, failure.retry_after) == (f"HTTP {status}: later", 3.0)


class TestOutcomes:
    @pytest.mark.parametrize(
        ("status", "error", "says"),
        [
            ("Request Moderated", BflRequestModeratedError, "Change the prompt or the input image"),
            ("Content Moderated", BflContentModeratedError, "Change the prompt or the seed"),
            ("Error", BflGenerationFailedError, "does not say whether"),
            ("Failed", BflGenerationFailedError, "generates anew"),
            ("Task not found", BflTaskNotFoundError, "Nothing is submitted again by itself"),
        ],
    )
    def test_an_ending_without_result_is_its_typed_error(self, status: str, error: type[BflError], says: str) -> None:
        result = answered(200, task(status, details={"Moderation Reasons": ["Violence"]}))
        with pytest.raises(error, match=says) as caught:
            messages.check_outcome(result, generation_id=ID, model=MODEL)
        assert (caught.value.generation_id, caught.value.model) == (ID, MODEL)
        assert ID in str(caught.value)
        assert MODEL in str(caught.value)

    @pytest.mark.parametrize("status", ["Request Moderated", "Content Moderated"])
    def test_moderation_says_it_is_neither_charged_nor_a_rate_limit(self, status: str) -> None:
        with pytest.raises(BflError, match=r"does not charge.*not a rate limit") as caught:
            messages.check_outcome(
                answered(200, task(status, details={"Moderation Reasons": ["Self Harm"]})), generation_id=ID
            )
        assert "Moderation Reasons: Self Harm" in str(caught.value)

    @pytest.mark.parametrize("status", ["Ready", "Pending", "Reasoning", "Generating", "Invented"])
    def test_anything_else_passes(self, status: str) -> None:
        messages.check_outcome(answered(200, task(status)), generation_id=ID)


class TestCredits:
    @pytest.mark.parametrize("value", [0, 12.5, 10_000])
    def test_the_balance_is_read(self, value: float) -> None:
        assert messages.read_credits(reply(200, {"credits": value})) == value

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (401, b"", BflAuthenticationError),
            (403, {"detail": "Not authenticated"}, BflAuthenticationError),
            (422, {"detail": "Invalid API key format"}, BflAuthenticationError),
            (200, b"", BflServiceError),
            (200, {"credits": True}, BflServiceError),
            (200, {"credits": "many"}, BflServiceError),
            (302, b"", BflServiceError),
            (404, {"detail": "Not Found"}, BflServiceError),
            (429, {"credits": 5}, BflServiceError),
            (500, {"credits": 5}, BflServiceError),
        ],
    )
    def test_no_balance_is_a_typed_error(self, status: int, body: Any, error: type[BflError]) -> None:
        with pytest.raises(error, match=str(status)):
            messages.read_credits(reply(status, body))


class TestTheIdInAPollingUrl:
    @pytest.mark.parametrize(
        ("url", "generation_id"),
        [
            (POLLING_URL, ID),
            ("https://api.bfl.ai/v1/get_result?x=1&id=a%20b", "a b"),
            ("https://api.bfl.ai/v1/get_result", None),
            ("https://api.bfl.ai/v1/get_result?id=", None),
            ("https://api.bfl.ai/v1/get_result?id=a%0aforged+log+line", None),
            ("https://[api/?id=1", None),
            ("", None),
        ],
    )
    def test_is_read_for_messages(self, url: str, generation_id: str | None) -> None:
        assert messages.generation_id_of(url) == generation_id


_HEADERS = st.dictionaries(st.sampled_from(["retry-after", "location", "x"]), st.text(max_size=20))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_FIELDS = st.dictionaries(
    st.sampled_from(["id", "polling_url", "webhook_url", "status", "result", "details", "detail", "cost", "credits"]),
    _JSON,
)
_BODIES = st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), _JSON | _FIELDS)


class TestAnyAnswerAtAll:
    @settings(deadline=None)
    @given(status=st.integers(100, 999), headers=_HEADERS, body=_BODIES)
    def test_is_read_into_a_value_or_a_typed_error(self, status: int, headers: dict[str, str], body: bytes) -> None:
        anything = HttpReply(status, headers, body)
        for read in (lambda: messages.read_submission(anything, model=MODEL), lambda: messages.read_credits(anything)):
            try:
                read()
            except BflError as error:
                str(error).encode()
        result = messages.read_poll(anything, generation_id=None)
        assert isinstance(result, PollResult | PollFailure)
        if isinstance(result, PollResult):
            try:
                messages.check_outcome(result, generation_id=ID)
            except BflError as error:
                str(error).encode()

    @settings(deadline=None)
    @given(text=st.text())
    def test_no_text_is_a_url_that_breaks_reading_its_id(self, text: str) -> None:
        found = messages.generation_id_of(text)
        assert found is None or found.isprintable()
