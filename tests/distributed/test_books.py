# SPDX-License-Identifier: Apache-2.0
"""The books of the long runs: whatever does not add up has to be found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bfl.simulator import LedgerView, TaskRow
from airflow_provider_bfl.simulator.ledger import Leak
from tests.distributed.books import Books, Outcome, shares


def task(name: str, prompt: str, *, status: str = "Ready", at: float = 0.0, seconds: float = 8.0) -> TaskRow:
    return TaskRow(
        id=name,
        model="flux-2-pro",
        key="k",
        region="eu",
        request={"prompt": prompt},
        status=status,
        cost=3.0,
        refunded=status != "Ready",
        seed=1,
        submitted_at=at,
        finishes_at=at + seconds,
        polls=1,
    )


def landed(name: str, prompt: str, **changes: Any) -> Outcome:
    outcome = Outcome(prompt, "landed", id=name, uri=f"file:///{name}.png", sha256=f"sha of {name}", cost=3.0)
    return replace(outcome, **changes)


def books(tasks: list[TaskRow], outcomes: list[Outcome], **changes: Any) -> Books:
    spent = sum(each.cost for each in tasks if not each.refunded)
    ledger = LedgerView(
        posts=len(tasks),
        tasks=tuple(tasks),
        requests=(),
        leaks=(),
        webhooks=(),
        answers={},
        active=0,
        max_active=24,
        max_active_by_model={},
        credits={"k": 100.0 - spent},
        spent=spent,
        faults_left=0,
    )
    usual = Books(
        wanted=list(dict.fromkeys(outcome.prompt for outcome in outcomes)),
        outcomes=outcomes,
        ledger=ledger,
        images={str(each.uri): str(each.sha256) for each in outcomes if each.uri},
        balance=(100.0, 100.0 - spent),
    )
    return replace(usual, **changes)


class TestBooksThatBalance:
    def test_one_generation_for_each_wish(self) -> None:
        outcomes = [landed("a", "w 0"), landed("b", "w 1")]
        assert books([task("a", "w 0"), task("b", "w 1")], outcomes).disagreements() == []

    def test_a_moderated_one_costs_nothing(self) -> None:
        moderated = task("a", "w 0", status="Request Moderated")
        assert books([moderated], [Outcome("w 0", "moderated")]).disagreements() == []

    def test_a_failed_one_is_generated_anew(self) -> None:
        assert books([task("a", "w 0", status="Error"), task("b", "w 0")], [landed("b", "w 0")]).disagreements() == []

    def test_a_lost_answer_that_the_result_admits(self) -> None:
        both = [task("a", "w 0"), task("b", "w 0")]
        assert books(both, [landed("b", "w 0", doubtful=True)]).disagreements() == []


class TestBooksThatDoNot:
    GOOD = (task("a", "w 0"), landed("a", "w 0"))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"wanted": ["w 0", "w 1"]}, "'w 1' has 0 outcomes"),
            ({"wanted": []}, "never asked for"),
            ({"images": {}}, "missing or has other bytes"),
            ({"images": {"file:///a.png": "other"}}, "missing or has other bytes"),
            ({"images": {"file:///a.png": "sha of a", "file:///b.png": "x"}}, "nobody's result"),
            ({"balance": (100.0, 94.0)}, "the account lost 6"),
            ({"slots": 23}, "24 generations were active at once"),
        ],
    )
    def test_say_what_is_wrong(self, changes: dict[str, Any], said: str) -> None:
        row, outcome = self.GOOD
        (sentence,) = books([row], [outcome], **changes).disagreements()
        assert said in sentence

    @pytest.mark.parametrize(
        ("tasks", "outcomes", "said"),
        [
            ([task("a", "w 0"), task("b", "w 0")], [landed("b", "w 0")], "no result says so"),
            ([task("a", "w 0")], [landed("a", "w 0"), landed("a", "w 1")], "the result of 2 tasks"),
            ([task("a", "w 0")], [landed("a", "w 0"), landed("a", "w 0")], "has 2 outcomes"),
            ([task("a", "w 1")], [landed("a", "w 0")], "not a ready generation of it"),
            ([task("a", "w 0", status="Error")], [landed("a", "w 0")], "not a ready generation of it"),
            ([task("a", "w 0")], [landed("a", "w 0", cost=2.0)], "says it cost 2.0, BFL says 3.0"),
            ([task("a", "w 0")], [Outcome("w 0", "moderated")], "moderated no such thing"),
        ],
    )
    def test_name_the_generation(self, tasks: list[TaskRow], outcomes: list[Outcome], said: str) -> None:
        assert any(said in sentence for sentence in books(tasks, outcomes).disagreements())

    def test_tell_of_a_leaked_key(self) -> None:
        row, outcome = self.GOOD
        kept = books([row], [outcome])
        leaked = replace(kept.ledger, leaks=(Leak(0.0, "header", "delivery", "eu", "/x"),))
        assert replace(kept, ledger=leaked).disagreements() == ["the key was sent to delivery /x"]


class TestShares:
    TASKS = (
        task("a", "one 0", at=0, seconds=10),
        task("b", "one 1", at=10, seconds=10),
        task("c", "one 2", at=50, seconds=10),
        task("d", "two 0", at=10, seconds=30),
        task("e", "two 1", at=10, seconds=10),
        task("f", "two 2", at=30, seconds=10),
    )

    def test_counts_slots_only_while_all_want_them(self) -> None:
        found, contended = shares(self.TASKS, interval_seconds=20)
        assert contended == (10.0, 30.0)
        assert {name: share.slots for name, share in found.items()} == {"one": 0.5, "two": 1.5}

    def test_finds_the_longest_time_without_any(self) -> None:
        found, _ = shares(self.TASKS, interval_seconds=20)
        assert {name: share.longest_gap_seconds for name, share in found.items()} == {"one": 30, "two": 0}

    def test_tells_how_many_ended_when(self) -> None:
        found, _ = shares(self.TASKS, interval_seconds=20)
        assert {name: share.finished for name, share in found.items()} == {"one": (1, 1, 0, 1), "two": (0, 1, 2, 0)}
