# SPDX-License-Identifier: Apache-2.0
"""How BFL's refusals and endings arrive, what they cost, and what a retry then does."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflContentModeratedError,
    BflGenerationFailedError,
    BflInsufficientCreditsError,
    BflPollError,
    BflRequestModeratedError,
    BflRequestRejectedError,
    BflServiceError,
    BflTaskNotFoundError,
    BflTimeoutError,
    BflUntrustedUrlError,
)
from tests.airflow_fixtures import LogRecorder, World

REFUSALS: list[Any] = [
    (400, "Bad request", BflRequestRejectedError, True),
    (401, "Unauthorized", BflAuthenticationError, True),
    (402, "Insufficient credits", BflInsufficientCreditsError, True),
    (403, "Not authenticated", BflAuthenticationError, True),
    (422, [{"loc": ["body", "seed"], "msg": "bad seed", "input": "?"}], BflRequestRejectedError, True),
    (422, "Invalid API key format", BflAuthenticationError, True),
    (500, "Internal error", BflServiceError, False),
]


class TestARefusedPost:
    @pytest.mark.parametrize(("status", "detail", "error", "is_permanent"), REFUSALS)
    def test_is_told_as_what_it_is_and_a_later_attempt_submits(
        self, bfl: World, deferrable: bool, status: int, detail: Any, error: type[Exception], is_permanent: bool
    ) -> None:
        bfl.simulator.fault("submit", status=status, body={"detail": detail})
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(error, match=str(status)) as refused:
            run.attempt()

        assert isinstance(refused.value, AirflowFailException) is is_permanent
        assert "billed" in str(refused.value)
        assert bfl.posts == 0
        assert bfl.posts_received == 1
        result = run.attempt()
        assert (bfl.posts, result["reattached"], result["possibly_billed_twice"]) == (1, False, False)

    def test_an_empty_account_is_told_where_to_buy_credits(self, bfl: World) -> None:
        bfl.simulator.set_credits(0)

        with pytest.raises(BflInsufficientCreditsError, match=r"https://\S*bfl\.ai"):
            bfl.generation().attempt()

        assert bfl.posts == 0

    def test_a_503_that_says_so_is_repeated_inside_the_attempt(self, bfl: World) -> None:
        bfl.simulator.fault("submit", status=503, body={"detail": "overloaded"}, times=2)

        result = bfl.generation().attempt()

        assert (bfl.posts, bfl.posts_received) == (1, 3)
        assert result["possibly_billed_twice"] is False

    def test_a_host_that_is_not_there_is_asked_again_inside_the_attempt(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(
            "AIRFLOW_CONN_BFL_DEFAULT", '{"conn_type": "bfl", "password": "bfl_x", "host": "http://127.0.0.1:9"}'
        )
        run = bfl.generation()

        with pytest.raises(BflServiceError, match=r"was not sent.*Nothing was billed"):
            run.attempt()

        assert run.record["state"] == "refused"


class TestAnAnswerThatWasLost:
    LOSSES: tuple[dict[str, Any], ...] = (
        {"drop": True},
        {"status": 502},
        {"status": 504},
        {"status": 200, "body": "<html>not a submission</html>"},
    )

    @pytest.mark.parametrize("loss", LOSSES)
    def test_is_never_followed_by_a_second_post_inside_the_attempt(
        self, bfl: World, loss: dict[str, Any], deferrable: bool
    ) -> None:
        bfl.simulator.fault("submit", accept=True, **loss)
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflAmbiguousSubmitError, match="billed") as lost:
            run.attempt()

        assert not isinstance(lost.value, AirflowFailException)
        assert (bfl.posts, bfl.posts_received) == (1, 1)
        assert run.record["state"] == "intent"


class TestModeration:
    ENDINGS = (
        ("Request Moderated", BflRequestModeratedError, "Content Policy Violation"),
        ("Content Moderated", BflContentModeratedError, "Safety Filter"),
    )

    @pytest.mark.parametrize(("status", "error", "reason"), ENDINGS)
    def test_fails_for_good_and_says_why(
        self, bfl: World, deferrable: bool, status: str, error: type[Exception], reason: str
    ) -> None:
        bfl.simulator.fault("task", final_status=status)
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(error, match=rf"{reason}.*does not charge.*not a rate limit") as moderated:
            run.attempt()

        assert isinstance(moderated.value, AirflowFailException)
        assert run.record is None
        run.attempt()
        assert bfl.posts == 2

    @pytest.mark.parametrize("status", ["Request Moderated", "Content Moderated"])
    def test_skips_the_task_where_that_is_wanted(self, bfl: World, deferrable: bool, status: str) -> None:
        bfl.simulator.fault("task", final_status=status)
        run = bfl.generation(deferrable=deferrable, on_moderated="skip")

        with pytest.raises(AirflowSkipException, match="was moderated"):
            run.attempt()

        assert run.record is None
        assert bfl.posts == 1


class TestAGenerationThatFailed:
    @pytest.mark.parametrize("status", ["Error", "Failed"])
    def test_fails_the_attempt_and_the_next_one_generates_anew(self, bfl: World, deferrable: bool, status: str) -> None:
        bfl.simulator.fault("task", final_status=status)
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflGenerationFailedError, match=f"status '{status}'") as failed:
            run.attempt()

        assert not isinstance(failed.value, AirflowFailException)
        result = run.attempt()
        assert (bfl.posts, result["reattached"]) == (2, False)


class TestAStatusNobodyKnows:
    def test_is_waited_through_with_one_warning(self, bfl: World, deferrable: bool, log: LogRecorder) -> None:
        bfl.simulator.fault("poll", status_body="Upscaling", times=4)

        result = bfl.generation(deferrable=deferrable).attempt()

        assert result["status"] == "Ready"
        assert len(log.about("'Upscaling'")) == 1

    def test_ends_the_wait_at_the_deadline_and_the_retry_reattaches(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("poll", status_body="Upscaling", times=None)
        run = bfl.generation(deferrable=deferrable, timeout=0.3)

        with pytest.raises(BflTimeoutError, match=r"'?Upscaling.*a retry re-attaches") as late:
            run.attempt()

        assert not isinstance(late.value, AirflowFailException)
        bfl.simulator.clear_faults()
        assert run.attempt()["reattached"] is True
        assert bfl.posts == 1


class TestATaskTheHostDoesNotKnow:
    def test_at_first_is_waited_for(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("task", hidden_polls=3)

        assert bfl.generation(deferrable=deferrable).attempt()["status"] == "Ready"
        assert bfl.posts == 1

    def test_forever_is_an_error_and_never_submitted_again(
        self, bfl: World, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_bfl.api.polling.NOT_FOUND_GRACE_SECONDS", 0.2)
        bfl.simulator.fault("task", wrong_polling_host=True)
        run = bfl.generation(deferrable=deferrable)

        for _ in range(2):
            with pytest.raises(BflTaskNotFoundError, match="Nothing is submitted again by itself"):
                run.attempt()

        assert bfl.posts_received == 1


class TestPollsThatFail:
    @pytest.mark.parametrize(
        "trouble", [{"status": 500}, {"status": 429, "headers": {"Retry-After": "0"}}, {"drop": True}]
    )
    def test_four_in_a_row_are_ridden_out(
        self, bfl: World, deferrable: bool, trouble: dict[str, Any], patient: None
    ) -> None:
        bfl.simulator.fault("poll", times=4, body={"detail": "busy"} if "status" in trouble else None, **trouble)

        assert bfl.generation(deferrable=deferrable).attempt()["status"] == "Ready"
        assert bfl.posts == 1

    def test_five_end_the_attempt_and_the_retry_reattaches(self, bfl: World, deferrable: bool, patient: None) -> None:
        bfl.simulator.fault("poll", status=500, body={"detail": "busy"}, times=None)
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflPollError, match="re-attaches"):
            run.attempt()

        bfl.simulator.clear_faults()
        assert run.attempt()["reattached"] is True
        assert bfl.posts == 1

    def test_a_key_that_is_refused_again_and_again_is_told_as_such(
        self, bfl: World, deferrable: bool, patient: None
    ) -> None:
        bfl.simulator.fault("poll", status=403, body={"detail": "Not authenticated"}, times=None)

        with pytest.raises(BflAuthenticationError, match="billed once"):
            bfl.generation(deferrable=deferrable).attempt()

        assert bfl.posts == 1

    @pytest.fixture
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_bfl.api.polling._MAX_BACKOFF_SECONDS", 0.01)


class TestAPollingUrlThatIsNoneOfBfls:
    def test_gets_nothing_and_the_paid_task_is_kept_for_a_corrected_connection(
        self, bfl: World, deferrable: bool
    ) -> None:
        bfl.simulator.fault("task", polling_url=f"{bfl.simulator.canary_url}/v1/get_result?id={{id}}")
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflUntrustedUrlError, match="may not get the API key"):
            run.attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()
        assert run.record["state"] == "submitted"
        assert bfl.posts == 1
