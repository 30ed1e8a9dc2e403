# SPDX-License-Identifier: Apache-2.0
"""The pure decisions of a batch: what to do with an item, when to pay, how many slots, when to poll, how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.batch.budget import Answer, Budget
from airflow_provider_bfl.batch.pace import Pace
from airflow_provider_bfl.batch.progress import Progress
from airflow_provider_bfl.batch.rows import Keep, Reattach, Row, Submit, Verify, decide, read_row
from airflow_provider_bfl.batch.verdict import COUNTS, Policies, category, judge
from airflow_provider_bfl.batch.window import Window
from airflow_provider_bfl.exceptions import (
    BflBatchFailedError,
    BflBatchIncompleteError,
    BflError,
    BflJournalError,
    BflRefusedError,
)

NEW = Row(
    item="fox",
    position=3,
    status="unsubmitted",
    fingerprint="f",
    model="flux-2-pro",
    attempt=1,
    dag_id="d",
    run_id="r",
    task_id="t",
)
SUBMISSION = Submission("gen-1", "https://api.bfl.ai/v1/get_result?id=gen-1", cost=3.0)


def intent(budget: Budget, row: Row = NEW) -> Row:
    """Set a row's credits aside as the engine does."""
    reserved = budget.estimate(row.model)
    row = replace(row, status="intent", reserved=reserved, spent=row.spent + reserved)
    budget.change(None, row)
    return row


def answered(budget: Budget, row: Row, cost: float | None) -> Row:
    new = row.submitted(replace(SUBMISSION, cost=cost), now=1_700_000_000.0)
    budget.change(row, new)
    return new


class TestARow:
    def test_comes_back_as_it_was_written(self) -> None:
        row = NEW.submitted(SUBMISSION, now=1_700_000_000.5)
        assert read_row(row.to_line()) == row
        assert row.submitted_seconds == 1_700_000_000.5

    @pytest.mark.parametrize(
        "damage",
        [
            {"status": "lost"},
            {"item": 5},
            {"status": "submitted"},
            {"position": "3"},
            {"spent": None},
            {"cost": "3"},
            {"submitted_at": "yesterday"},
        ],
    )
    def test_that_is_damaged_is_never_taken_for_none(self, damage: dict[str, Any]) -> None:
        document = json.loads(NEW.to_line()) | damage
        with pytest.raises(BflJournalError):
            read_row(json.dumps(document))

    @pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"item": "fox"}', b"null"])
    def test_that_is_none_is_refused(self, line: bytes) -> None:
        with pytest.raises(BflJournalError):
            read_row(line)

    def test_of_a_later_version_may_know_more(self) -> None:
        assert read_row(json.dumps(json.loads(NEW.to_line()) | {"mood": "good"})) == NEW


class TestWhatAnAttemptDoesWithAnItem:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ("unsubmitted", Submit),
            ("refused", Submit),
            ("failed", Submit),
            ("submitted", Reattach),
            ("unstored", Reattach),
            ("stored", Verify),
            ("moderated", Keep),
            ("rejected", Keep),
        ],
    )
    def test_follows_from_its_row(self, status: Any, expected: type) -> None:
        row = replace(NEW.submitted(SUBMISSION, now=0.0), status=status)
        assert isinstance(decide(row, fingerprint="f", on_ambiguous_submit="resubmit"), expected)

    @pytest.mark.parametrize("status", ["intent", "ambiguous"])
    def test_follows_the_users_wish_where_nobody_knows(self, status: Any) -> None:
        row = replace(NEW, status=status, spent=3.0, reserved=3.0)
        again = decide(row, fingerprint="f", on_ambiguous_submit="resubmit")
        assert again == Submit(spent=3.0, possibly_billed_twice=True)
        assert isinstance(decide(row, fingerprint="f", on_ambiguous_submit="fail"), Keep)

    def test_is_a_new_one_where_the_request_changed_and_what_it_cost_stays(self) -> None:
        row = replace(NEW.submitted(SUBMISSION, now=0.0), status="stored")
        assert decide(row, fingerprint="other", on_ambiguous_submit="fail") == Submit(spent=3.0, changed=True)

    def test_is_to_submit_what_nobody_has_seen(self) -> None:
        assert decide(None, fingerprint="f", on_ambiguous_submit="fail") == Submit()


class TestABudget:
    def test_without_a_limit_says_yes(self) -> None:
        assert Budget().ask("m") is Answer.YES

    def test_sends_one_request_alone_to_learn_its_price(self) -> None:
        budget = Budget(100.0)
        row = intent(budget)
        assert budget.ask(row.model) is Answer.WAIT
        answered(budget, row, 3.0)
        assert budget.ask(row.model) is Answer.YES

    def test_reserves_for_what_is_under_way(self) -> None:
        budget = Budget(9.0)
        answered(budget, intent(budget), 3.0)
        rows = [intent(budget), intent(budget)]
        assert budget.committed == 9.0
        assert budget.ask(NEW.model) is Answer.WAIT
        for row in rows:
            answered(budget, row, 3.0)
        assert budget.ask(NEW.model) is Answer.NO

    def test_judges_by_the_dearest_seen(self) -> None:
        budget = Budget(20.0)
        for cost in (3.0, 9.0, 3.0):
            answered(budget, intent(budget), cost)
        assert budget.ask(NEW.model) is Answer.NO  # 15 spent, and the next may be another of 9

    def test_gives_back_what_was_refused_or_moderated(self) -> None:
        budget = Budget(100.0)
        first = answered(budget, intent(budget), 3.0)
        second = intent(budget)
        budget.change(second, second.unbilled("refused", BflRefusedError("no")))
        budget.change(first, first.unbilled("moderated", BflError("no")))
        assert (budget.spent, budget.committed) == (0.0, 0.0)

    def test_counts_a_lost_answer_as_if_it_were_billed(self) -> None:
        budget = Budget(100.0)
        answered(budget, intent(budget), 3.0)
        row = intent(budget)
        budget.change(row, row.ended("ambiguous", BflError("lost")))
        assert (budget.spent, budget.ask(NEW.model)) == (6.0, Answer.YES)

    def test_counts_both_of_what_may_be_billed_twice(self) -> None:
        budget = Budget(100.0)
        doubtful = replace(NEW, possibly_billed_twice=True)
        # Its first POST was sent before any price was known.
        row = answered(budget, intent(budget, doubtful), 3.0)
        assert (row.spent, budget.spent) == (6.0, 6.0)

    def test_waits_for_a_cost_that_is_told_at_the_end(self) -> None:
        budget = Budget(100.0)
        row = answered(budget, intent(budget), None)
        assert budget.ask(row.model) is Answer.WAIT
        settled = row.settled(40.0)
        budget.change(row, settled)
        assert (budget.spent, budget.ask(row.model)) == (40.0, Answer.YES)

    def test_cannot_be_kept_where_no_cost_is_told(self) -> None:
        budget = Budget(100.0)
        row = answered(budget, intent(budget), None)
        budget.change(row, replace(row, status="stored"))
        assert (budget.ask(row.model), budget.costless) == (Answer.NO, {row.model})

    def test_learns_each_model_by_itself(self) -> None:
        budget = Budget(100.0)
        answered(budget, intent(budget), 3.0)
        row = intent(budget, replace(NEW, model="another"))
        assert row.reserved == 0.0
        assert budget.ask(NEW.model) is Answer.WAIT


class TestAWindow:
    def filled(self, active: int, ceiling: int = 24) -> Window:
        window = Window(ceiling, jitter=lambda: 0.5)
        window.active = active
        return window

    def test_is_full_at_its_ceiling(self) -> None:
        assert self.filled(23).has_room(0.0)
        assert not self.filled(24).has_room(0.0)

    def test_shrinks_to_what_the_account_gives(self) -> None:
        window = self.filled(13)
        window.refused(0.0, None)
        window.active -= 1
        assert window.limit == 12
        assert not window.has_room(0.0)
        window.active -= 1
        assert window.has_room(0.0)

    def test_asks_for_one_slot_more_after_a_pause(self) -> None:
        window = self.filled(13)
        window.refused(0.0, None)
        window.active -= 1
        assert window.opens_in(0.4) == pytest.approx(0.6)
        assert window.has_room(1.0)
        window.active += 1
        assert not window.has_room(1.0)

    def test_grows_slot_by_slot_while_the_answer_is_yes(self) -> None:
        window = self.filled(3)
        window.refused(0.0, None)
        window.active -= 1
        for _ in range(22):
            assert window.has_room(1.0)
            window.active += 1
            window.accepted()
        assert (window.limit, window.has_room(1.0)) == (24, False)

    def test_waits_as_long_as_bfl_asks(self) -> None:
        window = self.filled(3)
        window.refused(10.0, 5.0)
        window.active = 0
        assert not window.has_room(14.9)
        assert window.has_room(15.0)
        assert window.opens_in(11.0) == 4.0

    def test_asks_more_rarely_while_the_answer_is_no(self) -> None:
        window = self.filled(0)
        pauses = []
        for _ in range(8):
            window.active += 1
            window.refused(0.0, None)
            window.active -= 1
            pauses.append(window.opens_in(0.0))
        assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]


class TestAPace:
    def learnt(self, *seconds: float) -> Pace:
        pace = Pace(12.0)
        for each in seconds:
            pace.ended(each)
        return pace

    def test_begins_with_the_models_usual_time(self) -> None:
        assert Pace(10.0).first_delay(0.0) == 8.0
        assert Pace(10.0).first_delay(9.0) == 0.0

    def test_polls_closely_around_the_time_it_has_learnt(self) -> None:
        pace = self.learnt(*[10.0] * 10)
        assert pace.first_delay(0.0) == pytest.approx(9.5)
        assert pace.next_delay(9.5) == 0.5

    def test_never_polls_more_often_than_twice_a_second(self) -> None:
        for pace in (Pace(0.1), self.learnt(*[0.2] * 10)):
            assert all(pace.next_delay(elapsed / 10) >= 0.5 for elapsed in range(600))

    def test_is_patient_with_stragglers(self) -> None:
        pace = self.learnt(*[10.0] * 10)
        assert pace.next_delay(40.0) == 3.0
        assert pace.next_delay(500.0) == 5.0

    def test_forgets_how_it_once_was(self) -> None:
        pace = self.learnt(*[30.0] * 100, *[10.0] * 64)
        assert pace.first_delay(0.0) < 10.0

    def test_may_be_fixed(self) -> None:
        pace = Pace(12.0, poll_interval=2.0)
        assert (pace.first_delay(0.0), pace.next_delay(50.0)) == (2.0, 2.0)


class TestProgress:
    def said(self, progress: Progress, now: float, done: int) -> str | None:
        return progress.line(now, done=done, in_flight=24, without_result=1, spent=12.5)

    def test_is_told_every_ten_seconds_at_most(self) -> None:
        progress = Progress(10_000, done=0, now=0.0)
        lines = [self.said(progress, second / 10, second) for second in range(600)]
        assert 5 <= sum(line is not None for line in lines) <= 6

    def test_is_told_at_each_twentieth_of_a_quick_batch(self) -> None:
        progress = Progress(100, done=0, now=0.0)
        assert self.said(progress, 1.5, 4) is None
        assert self.said(progress, 2.0, 5) is not None

    def test_is_no_flood(self) -> None:
        progress = Progress(20, done=0, now=0.0)
        assert sum(self.said(progress, second / 100, second) is not None for second in range(20)) == 0

    def test_tells_rate_and_time_to_go_by_this_attempts_work(self) -> None:
        line = self.said(Progress(1000, done=500, now=0.0), 60.0, 560)
        assert line == (
            "560/1000 done (56 %), 24 in flight, 1 without a result, 12.5 credits, 60.0 per minute, "
            "about 7 min 20 s to go"
        )

    def test_of_a_batch_that_stands_still_is_told_now_and_then(self) -> None:
        progress = Progress(100, done=5, now=0.0)
        assert self.said(progress, 30.0, 5) is None
        assert "no end in sight" in str(self.said(progress, 60.0, 5))


class TestTheVerdict:
    def counts(self, **told: int) -> dict[str, int]:
        return dict.fromkeys(COUNTS, 0) | told

    def judged(self, fail_on: Any = "any", on_moderated: Any = "record", **told: int) -> type | None:
        error = judge(self.counts(**told), Policies(fail_on, on_moderated), manifest_uri="s3://b/m")
        return None if error is None else type(error)

    @pytest.mark.parametrize("unfinished", ["in_flight", "unstored", "ambiguous", "unsubmitted"])
    @pytest.mark.parametrize("fail_on", ["any", "all", "none", 0.5])
    def test_of_work_that_a_retry_can_finish_is_always_to_retry(self, unfinished: str, fail_on: Any) -> None:
        assert self.judged(fail_on, stored=9, **{unfinished: 1}) is BflBatchIncompleteError

    @pytest.mark.parametrize("ended", ["moderated", "rejected", "doubtful", "gone"])
    def test_of_what_no_retry_changes_ends_the_retries(self, ended: str) -> None:
        assert self.judged("any", stored=9, **{ended: 1}) is BflBatchFailedError
        assert self.judged("none", stored=9, **{ended: 1}) is None

    def test_of_failures_at_bfl_leaves_them_to_a_retry(self) -> None:
        assert self.judged("any", stored=9, failed=1) is BflBatchIncompleteError

    def test_by_share_is_more_than_that_share(self) -> None:
        assert self.judged(0.1, stored=9, moderated=1) is None
        assert self.judged(0.1, stored=8, moderated=2) is BflBatchFailedError

    def test_tells_a_result_that_is_gone_from_one_that_is_not_stored_yet(self) -> None:
        row = replace(NEW.submitted(SUBMISSION, now=0.0), status="unstored", error_type="BflStorageError")
        assert category(row) == "unstored"
        assert category(replace(row, error_type="BflResultExpiredError")) == "gone"
