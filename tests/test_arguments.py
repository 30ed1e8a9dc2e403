# SPDX-License-Identifier: Apache-2.0
"""Arguments that are one of a few words, or a number."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from airflow_provider_bfl import arguments
from airflow_provider_bfl.arguments import check_arguments
from airflow_provider_bfl.exceptions import BflConfigError

CHOICES = {
    "if_exists": arguments.IfExists,
    "on_ambiguous_submit": arguments.OnAmbiguousSubmit,
    "on_moderated": arguments.OnModerated,
    "on_stale_state": arguments.OnStaleState,
    "validation": arguments.Validation,
}


class TestChoices:
    @pytest.mark.parametrize("name", CHOICES)
    def test_every_word_of_the_list_is_taken(self, name: str) -> None:
        for word in get_args(CHOICES[name]):
            check_arguments(SimpleNamespace(task_id="t", **{name: word}))

    @pytest.mark.parametrize("name", CHOICES)
    @pytest.mark.parametrize("word", ["", "Fail", "retry", 7, False])
    def test_another_word_is_an_error_that_lists_them(self, name: str, word: Any) -> None:
        with pytest.raises(BflConfigError, match=f"t: {name}=") as caught:
            check_arguments(SimpleNamespace(task_id="t", **{name: word}))
        assert all(repr(each) in str(caught.value) for each in get_args(CHOICES[name]))

    def test_an_operator_without_them_is_fine(self) -> None:
        check_arguments(SimpleNamespace(task_id="t"))


NUMBERS = ("timeout", "poll_interval", "inline_wait", "max_queue_wait", "min_credits")


class TestNumbers:
    @pytest.mark.parametrize("name", NUMBERS)
    def test_whole_and_broken_ones_are_taken(self, name: str) -> None:
        for value in (2, 0.5, None):
            check_arguments(SimpleNamespace(task_id="t", **{name: value}))

    @pytest.mark.parametrize("name", NUMBERS)
    @pytest.mark.parametrize("value", [-1, "30", True, float("nan"), float("inf"), timedelta(seconds=5)])
    def test_what_is_no_amount_is_an_error(self, name: str, value: Any) -> None:
        with pytest.raises(BflConfigError, match=f"t: {name}="):
            check_arguments(SimpleNamespace(task_id="t", **{name: value}))

    @pytest.mark.parametrize(("name", "fine"), [(name, name not in ("timeout", "poll_interval")) for name in NUMBERS])
    def test_none_at_all_is_fine_but_for_a_wait(self, name: str, fine: bool) -> None:
        operator = SimpleNamespace(task_id="t", **{name: 0})
        with nullcontext() if fine else pytest.raises(BflConfigError, match="more than 0"):
            check_arguments(operator)
