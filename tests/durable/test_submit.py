# SPDX-License-Identifier: Apache-2.0
"""One paid POST between two entries of the journal, whatever fails around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.durable.record import Policies, Reattach, Record, Submit, decide
from airflow_provider_bfl.durable.submit import REPEAT_DELAYS, save_best_effort, submit_durably
from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflAuthenticationError,
    BflError,
    BflInsufficientCreditsError,
    BflJournalError,
    BflRateLimitedError,
    BflRequestRejectedError,
    BflServiceError,
    BflUntrustedUrlError,
)

from .conftest import SUBMISSION, record


@dataclass
class World:
    """
    A journal and a BFL that follow a script, and what happened in order.

    :ivar answers: What each POST brings, the last one repeating.
    :ivar broken_saves: The saves that fail, counted from 1.
    """

    answers: list[Submission | BaseException]
    broken_saves: set[int] = field(default_factory=set)
    kept: Record | None = None
    story: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    saves: int = 0

    def load(self) -> Record | None:
        return self.kept

    def save(self, entry: Record) -> None:
        self.saves += 1
        if self.saves in self.broken_saves:
            self.story.append(f"{entry.state} lost")
            raise BflJournalError("The record could not be written.")
        self.story.append(entry.state)
        self.kept = entry

    def delete(self) -> None:
        self.kept = None

    def post(self) -> Submission:
        self.story.append("POST")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def posts(self) -> int:
        return self.story.count("POST")

    def submit(self, intent: Record | None = None) -> Record:
        return submit_durably(self, intent or record(), self.post, timeout=1800, sleep=self.slept.append)

    def fails(self, kind: type[BaseException]) -> BaseException:
        with pytest.raises(kind) as caught:
            self.submit()
        return caught.value

    def next_attempt(self) -> Submit | Reattach:
        return decide(self.kept, fingerprint="same", epoch=2, policies=Policies())


def never_connected() -> BflServiceError:
    return BflServiceError("no connection", repeatable=True)


class TestAGoodSubmit:
    def test_writes_the_intent_before_and_the_outcome_after(self) -> None:
        world = World([SUBMISSION])
        submitted = world.submit()
        assert world.story == ["intent", "POST", "submitted"]
        assert world.kept == submitted
        assert (submitted.id, submitted.polling_url) == (SUBMISSION.id, SUBMISSION.polling_url)
        assert submitted.deadline == (submitted.submitted_at or 0) + 1800
        assert isinstance(world.next_attempt(), Reattach)


class TestAJournalThatFails:
    def test_before_the_post_means_no_post(self) -> None:
        world = World([SUBMISSION], broken_saves={1})
        assert "nothing is submitted" in str(world.fails(BflJournalError))
        assert world.posts == 0

    def test_after_the_post_is_tried_again_and_the_result_is_not_lost(self) -> None:
        world = World([SUBMISSION], broken_saves={2, 3})
        assert world.submit().id == SUBMISSION.id
        assert world.story == ["intent", "POST", "submitted lost", "submitted lost", "submitted"]
        assert sum(world.slept) > 0
        assert isinstance(world.next_attempt(), Reattach)

    def test_for_good_after_the_post_loses_no_result_but_is_told_loudly(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World([SUBMISSION], broken_saves=set(range(2, 100)))
        assert world.submit().id == SUBMISSION.id
        assert world.posts == 1
        (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert SUBMISSION.id in error.getMessage()
        assert "billed" in error.getMessage()
        action = world.next_attempt()
        assert isinstance(action, Submit)
        assert action.possibly_billed_twice, "the intent that stayed is the careful record"

    def test_after_a_refusal_keeps_the_more_careful_record(self) -> None:
        world = World([BflRequestRejectedError("no")], broken_saves={2})
        world.fails(BflRequestRejectedError)
        assert world.kept == record("intent")

    def test_before_a_repeat_means_no_repeat(self) -> None:
        world = World([never_connected(), SUBMISSION], broken_saves={3})
        world.fails(BflJournalError)
        assert world.posts == 1


class TestARefusal:
    @pytest.mark.parametrize(
        "error",
        [
            BflAuthenticationError,
            BflInsufficientCreditsError,
            BflRequestRejectedError,
            BflUntrustedUrlError,
            BflServiceError,
        ],
    )
    def test_is_recorded_and_not_repeated(self, error: type[BflError]) -> None:
        world = World([error("no")])
        world.fails(error)
        assert world.story == ["intent", "POST", "refused"]
        assert world.next_attempt() == Submit()

    def test_that_cannot_have_been_accepted_is_repeated_inside_the_attempt(self) -> None:
        world = World([never_connected(), BflServiceError("503", repeatable=True), SUBMISSION])
        assert world.submit().id == SUBMISSION.id
        assert world.story == ["intent", "POST", "refused", "intent", "POST", "refused", "intent", "POST", "submitted"]
        assert world.slept[:2] == list(REPEAT_DELAYS)

    def test_is_not_repeated_forever(self) -> None:
        world = World([never_connected()])
        world.fails(BflServiceError)
        assert world.posts == len(REPEAT_DELAYS) + 1
        assert world.story[-1] == "refused"

    def test_then_an_ambiguity_ends_the_repeats(self) -> None:
        world = World([never_connected(), BflAmbiguousSubmitError("lost"), SUBMISSION])
        world.fails(BflAmbiguousSubmitError)
        assert world.story == ["intent", "POST", "refused", "intent", "POST"]

    def test_by_the_rate_limit_is_recorded_with_its_time_and_left_to_the_queue(self) -> None:
        world = World([BflRateLimitedError("full", repeatable=True, retry_after=3)])
        world.fails(BflRateLimitedError)
        assert world.posts == 1
        assert world.kept is not None
        assert world.kept.state == "refused"
        assert world.kept.queued_since is not None

    def test_by_the_rate_limit_again_keeps_the_first_time(self) -> None:
        world = World([BflRateLimitedError("full")])
        with pytest.raises(BflRateLimitedError):
            world.submit(record(queued_since=123.0))
        assert world.kept is not None
        assert world.kept.queued_since == 123.0

    def test_keeps_the_suspicion_of_an_earlier_attempt(self) -> None:
        world = World([BflRequestRejectedError("no")])
        with pytest.raises(BflRequestRejectedError):
            world.submit(record(possibly_billed_twice=True))
        assert world.kept is not None
        assert world.kept.possibly_billed_twice


class TestALostAnswer:
    @pytest.mark.parametrize(
        "end", [BflAmbiguousSubmitError("lost"), KeyboardInterrupt(), SystemExit(), ValueError("bug")]
    )
    def test_is_never_repeated_and_leaves_the_intent(self, end: BaseException) -> None:
        world = World([end, SUBMISSION])
        world.fails(type(end))
        assert world.story == ["intent", "POST"]
        assert world.kept == record("intent")
        action = world.next_attempt()
        assert isinstance(action, Submit)
        assert action.possibly_billed_twice


class TestARecordWhoseLossCostsNothing:
    def test_is_written(self) -> None:
        world = World([SUBMISSION])
        save_best_effort(world, record("stored"))
        assert world.kept == record("stored")

    def test_is_only_warned_about(self, caplog: pytest.LogCaptureFixture) -> None:
        world: Any = World([SUBMISSION], broken_saves={1})
        save_best_effort(world, record("stored"))
        assert "The older record stays" in caplog.text
