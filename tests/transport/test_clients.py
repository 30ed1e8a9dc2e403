# SPDX-License-Identifier: Apache-2.0
"""Both clients on real sockets: same calls, same errors, same bytes on the wire."""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import io
import json
import logging
import pickle
import socket
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest

from airflow_provider_bfl.api.messages import Phase, PollFailure, PollResult
from airflow_provider_bfl.api.trust import Trust, configured_origin
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflDownloadError,
    BflError,
    BflInsufficientCreditsError,
    BflRateLimitedError,
    BflRefusedError,
    BflRequestRejectedError,
    BflResultExpiredError,
    BflResultTooLargeError,
    BflServiceError,
    BflUntrustedUrlError,
    BflValidationError,
)
from airflow_provider_bfl.simulator import Simulator
from airflow_provider_bfl.transport.settings import MAX_REPLY_BYTES, Settings

from .conftest import KEY, Answer, Bfl, Client, RawServer, SelfSigned, Serve, SyncClient, ok, settings_at

ACCEPTED = json.dumps({"id": "x", "polling_url": "https://api.eu.bfl.ai/v1/get_result?id=x"}).encode()
PENDING = json.dumps({"id": "x", "status": "Pending"}).encode()
PROMPT = "CANARY-prompt"
REDIRECTS = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]

CUT = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + ACCEPTED, "close")
CUT_CHUNK = Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + ACCEPTED, "close")
LOST = {
    "closed without a word": Answer(b"", "close"),
    "reset": Answer(b"", "reset"),
    "no answer in time": Answer(b"", "hang"),
    "half a status line": Answer(b"HTTP/1.1 2", "close"),
    "half a header": Answer(b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
    "headers and then silence": Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "hang"),
    "body shorter than declared": CUT,
    "chunk shorter than declared": CUT_CHUNK,
    "not HTTP": Answer(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close"),
    "binary": Answer(bytes(range(256)) * 4, "close"),
    "a chunk size that is no number": Answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "close"
    ),
    "a body that does not unpack": ok(b"\x1f\x8bnot gzip", "Content-Encoding: gzip"),
    "a header that never ends": Answer(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "close"),
    "a success that is not one": ok(b"<html>login</html>"),
    "a body without end": Answer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_REPLY_BYTES + 1), "hang"),
}


def caught_by(call: Any, kind: type[BflError]) -> BflError:
    """Make a call that must fail, and check that its error tells neither key nor prompt, however it is printed."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))
    assert KEY not in told
    assert PROMPT not in told
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return error


def failure_of(answer: PollResult | PollFailure) -> PollFailure:
    assert isinstance(answer, PollFailure)
    assert KEY not in repr(answer)
    return answer


class TestSubmit:
    def test_brings_what_bfl_answered(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        submission = bfl.submit(seed=1)
        task = bfl_simulator.ledger.tasks[0]
        assert (submission.id, submission.cost) == (task.id, task.cost)
        assert submission.polling_url is not None
        assert task.id in submission.polling_url
        assert task.request == {"prompt": "a red kite over dunes", "seed": 1}

    def test_sends_one_post_with_the_key_in_its_header_alone(self, client: Client, serve: Serve) -> None:
        server = serve(ok(ACCEPTED))
        Bfl(client, server.settings()).submit("flux-tools/erase-v1", prompt=PROMPT)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/flux-tools/erase-v1 HTTP/1.1\r\n")
        assert head.count(KEY.encode()) == 1
        assert f"\nx-key: {KEY}\r".encode() in head.replace(b"X-Key", b"x-key") + b"\r"
        assert b"content-type: application/json" in head.lower()
        assert json.loads(body) == {"prompt": PROMPT}

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (400, {"detail": "Finetune not found"}, BflRequestRejectedError),
            (402, {"detail": "Insufficient credits"}, BflInsufficientCreditsError),
            (403, {"detail": "Not authenticated"}, BflAuthenticationError),
            (404, {"detail": "Not Found"}, BflRequestRejectedError),
            (422, {"detail": "Invalid API key format"}, BflAuthenticationError),
            (422, {"detail": [{"loc": ["body", "x"], "msg": "m", "input": PROMPT}]}, BflRequestRejectedError),
            (429, {"detail": "Too many active tasks"}, BflRateLimitedError),
            (500, {"detail": "oops"}, BflServiceError),
            (503, {"detail": "Maintenance"}, BflServiceError),
            (502, "<html>", BflAmbiguousSubmitError),
            (504, "", BflAmbiguousSubmitError),
            (200, "<html>", BflAmbiguousSubmitError),
        ],
    )
    def test_that_is_refused_is_the_typed_error_after_one_post(
        self, bfl: Bfl, bfl_simulator: Simulator, status: int, body: Any, error: type[BflError]
    ) -> None:
        bfl_simulator.fault("submit", status=status, body=body)
        assert type(caught_by(lambda: bfl.submit(prompt=PROMPT), error)) is error
        assert bfl_simulator.ledger.posts_received == 1

    def test_of_a_request_that_is_not_json_opens_no_connection(self, client: Client, serve: Serve) -> None:
        server = serve(ok(ACCEPTED))
        caught_by(lambda: Bfl(client, server.settings()).submit(guidance=float("nan")), BflValidationError)
        assert server.connections == 0

    def test_to_a_host_that_is_not_trusted_opens_no_connection(self, client: Client, serve: Serve) -> None:
        server = serve(ok(ACCEPTED))
        settings = Settings(api_key=KEY, base_url=server.url, trust=Trust())
        caught_by(lambda: Bfl(client, settings).submit(), BflUntrustedUrlError)
        assert server.connections == 0


class TestASubmitThatWasNeverSent:
    def refused_repeatably(self, client: Client, settings: Settings) -> BflError:
        error = caught_by(lambda: Bfl(client, settings).submit(prompt=PROMPT), BflServiceError)
        assert isinstance(error, BflRefusedError)
        assert error.repeatable
        assert "was not sent" in str(error)
        assert "Nothing was billed" in str(error)
        return error

    def test_because_nobody_listens(self, client: Client, closed_port: int) -> None:
        self.refused_repeatably(client, settings_at(closed_port))

    def test_because_the_name_is_unknown(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*args: Any, **kwargs: Any) -> NoReturn:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        origin = configured_origin("https://nowhere.invalid", setting="host")
        settings = Settings(api_key=KEY, base_url="https://nowhere.invalid", trust=Trust(base=origin))
        self.refused_repeatably(client, settings)

    def test_because_the_connection_timed_out(self, client: Client, deaf_port: int) -> None:
        self.refused_repeatably(client, settings_at(deaf_port, timeout_seconds=0.3))

    def test_because_nobody_vouches_for_the_server(self, client: Client, serve: Serve, self_signed: SelfSigned) -> None:
        server = serve(ok(ACCEPTED), tls=self_signed.context)
        self.refused_repeatably(client, server.settings())
        assert server.requests == []

    def test_reaches_a_server_that_the_users_own_bundle_vouches_for(
        self, serve: Serve, self_signed: SelfSigned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(ok(ACCEPTED), tls=self_signed.context)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(self_signed.pem))
        assert Bfl(SyncClient(), server.settings()).submit().id == "x"

    def test_is_told_without_the_url(self, client: Client, closed_port: int) -> None:
        assert "http" not in str(self.refused_repeatably(client, settings_at(closed_port)))


class TestASubmitWhoseAnswerIsLost:
    @pytest.mark.parametrize("how", LOST)
    def test_may_be_billed_and_is_never_sent_twice(self, client: Client, serve: Serve, how: str) -> None:
        server = serve(LOST[how])
        bfl = Bfl(client, server.settings(timeout_seconds=0.4))
        error = caught_by(lambda: bfl.submit(prompt=PROMPT), BflAmbiguousSubmitError)
        assert "billed" in str(error)
        assert (len(server.requests), server.connections) == (1, 1)

    def test_although_bfl_had_accepted_it(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        bfl_simulator.fault("submit", accept=True, drop=True, times=None)
        caught_by(bfl.submit, BflAmbiguousSubmitError)
        assert bfl_simulator.ledger.posts == 1

    def test_is_not_repeated_on_a_connection_that_had_been_used(self, client: Client, serve: Serve) -> None:
        server = serve(ok(PENDING), Answer(b"", "reset"))
        with pytest.raises(BflAmbiguousSubmitError):
            client.talk(
                server.settings(),
                lambda talking: talking.poll(f"{server.url}/v1/get_result?id=x"),
                lambda talking: talking.submit("flux-2-pro", {}),
            )
        assert [line.split()[0] for line in server.request_lines()] == [b"GET", b"POST"]

    def test_costs_no_connection_of_another_submit(self, client: Client, serve: Serve) -> None:
        server = serve(ok(ACCEPTED))
        poll = f"{server.url}/v1/get_result?id=x"
        client.talk(
            server.settings(),
            lambda talking: talking.poll(poll),
            lambda talking: talking.submit("flux-2-pro", {}),
            lambda talking: talking.poll(poll),
            lambda talking: talking.submit("flux-2-pro", {}),
        )
        first_poll, first_post, second_poll, second_post = server.connection_of
        assert first_poll == second_poll, "polls share a connection"
        assert len({first_poll, first_post, second_post}) == 3


class TestRedirects:
    @pytest.mark.parametrize("status", REDIRECTS)
    def test_of_a_submit_are_an_error_and_the_key_stays(self, client: Client, serve: Serve, status: str) -> None:
        canary = serve(ok(ACCEPTED))
        server = serve(ok(b"", f"Location: {canary.url}/v1/flux-2-pro", status=status))
        caught_by(Bfl(client, server.settings()).submit, BflRequestRejectedError)
        assert (canary.connections, len(server.requests)) == (0, 1)

    @pytest.mark.parametrize("status", REDIRECTS)
    def test_of_a_poll_are_a_failure_and_the_key_stays(self, client: Client, serve: Serve, status: str) -> None:
        canary = serve(ok(PENDING))
        server = serve(ok(b"", f"Location: {canary.url}/v1/get_result?id=x", status=status))
        answer = Bfl(client, server.settings()).poll(f"{server.url}/v1/get_result?id=x")
        assert "redirect" in failure_of(answer).reason
        assert (canary.connections, len(server.requests)) == (0, 1)

    def test_of_credits_are_an_error_and_the_key_stays(self, client: Client, serve: Serve) -> None:
        canary = serve(ok(b'{"credits": 1}'))
        server = serve(ok(b"", f"Location: {canary.url}/", status="302 Found"))
        caught_by(Bfl(client, server.settings()).credits, BflServiceError)
        assert canary.connections == 0

    def test_to_the_same_host_are_not_followed_either(self, client: Client, serve: Serve) -> None:
        server = serve(ok(b"", "Location: /v1/elsewhere", status="307 Temporary"), ok(ACCEPTED))
        caught_by(Bfl(client, server.settings()).submit, BflRequestRejectedError)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("location", ["http://[", "\xff\xfe", "//", "https://user:pw@x/", "javascript:1", "\x01"])
    def test_to_nonsense_are_typed_errors(self, client: Client, serve: Serve, location: str) -> None:
        server = serve(ok(b"", f"Location: {location}", status="302 Found"))
        bfl = Bfl(client, server.settings())
        with pytest.raises((BflRequestRejectedError, BflAmbiguousSubmitError)):
            bfl.submit()
        failure_of(bfl.poll(f"{server.url}/v1/get_result?id=x"))
        with pytest.raises((BflDownloadError, BflUntrustedUrlError)):
            bfl.download(f"{server.url}/x.png")

    def test_over_the_simulator_leak_nothing(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        polling_url = bfl.submit().polling_url or ""
        for kind in ("submit", "poll", "credits"):
            bfl_simulator.fault(kind, redirect_to=f"{bfl_simulator.canary_url}/v1/flux-2-pro")
        caught_by(bfl.submit, BflRequestRejectedError)
        failure_of(bfl.poll(polling_url))
        caught_by(bfl.credits, BflServiceError)
        assert bfl_simulator.ledger.of_role("canary") == ()
        assert bfl_simulator.ledger.leaks == ()


class TestPoll:
    def test_follows_a_generation_to_its_end(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        submission = bfl.submit(seed=7)
        url = submission.polling_url or ""
        first = bfl.poll(url)
        bfl_simulator.finish(submission.id)
        last = bfl.poll(url)
        assert isinstance(first, PollResult)
        assert isinstance(last, PollResult)
        assert (first.id, first.phase) == (submission.id, Phase.RUNNING)
        assert (last.phase, last.seed) == (Phase.READY, 7)
        assert last.sample is not None
        assert bfl_simulator.ledger.leaks == ()

    @pytest.mark.parametrize("how", LOST)
    def test_that_breaks_is_a_failure_and_no_error(self, client: Client, serve: Serve, how: str) -> None:
        server = serve(LOST[how])
        bfl = Bfl(client, server.settings(timeout_seconds=0.4))
        reason = failure_of(bfl.poll(f"{server.url}/v1/get_result?id=CANARY")).reason
        assert "CANARY" not in reason
        assert "http" not in reason

    def test_of_a_host_that_is_away_is_a_failure(self, client: Client, closed_port: int) -> None:
        failure_of(Bfl(client, settings_at(closed_port)).poll(f"http://127.0.0.1:{closed_port}/v1/get_result?id=x"))

    @pytest.mark.parametrize(
        ("status", "unauthorized"), [(500, False), (502, False), (429, False), (401, True), (403, True)]
    )
    def test_that_is_refused_is_a_failure(
        self, bfl: Bfl, bfl_simulator: Simulator, status: int, unauthorized: bool
    ) -> None:
        url = bfl.submit().polling_url or ""
        bfl_simulator.fault("poll", status=status, body={"detail": "no"}, headers={"Retry-After": "3"})
        failure = failure_of(bfl.poll(url))
        assert (failure.unauthorized, failure.retry_after) == (unauthorized, 3.0)

    @pytest.mark.parametrize("status", [422, 503])
    def test_reads_the_body_before_the_status(self, bfl: Bfl, bfl_simulator: Simulator, status: int) -> None:
        url = bfl.submit().polling_url or ""
        bfl_simulator.fault("poll", status=status, status_body="Error")
        answer = bfl.poll(url)
        assert isinstance(answer, PollResult)
        assert answer.phase is Phase.FAILED

    def test_of_another_task_is_a_failure(self, client: Client, serve: Serve) -> None:
        server = serve(ok(json.dumps({"id": "other", "status": "Ready"}).encode()))
        failure_of(Bfl(client, server.settings()).poll(f"{server.url}/v1/get_result?id=x"))

    def test_of_a_host_that_is_not_bfls_sends_nothing(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        caught_by(lambda: bfl.poll(f"{bfl_simulator.canary_url}/v1/get_result?id=x"), BflUntrustedUrlError)
        assert bfl_simulator.ledger.requests == ()

    def test_of_a_delivery_host_sends_nothing(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        url = f"{bfl_simulator.addresses['delivery:eu']}/v1/get_result?id=x"
        caught_by(lambda: bfl.poll(url), BflUntrustedUrlError)
        assert bfl_simulator.ledger.requests == ()


class TestTheUrlIsAskedAsItIs:
    @pytest.mark.parametrize(
        "target",
        [
            "/v1/get_result?id=a%2fb%2B%zz&x=&&y",
            "/durable/x/sample.jpeg?se=2026-08-15T19%3A22%3A20Z&sp=r&rsct=image/jpeg&sig=a%2Bb%3d/c",
            "//two/slashes/../and%2e%2E/dots?q",
            "/a;b=c,d!$'()*[]@:?'()*[]@:/?%41",
            "/",
        ],
    )
    def test_by_polls_and_downloads(self, client: Client, serve: Serve, target: str) -> None:
        server = serve(ok(PENDING))
        bfl = Bfl(client, server.settings())
        bfl.poll(server.url + target)
        bfl.download(server.url + target)
        assert server.request_lines() == [f"GET {target} HTTP/1.1".encode()] * 2

    def test_with_the_host_alone(self, client: Client, serve: Serve) -> None:
        server = serve(ok(PENDING))
        Bfl(client, server.settings()).poll(server.url)
        assert server.request_lines() == [b"GET / HTTP/1.1"]

    def test_even_when_connections_are_shared(self, client: Client, serve: Serve) -> None:
        server = serve(ok(PENDING))
        targets = ["/a?x=%2f", "/b", "/c?y=%3D"]
        calls = [lambda talking, url=server.url + target: talking.poll(url) for target in targets]
        client.talk(server.settings(), *calls)
        assert server.request_lines() == [f"GET {target} HTTP/1.1".encode() for target in targets]
        assert server.connections == 1


class TestTheKeyStaysIn:
    def test_a_server_that_echoes_it_is_scrubbed(self, client: Client, serve: Serve) -> None:
        echo = json.dumps({"detail": f"bad key {KEY}"}).encode()
        for status in ("400 Bad", "403 Forbidden", "422 Unprocessable", "429 Slow", "500 Oops", "503 Away"):
            server = serve(ok(echo, f"Retry-After: {KEY}", f"x-echo: {KEY}", status=status))
            bfl = Bfl(client, server.settings())
            assert "bad key ***" in str(caught_by(bfl.submit, BflError))
            caught_by(bfl.credits, BflError)
            failure_of(bfl.poll(f"{server.url}/v1/get_result?id=x"))

    def test_an_echo_in_an_accepted_answer_is_scrubbed(self, client: Client, serve: Serve) -> None:
        body = json.dumps({"id": KEY, "polling_url": f"https://api.bfl.ai/v1/get_result?id={KEY}"}).encode()
        submission = Bfl(client, serve(ok(body)).settings()).submit()
        assert KEY not in repr(submission)

    def test_no_repr_shows_it(self, client: Client, bfl: Bfl) -> None:
        shown = client.talk(bfl.settings, lambda talking: _at_once(client, repr(talking) + repr(talking.settings)))
        assert KEY not in repr(shown) + repr(bfl.settings) + str(bfl.settings)

    def test_no_log_shows_it_nor_a_signature(
        self, bfl: Bfl, bfl_simulator: Simulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        sample = ready_sample(bfl, bfl_simulator)
        bfl.download(sample)
        told = " ".join(record.getMessage() + repr(record.args) for record in caplog.records)
        assert KEY not in told
        assert urlsplit(sample).query not in told
        assert "sig=" not in told

    def test_a_proxy_for_plain_http_never_sees_it(
        self, client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, server = serve(ok(ACCEPTED)), serve(ok(ACCEPTED))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        bfl = Bfl(client, server.settings())
        bfl.submit()
        bfl.poll(f"{server.url}/v1/get_result?id=x")
        bfl.download(f"{server.url}/x")
        assert (proxy.connections, len(server.requests)) == (0, 3)

    def test_a_proxy_for_https_sees_a_tunnel_and_no_key(
        self, client: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(Answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "close"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", proxy.url)
        bfl = Bfl(client, Settings(api_key=KEY, base_url="https://api.bfl.ai", trust=Trust()))
        caught_by(bfl.submit, BflError)
        failure_of(bfl.poll("https://api.eu2.bfl.ai/v1/get_result?id=x"))
        asked = [line.rpartition(b" ")[0] for line in proxy.request_lines()]
        assert asked == [b"CONNECT api.bfl.ai:443", b"CONNECT api.eu2.bfl.ai:443"]
        assert KEY.encode() not in b"".join(proxy.requests)

    def test_no_proxy_is_obeyed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow_provider_bfl.transport.exchange import env_proxy

        monkeypatch.setenv("https_proxy", "http://proxy.corp:3128")
        monkeypatch.setenv("no_proxy", "gw.corp")
        monkeypatch.setenv("NO_PROXY", "gw.corp")
        assert env_proxy("https://api.bfl.ai/v1") == "http://proxy.corp:3128"
        assert env_proxy("https://gw.corp/v1") is None
        assert env_proxy("http://127.0.0.1:8000/v1") is None


class TestCredits:
    def test_are_read(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        bfl_simulator.set_credits(123.5)
        assert bfl.credits() == 123.5
        assert bfl_simulator.ledger.posts_received == 0

    def test_of_a_host_that_is_away_are_a_service_error(self, client: Client, closed_port: int) -> None:
        error = caught_by(Bfl(client, settings_at(closed_port)).credits, BflServiceError)
        assert "could not be reached" in str(error)

    @pytest.mark.parametrize(("status", "error"), [(403, BflAuthenticationError), (500, BflServiceError)])
    def test_that_are_refused_are_the_typed_error(
        self, bfl: Bfl, bfl_simulator: Simulator, status: int, error: type[BflError]
    ) -> None:
        bfl_simulator.fault("credits", status=status)
        caught_by(bfl.credits, error)


def ready_sample(bfl: Bfl, simulator: Simulator) -> str:
    submission = bfl.submit()
    simulator.finish(submission.id)
    answer = bfl.poll(submission.polling_url or "")
    assert isinstance(answer, PollResult)
    return answer.sample or ""


def _at_once(client: Client, value: str) -> Any:
    if type(client).__name__ == "SyncClient":
        return value

    async def later() -> str:
        return value

    return later()


class TestDownload:
    def test_brings_the_bytes_and_their_facts(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        download, body = bfl.download(ready_sample(bfl, bfl_simulator))
        assert (download.size, download.sha256) == (len(body), hashlib.sha256(body).hexdigest())
        assert download.content_type == "image/jpeg"
        assert download.ready_at is not None
        assert bfl_simulator.ledger.leaks == ()
        assert bfl_simulator.ledger.of_role("delivery")[0].key is None

    def test_sends_neither_key_nor_credential(self, client: Client, serve: Serve) -> None:
        server = serve(ok(b"x"))
        Bfl(client, server.settings()).download(f"{server.url}/x")
        names = {line.partition(b":")[0].lower() for line in server.requests[0].split(b"\r\n")[1:] if line}
        assert names <= {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}
        assert KEY.encode() not in server.requests[0]

    def test_tells_how_old_the_result_was_by_the_servers_clock_alone(self, client: Client, serve: Serve) -> None:
        dates = ("Last-Modified: Sat, 15 Aug 2026 19:12:20 GMT", "Date: Sat, 15 Aug 2026 19:12:31 GMT")
        server = serve(ok(b"x", *dates))
        download, _ = Bfl(client, server.settings()).download(f"{server.url}/x")
        assert (download.ready_at, download.age_seconds) == (1786821140.0, 11.0)

    @pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Aug 2026 19:12:20 GMT", "Sat, 15 Aug 99999 1:1:1 GMT"])
    def test_takes_no_age_from_dates_it_cannot_read(self, client: Client, serve: Serve, date: str) -> None:
        server = serve(ok(b"x", f"Last-Modified: {date}", f"Date: {date}"))
        download, _ = Bfl(client, server.settings()).download(f"{server.url}/x")
        assert (download.ready_at, download.age_seconds) == (None, None)

    @pytest.mark.parametrize("status", REDIRECTS)
    def test_follows_three_redirects_without_the_key(self, client: Client, serve: Serve, status: str) -> None:
        hops = [ok(b"", f"Location: /hop{n}?sig=%2f", status=status) for n in (1, 2, 3)]
        server = serve(*hops, ok(b"whole"))
        _, body = Bfl(client, server.settings()).download(f"{server.url}/hop0")
        assert body == b"whole"
        assert [line.split()[1] for line in server.request_lines()] == [
            b"/hop0", b"/hop1?sig=%2f", b"/hop2?sig=%2f", b"/hop3?sig=%2f",
        ]  # fmt: skip
        assert KEY.encode() not in b"".join(server.requests)

    def test_refuses_the_fourth(self, client: Client, serve: Serve) -> None:
        server = serve(ok(b"", "Location: /again", status="302 Found"))
        caught_by(lambda: Bfl(client, server.settings()).download(f"{server.url}/x"), BflDownloadError)
        assert len(server.requests) == 4

    def test_judges_every_hop(self, client: Client, serve: Serve) -> None:
        canary = serve(ok(b"x"))
        server = serve(
            ok(b"", "Location: /second", status="302 Found"),
            ok(b"", f"Location: {canary.url}/x?sig=CANARY", status="302 Found"),
        )
        error = caught_by(lambda: Bfl(client, server.settings()).download(f"{server.url}/x"), BflUntrustedUrlError)
        assert "CANARY" not in str(error)
        assert (canary.connections, len(server.requests)) == (0, 2)

    @pytest.mark.parametrize(
        "url",
        ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "https://api.bfl.ai/x", "https://evil.com/x"],
    )
    def test_of_what_is_no_delivery_host_sends_nothing(self, bfl: Bfl, url: str) -> None:
        caught_by(lambda: bfl.download(url), BflUntrustedUrlError)

    def test_of_an_expired_url_says_so(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        sample = ready_sample(bfl, bfl_simulator)
        bfl_simulator.advance(3600)
        error = caught_by(lambda: bfl.download(sample), BflResultExpiredError)
        assert "sig=" not in str(error)

    @pytest.mark.parametrize(
        "status", ["204 None", "206 Partial", "304 Same", "400 Bad", "404 Gone", "500 Oops", "503 Busy"]
    )
    def test_of_any_other_answer_is_an_error(self, client: Client, serve: Serve, status: str) -> None:
        server = serve(Answer(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode(), "close"))
        error = caught_by(lambda: Bfl(client, server.settings()).download(f"{server.url}/x"), BflDownloadError)
        assert status.split(maxsplit=1)[0] in str(error)

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_that_is_cut_is_an_error(self, bfl: Bfl, bfl_simulator: Simulator, framing: str) -> None:
        sample = ready_sample(bfl, bfl_simulator)
        bfl_simulator.fault("delivery", cut_after=0.5, framing=framing)
        caught_by(lambda: bfl.download(sample), BflDownloadError)

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_over_the_cap_is_an_error(self, bfl: Bfl, bfl_simulator: Simulator, framing: str) -> None:
        sample = ready_sample(bfl, bfl_simulator)
        bfl_simulator.fault("delivery", body_bytes=400_000, framing=framing)
        error = caught_by(lambda: bfl.download(sample, max_bytes=300_000), BflResultTooLargeError)
        assert "300000" in str(error)

    def test_declared_over_the_cap_writes_nothing(self, client: Client, serve: Serve) -> None:
        server = serve(Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 5000, "hang"))
        sink = io.BytesIO()
        with pytest.raises(BflResultTooLargeError):
            client.talk(server.settings(), lambda talking: talking.download(f"{server.url}/x", sink, max_bytes=99))
        assert sink.getvalue() == b""

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_just_at_the_cap_is_whole(self, bfl: Bfl, bfl_simulator: Simulator, framing: str) -> None:
        sample = ready_sample(bfl, bfl_simulator)
        bfl_simulator.fault("delivery", body_bytes=300_000, framing=framing)
        download, body = bfl.download(sample, max_bytes=300_000)
        assert download.size == len(body) == 300_000

    def test_stores_compressed_bytes_as_they_came(self, client: Client, serve: Serve) -> None:
        packed = gzip.compress(b"picture" * 1000)
        server = serve(ok(packed, "Content-Encoding: gzip"))
        download, body = Bfl(client, server.settings()).download(f"{server.url}/x")
        assert (body, download.size) == (packed, len(packed))
        assert b"accept-encoding: identity" in server.requests[0].lower()

    def test_that_is_slow_but_steady_is_whole(self, bfl: Bfl, bfl_simulator: Simulator) -> None:
        sample = ready_sample(bfl, bfl_simulator)
        bfl_simulator.fault("delivery", body_bytes=400_000, bytes_per_second=400_000)
        patient = Settings(KEY, bfl.settings.base_url, bfl.settings.trust, timeout_seconds=0.5)
        download, _ = Bfl(bfl.client, patient).download(sample)
        assert download.size == 400_000

    def test_that_stalls_ends(self, client: Client, serve: Serve) -> None:
        server = serve(Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "hang"))
        began = time.monotonic()
        caught_by(
            lambda: Bfl(client, server.settings(timeout_seconds=0.3)).download(f"{server.url}/x?sig=CANARY"),
            BflDownloadError,
        )
        assert time.monotonic() - began < 5

    def test_that_breaks_does_not_show_the_signature(self, client: Client, closed_port: int) -> None:
        url = f"http://127.0.0.1:{closed_port}/x?sig=CANARY"
        error = caught_by(lambda: Bfl(client, settings_at(closed_port)).download(url), BflDownloadError)
        assert "CANARY" not in "".join(traceback.format_exception(error))


class TestManners:
    def test_what_is_in_netrc_is_not_for_bfl(
        self, client: Client, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login CANARY password CANARY\ndefault login CANARY password CANARY\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        server = serve(ok(ACCEPTED))
        bfl = Bfl(client, server.settings())
        bfl.submit()
        bfl.poll(f"{server.url}/v1/get_result?id=x")
        bfl.download(f"{server.url}/x")
        assert len(server.requests) == 3
        assert b"authorization" not in b"".join(server.requests).lower()

    def test_cookies_are_not_kept(self, client: Client, serve: Serve) -> None:
        server = serve(ok(PENDING, "Set-Cookie: CANARY=1; Path=/"))
        url = f"{server.url}/v1/get_result?id=x"
        client.talk(
            server.settings(),
            *[lambda talking: talking.poll(url)] * 2,
            lambda talking: talking.download(url, io.BytesIO()),
        )
        assert len(server.requests) == 3
        assert b"cookie" not in b"".join(server.requests).lower()

    def test_it_says_who_it_is(self, client: Client, serve: Serve) -> None:
        server = serve(ok(PENDING))
        bfl = Bfl(client, server.settings())
        bfl.poll(f"{server.url}/x")
        bfl.download(f"{server.url}/x")
        assert all(b"airflow-provider-bfl/" in request for request in server.requests)

    @pytest.mark.parametrize("how", ["reset", "no answer in time", "body shorter than declared"])
    def test_nothing_is_left_open_after_errors(self, client: Client, serve: Serve, how: str) -> None:
        server = serve(LOST[how])
        bfl = Bfl(client, server.settings(timeout_seconds=0.2))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            caught_by(bfl.submit, BflAmbiguousSubmitError)
            failure_of(bfl.poll(f"{server.url}/v1/get_result?id=x"))
            caught_by(lambda: bfl.download(f"{server.url}/x"), BflDownloadError)
            gc.collect()
        assert [each for each in seen if issubclass(each.category, ResourceWarning)] == []

    async def test_nothing_is_left_open_after_a_cancel(self, serve: Serve) -> None:
        from airflow_provider_bfl.transport.aio import AsyncBflClient

        server: RawServer = serve(Answer(b"", "hang"))
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

        async def wait() -> None:
            async with AsyncBflClient(server.settings()) as client:
                await client.poll(f"{server.url}/v1/get_result?id=x")

        task = asyncio.create_task(wait())
        while not server.requests:  # noqa: ASYNC110 - the server is a thread and sets no event of this loop
            await asyncio.sleep(0.01)
        task.cancel()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            gc.collect()
        assert complaints == []
        assert [each for each in seen if issubclass(each.category, ResourceWarning)] == []
