# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_bfl.simulator.accounts import Account, Refusal, authenticate, fingerprint
from airflow_provider_bfl.simulator.tasks import Artwork, Outcome, Quote, Task

TASK = Task("t", "flux-2-pro", "a", "eu", Artwork("", 1, 64, 64, "jpeg"), Quote(3.0), 100.0, 10.0)


class TestKeys:
    @pytest.mark.parametrize("key", [None, ""])
    def test_a_missing_key_is_not_authenticated(self, key: str | None) -> None:
        assert authenticate(key, None) == Refusal(403, "Not authenticated")

    @pytest.mark.parametrize("key", ["sk-123", "bfl_", "bfl_a b", "Bearer bfl_abc"])
    def test_a_malformed_key_is_a_422_with_a_string(self, key: str) -> None:
        assert authenticate(key, None) == Refusal(422, "Invalid API key format")

    def test_an_unknown_key_is_invalid(self) -> None:
        refused = authenticate("bfl_other", frozenset({"bfl_mine"}))
        assert refused == Refusal(403, "Not authenticated - Invalid Authentication")

    def test_without_a_list_every_well_formed_key_is_known(self) -> None:
        assert authenticate("bfl_any", None) is None

    def test_a_fingerprint_shows_nothing_of_the_key(self) -> None:
        assert "secret" not in fingerprint("bfl_secret")


class TestMoney:
    def test_a_result_is_paid_at_submit(self) -> None:
        account = Account(10)
        account.admit(TASK)
        account.settle(200)
        assert (account.credits, account.spent) == (7, 3)

    @pytest.mark.parametrize("status", ["Error", "Failed", "Request Moderated", "Content Moderated", "Invented"])
    def test_everything_but_a_result_is_given_back_at_its_end(self, status: str) -> None:
        account = Account(10)
        account.admit(replace(TASK, outcome=Outcome(status)))
        account.settle(109)
        assert account.credits == 7
        account.settle(110)
        assert (account.credits, account.spent) == (10, 0)

    def test_is_given_back_once(self) -> None:
        account = Account(10)
        account.admit(replace(TASK, outcome=Outcome("Error")))
        for now in (110, 111, 112):
            account.settle(now)
        assert account.credits == 10

    def test_too_little_is_refused_before_the_active_limit_is_looked_at(self) -> None:
        refused = Account(2).refuse("flux-2-pro", 3, overall=0, of_model=0)
        assert refused == Refusal(402, "Insufficient credits")

    def test_exactly_enough_is_enough(self) -> None:
        assert Account(3).refuse("flux-2-pro", 3, overall=1, of_model=1) is None


class TestActiveTasks:
    def test_one_too_many_is_refused(self) -> None:
        account = Account(10)
        account.admit(TASK)
        refused = account.refuse("flux-dev", 1, overall=1, of_model=1)
        assert refused is not None
        assert refused.status == 429

    def test_a_models_own_limit_counts_only_its_own_tasks(self) -> None:
        account = Account(10)
        account.admit(TASK)
        assert account.refuse("flux-2-pro", 1, overall=24, of_model=1) is not None
        assert account.refuse("flux-dev", 1, overall=24, of_model=1) is None

    def test_any_end_frees_the_slot(self) -> None:
        account = Account(10)
        account.admit(replace(TASK, outcome=Outcome("Error")))
        account.settle(110)
        assert account.refuse("flux-2-pro", 1, overall=1, of_model=1) is None

    def test_ending_by_hand_frees_the_slot_and_pays_back(self) -> None:
        account = Account(10)
        account.admit(TASK)
        ended = account.end(TASK, 104, Outcome("Error"))
        assert (ended.status(104), account.active, account.credits) == ("Error", {}, 10)

    def test_a_finished_task_keeps_the_end_it_had(self) -> None:
        account = Account(10)
        account.admit(TASK)
        account.settle(110)
        assert account.end(TASK, 120, Outcome("Error")) == TASK
