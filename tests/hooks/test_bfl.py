# SPDX-License-Identifier: Apache-2.0
"""The hook: an Airflow connection that talks to BFL."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_bfl.api.messages import Phase, PollFailure, PollResult
from airflow_provider_bfl.api.polling import Finished, Poller, TimedOut, Unreachable
from airflow_provider_bfl.exceptions import (
    BflAuthenticationError,
    BflConfigError,
    BflError,
    BflPermanentError,
    BflPollError,
    BflUntrustedUrlError,
)
from airflow_provider_bfl.hooks import bfl as hook_module
from airflow_provider_bfl.hooks.bfl import BflHook, answer_or_raise, poll_error
from airflow_provider_bfl.simulator import Simulator

KEY = "bfl_CANARYkey0123456789abcdef"
PROMPT = {"prompt": "CANARY prompt"}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., BflHook]:
    """Put a connection into the environment, as a user may, and return a hook of it that logs where caplog listens."""

    def make(**fields: Any) -> BflHook:
        monkeypatch.setenv("AIRFLOW_CONN_BFL_DEFAULT", json.dumps({"conn_type": "bfl", "password": KEY} | fields))
        hook = BflHook()
        vars(hook)["_log"] = logging.getLogger("hook under test")
        return hook

    return make


@pytest.fixture
def hook(connect: Callable[..., BflHook], bfl_simulator: Simulator) -> BflHook:
    return connect(**bfl_simulator.connection(api_key=KEY))


def poller(*, deadline: float = 30.0, interval: float = 0.02) -> Poller:
    now = time.time()
    return Poller(deadline=now + deadline, typical_seconds=0.1, submitted_at=now, poll_interval=interval)


class TestTheHookOverTheSimulator:
    def test_makes_and_fetches_a_picture(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.finish(submission.id)
        result = hook.get_result(submission.polling_url or "")
        sink = io.BytesIO()
        download = hook.download(result.sample or "", sink)
        assert result.phase is Phase.READY
        assert download.size == len(sink.getvalue()) > 0
        assert bfl_simulator.ledger.posts == 1
        assert bfl_simulator.ledger.leaks == ()

    async def test_makes_and_fetches_a_picture_asynchronously(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        submission = await hook.asubmit("flux-2-pro", PROMPT)
        await asyncio.to_thread(bfl_simulator.finish, submission.id)
        result = await hook.aget_result(submission.polling_url or "")
        sink = io.BytesIO()
        download = await hook.adownload(result.sample or "", sink)
        assert download.size == len(sink.getvalue()) > 0
        assert await hook.aget_credits() < 10_000
        assert (await asyncio.to_thread(lambda: bfl_simulator.ledger)).leaks == ()

    def test_tells_the_balance(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        bfl_simulator.set_credits(42)
        assert hook.get_credits() == 42.0
        assert hook.get_conn() is hook.get_conn()

    @pytest.mark.parametrize("url", ["https://evil.com/x?sig=1", "https://[", "file:///etc/passwd", "not a url"])
    async def test_goes_nowhere_else(self, hook: BflHook, url: str) -> None:
        for call in (hook.get_result, lambda asked: hook.download(asked, io.BytesIO())):
            with pytest.raises(BflUntrustedUrlError):
                call(url)
        with pytest.raises(BflUntrustedUrlError):
            await hook.aget_result(url)
        with pytest.raises(BflUntrustedUrlError):
            await hook.adownload(url, io.BytesIO())

    async def test_masks_the_signature_of_what_it_downloads(
        self, hook: BflHook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        masked: list[str] = []
        monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", masked.append)
        for url in ("https://evil.com/x?sig=CANARY", "https://evil.com/x"):
            with pytest.raises(BflUntrustedUrlError):
                hook.download(url, io.BytesIO())
            with pytest.raises(BflUntrustedUrlError):
                await hook.adownload(url, io.BytesIO())
        assert masked == ["sig=CANARY", "sig=CANARY"]

    def test_shows_no_key(self, hook: BflHook) -> None:
        hook.get_credits()
        assert KEY not in repr(hook) + repr(hook.settings) + repr(hook.get_conn())

    def test_logs_a_base_url_that_is_not_bfls_once(
        self, hook: BflHook, bfl_simulator: Simulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        hook.get_credits()
        hook.get_credits()
        said = [record.getMessage() for record in caplog.records if bfl_simulator.url in record.getMessage()]
        assert len(said) == 1

    def test_needs_nothing_but_an_id_to_be_made(self) -> None:
        assert BflHook("nowhere").bfl_conn_id == "nowhere"
        assert BflHook(bfl_conn_id="elsewhere").bfl_conn_id == "elsewhere"
        assert BflHook().bfl_conn_id == "bfl_default"


class TestTheConnectionTest:
    def test_shows_the_balance_and_generates_nothing(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        bfl_simulator.set_credits(123.5)
        ok, message = hook.test_connection()
        assert ok
        assert "123.5 credits" in message
        assert "region global" in message
        assert bfl_simulator.ledger.posts_received == 0

    @pytest.mark.parametrize("status", [401, 403])
    def test_says_so_when_the_key_is_refused(self, hook: BflHook, bfl_simulator: Simulator, status: int) -> None:
        bfl_simulator.fault("credits", status=status, body={"detail": f"Not authenticated: {KEY}"})
        ok, message = hook.test_connection()
        assert not ok
        assert "Check the API key" in message
        assert KEY not in message
        assert bfl_simulator.ledger.posts_received == 0

    def test_says_so_when_nobody_answers(self, connect: Callable[..., BflHook], bfl_simulator: Simulator) -> None:
        fields = bfl_simulator.connection(api_key=KEY)
        bfl_simulator.stop()
        ok, message = connect(**fields).test_connection()
        assert not ok
        assert "could not be reached" in message

    def test_says_so_when_the_answer_never_comes(
        self, connect: Callable[..., BflHook], bfl_simulator: Simulator
    ) -> None:
        fields = bfl_simulator.connection(api_key=KEY)
        fields["extra"]["timeout"] = 0.2
        bfl_simulator.fault("credits", delay_seconds=3)
        ok, message = connect(**fields).test_connection()
        assert not ok
        assert "could not be reached" in message

    @pytest.mark.parametrize("password", ["", "***", f"{KEY}\nx"])
    def test_says_so_when_the_key_is_none(self, connect: Callable[..., BflHook], password: str) -> None:
        ok, message = connect(password=password).test_connection()
        assert not ok
        assert "key" in message


class TestTheConnectionIsReadWhereItMayBe:
    async def test_without_blocking_the_event_loop(
        self, connect: Callable[..., BflHook], bfl_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hook = connect(**bfl_simulator.connection(api_key=KEY))
        real = BaseHook.get_connection

        def only_off_the_loop(cls: type[BaseHook], conn_id: str) -> Any:
            with suppress(RuntimeError):
                asyncio.get_running_loop()
                pytest.fail("get_connection was called on the event loop")
            # Older Airflow looks a connection up in a thread.
            return real(conn_id)

        monkeypatch.setattr(BaseHook, "get_connection", classmethod(only_off_the_loop))
        submission = await hook.asubmit("flux-2-pro", PROMPT)
        await hook.aget_result(submission.polling_url or "")
        await hook.aget_credits()
        assert (await hook.asettings()).api_key == KEY

    async def test_once_for_any_number_of_calls(
        self, connect: Callable[..., BflHook], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.providers.common.compat import connection as compat

        lookups: list[str] = []
        real = compat.get_async_connection

        async def counting(conn_id: str, **kwargs: Any) -> Any:
            lookups.append(conn_id)
            return await real(conn_id, **kwargs)

        monkeypatch.setattr(compat, "get_async_connection", counting)
        hook = connect()
        assert await hook.asettings() is await hook.asettings() is hook.settings
        assert lookups == ["bfl_default"]

    async def test_with_the_same_errors(self, connect: Callable[..., BflHook]) -> None:
        hook = connect(password="***")
        with pytest.raises(BflConfigError):
            await hook.asettings()
        with pytest.raises(BflConfigError):
            _ = hook.settings


class Waits:
    """A wait through the hook, sync or async."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous

    def __call__(self, hook: BflHook, url: str, with_poller: Poller) -> Any:
        if self._asynchronous:
            return asyncio.run(hook.await_result(url, with_poller))
        return hook.wait(url, with_poller)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def wait(request: pytest.FixtureRequest) -> Waits:
    return Waits(asynchronous=request.param)


class TestAWait:
    def test_ends_with_the_result(self, hook: BflHook, bfl_simulator: Simulator, wait: Waits) -> None:
        submission = hook.submit("flux-2-pro", PROMPT)
        verdict = wait(hook, submission.polling_url or "", poller())
        assert isinstance(verdict, Finished)
        assert verdict.result.phase is Phase.READY
        assert bfl_simulator.ledger.posts == 1

    def test_rides_over_four_failures_in_a_row(
        self, hook: BflHook, bfl_simulator: Simulator, wait: Waits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _quickly(monkeypatch)
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.finish(submission.id)
        for effects in ({"status": 500}, {"drop": True}, {"status": 502, "body": "<html>"}, {"status": 429}):
            bfl_simulator.fault("poll", **effects)
        assert isinstance(wait(hook, submission.polling_url or "", poller(deadline=3600)), Finished)

    def test_ends_after_five(
        self, hook: BflHook, bfl_simulator: Simulator, wait: Waits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _quickly(monkeypatch)
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.fault("poll", status=403, body={"detail": "no"}, times=None)
        verdict = wait(hook, submission.polling_url or "", poller(deadline=3600))
        assert isinstance(verdict, Unreachable)
        assert verdict.failure.unauthorized
        assert len(bfl_simulator.ledger.of_role("poll")) == 5

    def test_ends_at_the_deadline(self, hook: BflHook, bfl_simulator: Simulator, wait: Waits) -> None:
        bfl_simulator.fault("task", stuck=True)
        submission = hook.submit("flux-2-pro", PROMPT)
        assert wait(hook, submission.polling_url or "", poller(deadline=0.3)) == TimedOut("Pending")

    def test_asks_once_although_the_deadline_has_passed(
        self, hook: BflHook, bfl_simulator: Simulator, wait: Waits
    ) -> None:
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.finish(submission.id)
        verdict = wait(hook, submission.polling_url or "", poller(deadline=-60))
        assert isinstance(verdict, Finished)
        assert len(bfl_simulator.ledger.of_role("poll")) == 1

    def test_logs_each_change_of_status_once(
        self,
        hook: BflHook,
        bfl_simulator: Simulator,
        wait: Waits,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _quickly(monkeypatch)
        caplog.set_level(logging.DEBUG)
        bfl_simulator.fault("task", stuck=True)
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.fault("poll", status_body="Pending", times=50)
        bfl_simulator.fault("poll", status=500, times=2)
        bfl_simulator.fault("poll", status_body="Generating", times=45)
        bfl_simulator.fault("poll", status_body="Dreaming", times=3)
        bfl_simulator.fault("poll", status_body="Content Moderated", times=1)
        wait(hook, submission.polling_url or "", poller(deadline=3600))
        records = [
            each for each in caplog.records if submission.id in each.getMessage() and each.name == "hook under test"
        ]
        informed = [each.getMessage() for each in records if each.levelno == logging.INFO]
        warned = [each.getMessage() for each in records if each.levelno == logging.WARNING]
        assert len(bfl_simulator.ledger.of_role("poll")) == 101
        assert [each.rsplit(": ", 1)[1] for each in informed] == [
            "Pending",
            "Generating",
            "Dreaming",
            "Content Moderated",
        ]
        assert len(warned) == 1
        assert "'Dreaming'" in warned[0]

    def test_in_the_worker_may_end_early(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        bfl_simulator.fault("task", stuck=True)
        submission = hook.submit("flux-2-pro", PROMPT)
        began = time.time()
        assert hook.wait(submission.polling_url or "", poller(), until=began + 0.2) is None
        assert time.time() - began < 5
        asked = len(bfl_simulator.ledger.of_role("poll"))
        assert asked >= 1
        assert hook.wait(submission.polling_url or "", poller(), until=began) is None
        assert len(bfl_simulator.ledger.of_role("poll")) == asked

    def test_in_the_triggerer_may_begin_late(self, hook: BflHook, bfl_simulator: Simulator) -> None:
        submission = hook.submit("flux-2-pro", PROMPT)
        bfl_simulator.finish(submission.id)
        not_before = time.time() + 0.4
        asyncio.run(hook.await_result(submission.polling_url or "", poller(), not_before=not_before))
        assert time.time() >= not_before


def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pause of a wait pass at once."""
    real = asyncio.sleep

    async def soon(seconds: float) -> None:
        await real(0)

    # In the hook's module alone: the simulator shares this process.
    monkeypatch.setattr(hook_module, "time", SimpleNamespace(time=time.time, sleep=lambda seconds: None))
    monkeypatch.setattr(hook_module, "asyncio", SimpleNamespace(sleep=soon, to_thread=asyncio.to_thread))


class TestPollErrors:
    def test_an_answer_is_returned(self) -> None:
        result = PollResult(id="x", status="Pending", phase=Phase.RUNNING)
        assert answer_or_raise(result) is result

    @pytest.mark.parametrize(
        ("failure", "error"),
        [(PollFailure("HTTP 500"), BflPollError), (PollFailure("HTTP 403", unauthorized=True), BflAuthenticationError)],
    )
    def test_a_failure_is_the_typed_error(self, failure: PollFailure, error: type[BflError]) -> None:
        with pytest.raises(error, match=failure.reason):
            answer_or_raise(failure)

    def test_says_that_nothing_is_paid_again(self) -> None:
        error = poll_error(PollFailure("HTTP 500"), generation_id="gen-1")
        assert not isinstance(error, BflPermanentError)
        assert "gen-1" in str(error)
        assert "pays nothing" in str(error)
        assert error.generation_id == "gen-1"
