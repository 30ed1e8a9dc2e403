# SPDX-License-Identifier: Apache-2.0
"""What is refused before it is sent, and what is sent although nobody knows it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from airflow_provider_bfl.exceptions import (
    BflConfigError,
    BflInsufficientCreditsError,
    BflRequestRejectedError,
    BflValidationError,
)
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from tests.airflow_fixtures import LogRecorder, World

MISTAKES = [
    ("flux-2-pro", {"aspect_ratio": "16:9"}, "use width and height"),
    ("flux-2-pro", {"widht": 1024}, "Did you mean width?"),
    ("flux-2-pro", {"safety_tolerance": 6}, "from 0 to 5"),
    ("flux-dev", {"width": 1000}, "nearest: 992"),
]


class TestAMistakeIsRefusedBeforeItIsPaid:
    @pytest.mark.parametrize(("model", "parameters", "advice"), MISTAKES)
    def test_with_the_nearest_right_name_or_value(
        self, bfl: World, model: str, parameters: dict[str, Any], advice: str
    ) -> None:
        with pytest.raises(BflValidationError, match="nothing was billed") as refused:
            bfl.generation(model=model, parameters=parameters).attempt()

        assert advice in str(refused.value)
        assert bfl.posts_received == 0

    def test_all_problems_are_told_at_once(self, bfl: World) -> None:
        with pytest.raises(BflValidationError, match=r"\(1\) .*widht.* \(2\) .*safety_tolerance"):
            bfl.generation(parameters={"widht": 1, "safety_tolerance": 6}).attempt()

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"prompt": "  \n"}, "prompt is blank"),
            ({"prompt": "a fox", "parameters": {"prompt": "another"}}, "prompt is given twice"),
            ({"prompt": 7}, "prompt is a int"),
            ({"parameters": '{"width": 1024}'}, "parameters is a str"),
            ({"parameters": ["width"]}, "parameters is a list"),
            ({"parameters": {"input_image": b"bytes"}}, "bytes is not JSON"),
            ({"parameters": {"seed": float("nan")}}, "what JSON cannot"),
            ({"model": "not-in-the-catalogue", "parameters": {"since": date(2026, 1, 1)}}, "what JSON cannot"),
        ],
    )
    def test_what_a_template_may_have_made_of_it(self, bfl: World, arguments: dict[str, Any], told: str) -> None:
        with pytest.raises(BflValidationError, match=told):
            bfl.generation(**arguments).attempt()

        assert bfl.posts_received == 0

    def test_no_record_is_left_so_that_the_next_attempt_is_a_first_one(self, bfl: World) -> None:
        run = bfl.generation(parameters={"widht": 1024})
        with pytest.raises(BflValidationError):
            run.attempt()

        assert run.record is None


class TestValidationIsTheUsersChoice:
    def test_warn_sends_it_all_the_same_with_the_problems_in_the_log(self, bfl: World, log: LogRecorder) -> None:
        bfl.generation(validation="warn", parameters={"widht": 1024}).attempt()

        (warning,) = log.about("has problems")
        assert "Did you mean width?" in warning
        assert bfl.simulator.ledger.tasks[0].request["widht"] == 1024

    def test_off_says_nothing(self, bfl: World, log: LogRecorder) -> None:
        bfl.generation(validation="off", parameters={"widht": 1024}).attempt()

        assert log.about("widht") == []
        assert bfl.posts == 1

    def test_off_leaves_the_judgement_to_bfl(self, bfl: World) -> None:
        with pytest.raises(BflRequestRejectedError, match=r"422: safety_tolerance.*Nothing was billed"):
            bfl.generation(validation="off", parameters={"safety_tolerance": 99}).attempt()

        assert (bfl.posts, bfl.posts_received) == (0, 1)

    def test_an_unknown_model_is_sent_as_it_is_with_one_warning(self, bfl: World, log: LogRecorder) -> None:
        with pytest.raises(BflRequestRejectedError, match="404"):
            bfl.generation(model="flux-2-prro", parameters={"anything": 1}).attempt()

        (warning,) = log.about("catalogue")
        assert "'flux-2-pro'" in warning
        (request,) = bfl.simulator.ledger.of_role("submit")
        assert request.path == "/v1/flux-2-prro"


class TestArgumentsAreCheckedWhenTheDagIsParsed:
    @pytest.mark.parametrize(
        "argument",
        ["on_moderated", "on_ambiguous_submit", "on_stale_state", "if_exists", "validation"],
    )
    def test_a_word_that_is_none_of_the_choices(self, argument: str) -> None:
        arguments: dict[str, Any] = {argument: "perhaps"}

        with pytest.raises(BflConfigError, match=f"generate: {argument}='perhaps' is not one of '"):
            BflGenerationOperator(task_id="generate", **arguments)

    def test_a_destination_without_waiting(self) -> None:
        with pytest.raises(BflConfigError, match="destination needs wait_for_completion"):
            BflGenerationOperator(task_id="generate", destination="file:///tmp/")


class TestMinCredits:
    def test_too_few_fail_before_the_post(self, bfl: World) -> None:
        bfl.simulator.set_credits(3)

        with pytest.raises(BflInsufficientCreditsError, match=r"has 3 credits.*at least 10 .*Nothing was submitted"):
            bfl.generation(min_credits=10).attempt()

        assert bfl.posts_received == 0

    def test_enough_do_not_hinder(self, bfl: World) -> None:
        bfl.generation(min_credits=10).attempt()

        assert bfl.posts == 1

    def test_a_paid_generation_lands_however_little_is_left(self, bfl: World) -> None:
        run = bfl.generation(min_credits=10)
        run.attempt()
        bfl.simulator.set_credits(0)

        assert run.attempt()["reattached"] is True


class TestADestinationThatCannotBeRightIsRefusedBeforeThePost:
    @pytest.mark.parametrize(
        ("destination", "parameters", "told"),
        [
            ("file:///tmp/cat.png", {}, "BFL will deliver jpeg"),
            ("file:///tmp/cat.jpg", {"output_format": "png"}, "BFL will deliver png"),
            ("file:///tmp/../etc/cat.jpg", {}, r"'\.\.'"),
            ("/tmp/cat.jpg", {}, "no scheme"),
            ("s3://nowhere@bucket/cat.jpg", {}, "no connection"),
        ],
    )
    def test_refused(self, bfl: World, destination: str, parameters: dict[str, Any], told: str) -> None:
        with pytest.raises(BflConfigError, match=told):
            bfl.generation(destination=destination, parameters=parameters).attempt()

        assert bfl.posts_received == 0

    @pytest.mark.parametrize("name", ["cat.JPG", "cat.jpeg", "cat", "cat.picture"])
    def test_a_name_that_does_not_contradict_the_format_is_taken(self, bfl: World, name: str) -> None:
        result = bfl.generation(destination=f"{bfl.destination}{name}").attempt()

        assert result["uri"] == f"{bfl.destination}{name}"
