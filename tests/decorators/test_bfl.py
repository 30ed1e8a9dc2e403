# SPDX-License-Identifier: Apache-2.0
"""``@task.bfl``: a function says what to generate, once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_bfl.decorators.bfl import bfl_task
from airflow_provider_bfl.exceptions import BflConfigError, BflStorageError, BflValidationError
from airflow_provider_bfl.get_provider_info import get_provider_info
from tests.airflow_fixtures import TaskRun, TaskStateStore, World


class Words:
    """A function that never says the same twice, as a language model does."""

    def __init__(self, returned: Any = None) -> None:
        self.calls = 0
        self._returned = returned

    def __call__(self, subject: str = "fox") -> Any:
        self.calls += 1
        return f"a {subject}, number {self.calls}" if self._returned is None else self._returned


def decorated(bfl: World, function: Any, *, call: dict[str, Any] | None = None, **arguments: Any) -> TaskRun:
    """Return the task instance of a decorated function that waits and lands."""
    defaults = {"destination": bfl.destination, "wait_for_completion": True, "poll_interval": 0.02, "inline_wait": 0.0}

    def say(subject: str = "fox") -> Any:
        return function(subject)

    def make() -> Any:
        with DAG("a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            return bfl_task(say, task_id="generate", **(defaults | arguments))(**(call or {})).operator

    return TaskRun(make, store=TaskStateStore(), retries=3, evidence=bfl.evidence)


def sidecar(bfl: World, result: dict[str, Any]) -> Any:
    return json.loads(bfl.path_of(result).with_name(f"{bfl.path_of(result).name}.json").read_text())


class TestTheFunction:
    def test_returns_the_prompt(self, bfl: World, deferrable: bool) -> None:
        run = decorated(bfl, Words(), call={"subject": "lynx"}, deferrable=deferrable)

        result = run.attempt()

        assert result["status"] == "Ready"
        assert sidecar(bfl, result)["request"]["prompt"] == "a lynx, number 1"
        assert bool(run.deferrals) is deferrable

    def test_returns_the_fields_which_win_over_the_arguments(self, bfl: World) -> None:
        fields = {"prompt": "an owl", "width": 512}
        run = decorated(bfl, Words(fields), parameters={"width": 256, "height": 256})

        request = sidecar(bfl, run.attempt())["request"]

        assert request == {"prompt": "an owl", "width": 512, "height": 256}

    @pytest.mark.parametrize("returned", [7, ["a", "b"], b"fox", "", "  ", {"prompt": "x", "wdth": 3}, {"seed": {1}}])
    def test_that_returns_no_request_pays_nothing(self, bfl: World, returned: Any) -> None:
        with pytest.raises(BflValidationError, match=r"not sent|Nothing was sent"):
            decorated(bfl, Words(returned)).attempt()

        assert bfl.posts_received == 0

    def test_returns_text_and_no_template(self, bfl: World) -> None:
        result = decorated(bfl, Words("a sign that says {{ conn.bfl_default.password }}")).attempt()

        assert sidecar(bfl, result)["request"]["prompt"] == "a sign that says {{ conn.bfl_default.password }}"

    def test_takes_what_it_names_of_the_context(self, bfl: World) -> None:
        def say(ti: Any = None) -> str:
            return f"a fox for {ti.task_id}"

        def make() -> Any:
            with DAG("a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
                return bfl_task(say, task_id="generate")().operator

        run = TaskRun(make, store=TaskStateStore(), retries=3, evidence=bfl.evidence)
        run.attempt()
        assert run.record is not None
        assert run.record["request"] == {"prompt": "a fox for generate"}

    def test_is_the_only_one_to_give_the_prompt(self, bfl: World) -> None:
        with pytest.raises(BflConfigError, match="the function returns it"):
            decorated(bfl, Words(), prompt="a cat").make()


class TestAFunctionThatNeverSaysTheSameTwice:
    def test_is_called_once_over_deferral_retry_and_resume(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Words()
        run = decorated(bfl, words, deferrable=True)
        with monkeypatch.context() as patch:
            patch.setattr("airflow_provider_bfl.landing.files.FileStore.put", _no_space)
            with pytest.raises(BflStorageError):
                run.attempt()

        result = run.attempt()

        assert (words.calls, bfl.posts, result["reattached"]) == (1, 1, True)
        assert sidecar(bfl, result)["request"]["prompt"] == "a fox, number 1"

    def test_is_not_called_again_for_every_turn_in_the_queue(self, bfl: World) -> None:
        words = Words()
        bfl.simulator.fault("submit", status=429, times=3)
        run = decorated(bfl, words, deferrable=True)

        run.attempt()

        assert (words.calls, bfl.posts) == (1, 1)
        assert len(run.deferrals) >= 3

    def test_is_called_again_after_a_clear(self, bfl: World) -> None:
        words = Words()
        run = decorated(bfl, words)
        run.attempt()
        run.clear()

        run.attempt()

        assert (words.calls, bfl.posts) == (2, 2)

    def test_that_says_the_same_after_a_clear_pays_nothing(self, bfl: World) -> None:
        run = decorated(bfl, Words("a fox"))
        run.attempt()
        run.clear()

        assert run.attempt()["reattached"] is True
        assert bfl.posts == 1


class TestTheRecord:
    @pytest.mark.parametrize("extra", [{"webhook_url": "https://e.example/", "webhook_secret": "HUSHhushHUSH"}, {}])
    def test_keeps_no_secret_and_nothing_large(self, bfl: World, extra: dict[str, str]) -> None:
        fields = {"prompt": "a fox " * (1 if extra else 6000)} | extra
        run = decorated(bfl, Words(fields), wait_for_completion=False, destination=None)

        run.attempt()

        assert run.record is not None
        assert run.record["request"] is None
        assert "HUSH" not in str(run.record)
        assert run.attempt()["reattached"] is True

    def test_keeps_no_prompt_where_none_may_be_recorded(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__RECORD_PROMPTS", "False")
        run = decorated(bfl, Words("a CANARY"), deferrable=True)

        result = run.attempt()

        assert result["status"] == "Ready"
        assert "CANARY" not in str(run.record)

    def test_of_a_plain_task_keeps_no_request(self, bfl: World) -> None:
        run = bfl.generation(prompt="a CANARY")
        run.attempt()
        assert "CANARY" not in str(run.record)


class TestAMappedTask:
    def test_is_one_generation_for_each_argument(self) -> None:
        def say(subject: str) -> str:
            return f"a {subject}"

        with DAG("a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
            bfl_task(say, model="flux-2-klein-4b").expand(subject=["fox", "owl"])

        mapped: Any = dag.get_task("say")
        assert type(mapped).__name__ == "DecoratedMappedOperator"
        assert mapped.partial_kwargs["model"] == "flux-2-klein-4b"


class TestAirflow:
    def test_is_told_of_the_decorator(self) -> None:
        (declared,) = get_provider_info()["task-decorators"]
        assert declared == {"name": "bfl", "class-name": "airflow_provider_bfl.decorators.bfl.bfl_task"}


def _no_space(*_: Any, **__: Any) -> None:
    from airflow_provider_bfl.landing.store import StoreFaultError

    raise StoreFaultError("no space left", permanent=True)
