# SPDX-License-Identifier: Apache-2.0
"""What downstream tasks get: small, JSON, without a signed URL, a key or an image."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.landing.preview import PREVIEW_KEY
from tests.airflow_fixtures import LogRecorder, World

SUBMIT_KEYS = {
    "id",
    "polling_url",
    "model",
    "region",
    "cost",
    "input_mp",
    "output_mp",
    "submitted_at",
    "reattached",
    "possibly_billed_twice",
}
LANDED_KEYS = {
    "id",
    "model",
    "status",
    "seed",
    "cost",
    "uri",
    "content_type",
    "size",
    "sha256",
    "sidecar_uri",
    "submitted_at",
    "ready_at",
    "landed_at",
    "url_age_seconds",
    "reattached",
    "possibly_billed_twice",
}


def xcom_bytes(run: Any) -> int:
    return max(len(json.dumps(value)) for key, value in run.xcom.items() if key != PREVIEW_KEY)


class TestTheSubmitResult:
    def test_is_returned_and_every_key_of_it_is_an_xcom_of_its_own(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None)

        result = run.attempt()

        assert set(result) == SUBMIT_KEYS
        assert {key: run.xcom.get(key) for key in SUBMIT_KEYS} == result
        assert xcom_bytes(run) < 4096

    def test_tells_what_bfl_answered(self, bfl: World) -> None:
        result = bfl.submit(parameters={"width": 1024, "height": 1024})

        (task,) = bfl.simulator.ledger.tasks
        assert (result["id"], result["model"], result["region"]) == (task.id, "flux-2-pro", "global")
        assert (result["cost"], result["output_mp"]) == (task.cost, 1.0)
        assert result["polling_url"].endswith(f"/v1/get_result?id={task.id}")
        assert abs(datetime.fromisoformat(result["submitted_at"]).timestamp() - task.submitted_at) < 5

    def test_is_there_before_the_deferral_so_that_links_work_meanwhile(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        seen: dict[str, Any] = {}
        run.on_deferral = lambda deferral: seen.update(run.xcom)

        run.attempt()

        assert set(seen) >= SUBMIT_KEYS

    def test_is_not_pushed_where_xcom_is_not_wanted(self, bfl: World) -> None:
        run = bfl.generation(do_xcom_push=False)

        run.attempt()

        assert set(run.xcom) <= {"return_value"}


class TestTheResultOfAWait:
    def test_without_a_destination_is_the_ending(self, bfl: World, deferrable: bool) -> None:
        result = bfl.generation(deferrable=deferrable, destination=None).attempt()

        (task,) = bfl.simulator.ledger.tasks
        assert result == {"id": task.id, "status": "Ready", "seed": task.seed, "cost": task.cost}

    def test_with_a_destination_is_the_landed_result(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)

        result = run.attempt()

        assert set(result) == LANDED_KEYS
        assert result["submitted_at"] <= result["landed_at"]
        assert result["sidecar_uri"] == f"{result['uri']}.json"
        assert Path(f"{bfl.path_of(result)}.json").exists()
        assert xcom_bytes(run) < 4096


class TestAWebhook:
    REQUEST: ClassVar[dict[str, str]] = {
        "webhook_url": "https://example.com/hook",
        "webhook_secret": "HUSHhushHUSHhush",
    }

    def test_has_no_polling_url(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None, parameters=self.REQUEST)

        result = run.attempt()

        assert result["polling_url"] is None
        assert "polling_url" not in run.xcom, "a pull gives None all the same"
        assert bfl.posts == 1

    def test_is_not_submitted_again_by_a_retry(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None, parameters=self.REQUEST)
        first = run.attempt()

        assert run.attempt() == {**first, "reattached": True}
        assert bfl.posts == 1

    def test_cannot_be_waited_for(self, bfl: World) -> None:
        with pytest.raises(BflConfigError, match=r"webhook_url.*Nothing was sent"):
            bfl.generation(parameters=self.REQUEST).attempt()

        assert bfl.posts_received == 0

    @pytest.mark.parametrize("refusal", [None, 422, 500])
    def test_its_secret_is_nowhere(self, bfl: World, log: LogRecorder, refusal: int | None) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None, parameters=self.REQUEST)
        if refusal:
            echo = [{"loc": ["body"], "msg": "no", "input": self.REQUEST}]
            bfl.simulator.fault("submit", status=refusal, body={"detail": echo})
            with pytest.raises(Exception, match=str(refusal)):
                run.attempt()
        else:
            run.attempt()

        assert self.REQUEST["webhook_secret"] not in str([run.store.values, run.xcom, bfl.evidence, log.messages()])

    def test_its_secret_is_masked_in_rendered_fields_and_logs(self, bfl: World) -> None:
        from airflow.providers.common.compat.sdk import redact

        run = bfl.generation(wait_for_completion=False, destination=None, parameters=self.REQUEST)
        run.attempt()

        (operator,) = run.operators
        rendered = {name: getattr(operator, name) for name in operator.template_fields}
        assert self.REQUEST["webhook_secret"] not in str(redact(rendered))
        assert self.REQUEST["webhook_secret"] not in str(redact(f"sent {self.REQUEST['webhook_secret']!r}"))

    def test_its_secret_does_not_change_which_generation_a_retry_finds(self, bfl: World) -> None:
        parameters = dict(self.REQUEST)
        run = bfl.generation(wait_for_completion=False, destination=None, parameters=parameters)
        run.attempt()
        parameters["webhook_secret"] = "rotated-rotated"

        assert run.attempt()["reattached"] is True
        assert bfl.posts == 1
