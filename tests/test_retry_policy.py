# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import sys
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bfl import exceptions
from airflow_provider_bfl.exceptions import BflConfigError, BflError, BflRefusedError
from airflow_provider_bfl.retry_policy import bfl_retry_policy

#: Bases nobody raises.
ABSTRACT = {BflError, BflRefusedError}
RETRYABLE = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, BflError) and not issubclass(error, AirflowFailException) and error not in ABSTRACT
]


@pytest.mark.airflow3
class TestRetryPolicy:
    @pytest.mark.parametrize("error", RETRYABLE, ids=lambda error: error.__name__)
    def test_every_error_that_a_retry_can_cure_has_a_delay_and_a_reason(self, error: type[BflError]) -> None:
        decision = bfl_retry_policy().evaluate(error("it happened"), 1, 3)
        assert decision.action.value == "retry"
        assert decision.retry_delay > timedelta(0)
        assert decision.reason

    def test_a_paid_result_is_fetched_again_sooner_than_a_full_account_is_asked(self) -> None:
        policy = bfl_retry_policy()
        fetch = policy.evaluate(exceptions.BflDownloadError("cut"), 1, 3)
        queue = policy.evaluate(exceptions.BflRateLimitedError("full"), 1, 3)
        assert fetch.retry_delay < queue.retry_delay

    def test_other_exceptions_follow_the_task(self) -> None:
        assert bfl_retry_policy().evaluate(ValueError("not ours"), 1, 3).action.value == "default"

    def test_it_survives_the_serialization_of_the_dag(self) -> None:
        policy = bfl_retry_policy()
        again = type(policy).deserialize(policy.serialize())
        error = exceptions.BflStorageError("full disk")
        assert again.evaluate(error, 1, 3) == policy.evaluate(error, 1, 3)


class TestAirflowWithoutRetryPolicies:
    def test_it_says_which_airflow_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow.sdk.definitions.retry_policy", None)
        with pytest.raises(BflConfigError, match=r"Airflow 3\.3 or later"):
            bfl_retry_policy()
