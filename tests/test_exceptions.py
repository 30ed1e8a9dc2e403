# SPDX-License-Identifier: Apache-2.0
"""One tree of errors, in which retries, callbacks and policies find their way."""

from __future__ import annotations

import inspect
import pickle
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_bfl import exceptions
from airflow_provider_bfl.exceptions import BflError, BflPermanentError, BflRefusedError

ALL = [each for _, each in inspect.getmembers(exceptions, inspect.isclass) if each.__module__ == exceptions.__name__]

#: What a retry can cure, or at least asks about again at no cost.
RETRIED = {
    "BflError",
    "BflRefusedError",
    "BflRateLimitedError",
    "BflServiceError",
    "BflAmbiguousSubmitError",
    "BflPollError",
    "BflTimeoutError",
    "BflTaskNotFoundError",
    "BflGenerationFailedError",
    "BflResultExpiredError",
    "BflDownloadError",
    "BflStorageError",
    "BflJournalError",
    "BflBatchIncompleteError",
}


class TestEveryError:
    @pytest.mark.parametrize("error", ALL)
    def test_is_one_of_ours_and_of_airflows(self, error: type[BflError]) -> None:
        assert issubclass(error, BflError)
        assert issubclass(error, AirflowException)

    @pytest.mark.parametrize("error", ALL)
    def test_ends_the_retries_exactly_when_none_helps(self, error: type[BflError]) -> None:
        assert issubclass(error, AirflowFailException) == (error.__name__ not in RETRIED)
        assert issubclass(error, AirflowFailException) == issubclass(error, BflPermanentError)

    @pytest.mark.parametrize("error", ALL)
    def test_says_when_it_is_raised(self, error: type[BflError]) -> None:
        assert error.__doc__
        assert error.__doc__ != error.__mro__[1].__doc__

    @pytest.mark.parametrize("error", ALL)
    def test_survives_pickling_with_all_it_knows(self, error: type[BflError]) -> None:
        options = {"repeatable": True, "retry_after": 3.0} if issubclass(error, BflRefusedError) else {}
        before = error("what happened", generation_id="id", model="flux-2-pro", **options)
        after = pickle.loads(pickle.dumps(before))
        assert type(after) is error
        assert str(after) == "what happened"
        assert vars(after) == vars(before)

    @pytest.mark.parametrize("error", ALL)
    def test_is_found_by_its_dotted_path(self, error: type[BflError]) -> None:
        assert getattr(import_module("airflow_provider_bfl.exceptions"), error.__name__) is error


class TestRefusals:
    def test_are_not_repeated_unless_they_say_so(self) -> None:
        assert not BflRefusedError("x").repeatable
        assert BflRefusedError("x").retry_after is None
